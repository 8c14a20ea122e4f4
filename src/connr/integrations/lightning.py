"""A Lightning callback: k-means on the target features before every epoch of stage 2, for the module's criterion.

The module calls a `TwoStageLoss` in its training step and has a method `target_features`; `examples/lightning_byol.py` is one.
"""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader, SequentialSampler

from connr.errors import InputError
from connr.integrations.embeddings import extract
from connr.integrations.two_stages import TwoStageLoss


class ConNRCallback(Callback):
    """Keeps `criterion` supplied, and logs `connr/kept` and `connr/inertia` after every epoch of stage 2.

    On several ranks each one clusters all images, to the same clusters, and seeks neighbours in its own batch.

    Args:
        criterion: the `TwoStageLoss` that the module's training step calls.
        images: a loader of all images, un-augmented, in the order of their indices; a batch is the images or begins with them.

    Raises:
        InputError: the loader shuffles or leaves images out, or the module has no `target_features(images) -> (b d)`.
    """

    def __init__(self, criterion: TwoStageLoss, images: DataLoader[Any]) -> None:
        if images.drop_last or not isinstance(images.sampler, SequentialSampler):
            raise InputError("the loader of ConNRCallback should give every image in order: shuffle=False, drop_last=False.")
        self.criterion, self.images = criterion, images

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not callable(getattr(pl_module, "target_features", None)):
            raise InputError(f"{type(pl_module).__name__} needs a method target_features(images) -> projections (b d).")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        project: Any = pl_module.target_features
        self.criterion.begin(trainer.current_epoch, lambda: extract(project, self.images, pl_module, pl_module.device))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.criterion.clusters:
            pl_module.log("connr/inertia", self.criterion.clusters.inertia)
            pl_module.log("connr/kept", self.criterion.kept)
