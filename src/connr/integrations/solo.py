"""ConNR as a method of solo-learn: `register(...)` adds `connr_byol` to `solo.methods.METHODS`.

It is solo-learn's BYOL with another loss. Its loaders give views and indices but no plain images, so what is clustered is
each image's latest target projection, as solo-learn's DeepCluster does it.
Of solo-learn it uses what 1.0.2 and its newer main branch share: BYOL's projector, predictor, momentum_projector, the batch
(indices, views, labels), and the outputs of the base method's training step.
"""

from typing import Any

import torch
from torch import Tensor

from connr.errors import InputError
from connr.integrations.two_stages import TwoStageLoss

NAME = "connr_byol"


def register(n_clusters: int, start: int, end: int, **settings: Any) -> type:
    """Makes the method and adds it to solo-learn's table under `connr_byol`, to be chosen like its own.

    Args:
        n_clusters, start, end, settings: of `TwoStageLoss`; `end` is solo-learn's max_epochs, `start` at least 1.

    Returns:
        the class, which takes what solo-learn's BYOL takes.

    Raises:
        InputError: solo-learn is not installed, or a setting is out of its range.
    """
    try:
        from solo.methods import BYOL, METHODS
    except ImportError as fault:
        raise InputError(f"solo-learn cannot be imported ({fault}); see its own page for how to install it.") from fault
    if start < 1:
        raise InputError(f"start={start} should be at least 1: the first epoch gives the features that are clustered.")
    TwoStageLoss(n_clusters, start, end, **settings)  # refused here, before any data is opened

    class ConNRBYOL(BYOL):
        """BYOL until epoch `start`, from then on with neighbours (Eq. 15)."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.criterion = TwoStageLoss(n_clusters, start, end, **settings)
            self.latest: Tensor | None = None  # (n d), NaN where an image has not been met

        def on_train_epoch_start(self) -> None:
            super().on_train_epoch_start()
            if self.trainer.world_size > 1:
                raise InputError(
                    f"connr_byol runs on one device, not on {self.trainer.world_size}: an image's features are there."
                )
            self.criterion.begin(self.current_epoch, self._features)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            outputs = super(BYOL, self).training_step(batch, batch_idx)  # BYOL's own would add its loss
            indices = batch[0]
            queries = outputs["p"] if "p" in outputs else [self.predictor(self.projector(f)) for f in outputs["feats"]]
            with torch.no_grad():
                keys = outputs.get("momentum_z") or [self.momentum_projector(f) for f in outputs["momentum_feats"]]
            loss = self.criterion(queries[0], keys[1], indices) + self.criterion(queries[1], keys[0], indices)
            self._remember(indices, keys[0])
            self.log_dict({"train_connr_loss": loss, "train_connr_kept": self.criterion.kept}, on_epoch=True, sync_dist=True)
            total: Tensor = loss + outputs["loss"]
            return total

        def _remember(self, indices: Tensor, keys: Tensor) -> None:
            if self.latest is None:
                n = len(self.trainer.train_dataloader.dataset)
                self.latest = keys.new_full((n, keys.shape[1]), torch.nan)
            self.latest[indices] = keys

        def _features(self) -> Tensor:
            if self.latest is None:
                raise InputError(
                    "there are no features to cluster yet; train from an epoch before `start`, or its checkpoint."
                )
            unmet = self.latest.isnan().any(dim=1, keepdim=True)  # by chance, where a loader drops its last batch
            return torch.where(unmet, self.latest[~unmet.squeeze(1)].mean(dim=0), self.latest)

        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            super().on_save_checkpoint(checkpoint)
            checkpoint["connr_latest"] = self.latest

        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            super().on_load_checkpoint(checkpoint)
            latest = checkpoint["connr_latest"]
            self.latest = None if latest is None else latest.to(self.device)

    METHODS[NAME] = ConNRBYOL
    return ConNRBYOL
