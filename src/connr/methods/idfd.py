"""IDFD (Tao et al. 2021): every image a class of its own, and features that do not repeat one another.

    loss = CE(z M^T / tau, own index) + weight * CE over pairs of feature columns (cosines / tau_f, itself)

M holds a unit vector for every image, a moving mean of its embeddings z. k-means on the embeddings gives the clusters.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from connr.losses import feature_decorrelation, instance_discrimination, normalize_rows
from connr.methods.method import Batch, Context, Method, Phase, Setup, StepOutput, View
from connr.recipe.plugins import MethodConfig
from connr.recipe.section import NonNegative, Positive, Share, Width
from connr.registry import METHODS


class IDFDConfig(MethodConfig):
    """The width of the embedding, the temperatures of images and of features, the memory's momentum, the second weight."""

    name: Literal["idfd"] = "idfd"
    out: Width = 128
    temperature: Positive = 1.0
    feature_temperature: Positive = 2.0
    momentum: Share = 0.5
    weight: NonNegative = 1.0


@METHODS.register("idfd")
class IDFD(Method):
    """An encoder, a linear layer, and a memory by image index."""

    Config = IDFDConfig
    memory: Tensor

    def __init__(self, config: IDFDConfig, setup: Setup) -> None:
        super().__init__()
        self.config = config
        self.encoder = setup.encoder
        self.projector = nn.Linear(setup.width, config.out)
        self.register_buffer("memory", normalize_rows(torch.randn(setup.n_images, config.out)))
        self._new: tuple[Tensor, Tensor] | None = None  # embeddings and indices of the step under way

    def phases(self) -> Sequence[Phase]:
        return [Phase("discriminate", views={"one": View()})]

    def training_step(self, batch: Batch, context: Context) -> StepOutput:
        with context.autocast():
            embeddings = self.projector(self.encoder(batch.views["one"]))
        z, indices = context.gather(normalize_rows(embeddings)), context.collect(batch.indices)
        self._new = z.detach(), indices
        instances = instance_discrimination(z, self.memory.to(z.dtype), indices, self.config.temperature)
        features = feature_decorrelation(z, self.config.feature_temperature)
        metrics = {"instance_loss": instances.detach(), "feature_loss": features.detach()}
        return StepOutput(instances + self.config.weight * features, metrics)

    def after_step(self, progress: float) -> None:
        """The memory of the batch's images moves to their embeddings."""
        assert self._new is not None  # `training_step` came before
        z, indices = self._new
        kept = self.config.momentum
        self.memory[indices] = normalize_rows(kept * self.memory[indices] + (1 - kept) * z.to(self.memory.dtype))
        self._new = None

    def features(self) -> nn.Module:
        return nn.Sequential(self.encoder, self.projector)

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        return {"encoder": [*self.encoder.parameters(), *self.projector.parameters()]}
