"""DCCM (Wu et al. 2019): a network supervised by its own confident assignments, of pairs, of images and of features.

    W_ij = 1[cos(p_i, p_j) >= 0.95] of the plain images p;  p' those of a random view
    loss = BCE(cos(p, p) / max, W) + BCE(cos(p', p') / max, W)
         + 5 * mean over max p_i >= 0.9 of [BCE(p_i, one-hot) + BCE(p'_i, one-hot)]
         + 0.05 * JSD over the pairs (deep_i, shallow_j), positive where W_ij, negative elsewhere

The shallow features are those of the encoder's first block; of an encoder without blocks, its input.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from connr.clustering.assigners import Assigner, Head
from connr.losses import confident_pairs, jensen_shannon, label_cross_entropy, pair_cross_entropy
from connr.losses.precision import upcast
from connr.methods.method import Batch, Context, Method, Phase, Setup, StepOutput, View
from connr.recipe.plugins import MethodConfig
from connr.recipe.section import Fraction, NonNegative, Width
from connr.registry import METHODS


class DCCMConfig(MethodConfig):
    """The thresholds of pairs and labels, the weights of the terms; widths of shallow features and of the discriminator."""

    name: Literal["dccm"] = "dccm"
    pair_threshold: Fraction = 0.95
    label_threshold: Fraction = 0.9
    label_weight: NonNegative = 5.0
    information_weight: NonNegative = 0.05
    shallow: Width = 256
    hidden: Width = 256


@METHODS.register("dccm")
class DCCM(Method):
    """An encoder, a head of a linear layer with BatchNorm, and a discriminator of deep and shallow features."""

    Config = DCCMConfig

    def __init__(self, config: DCCMConfig, setup: Setup) -> None:
        super().__init__()
        self.config, self.n_clusters = config, setup.n_clusters
        self.encoder = setup.encoder
        self.head = nn.Sequential(nn.Linear(setup.width, setup.n_clusters), nn.BatchNorm1d(setup.n_clusters))
        self.discriminator = Discriminator(setup.width, config.shallow, config.hidden)

    def phases(self) -> Sequence[Phase]:
        return [Phase("cluster", views={"plain": View("plain"), "random": View()})]

    def training_step(self, batch: Batch, context: Context) -> StepOutput:
        c = self.config
        with context.autocast():
            deep, shallow = self._deep_and_shallow(batch.views["plain"])
            other = self.encoder(batch.views["random"])
        deep, shallow, other = (upcast(each) for each in (deep, shallow, other))
        p, q = (context.gather(self.head(each).softmax(dim=1)) for each in (deep, other))
        similar = confident_pairs(p.detach(), c.pair_threshold)
        pairs = pair_cross_entropy(p, p, similar) + pair_cross_entropy(q, q, similar)
        reference = p.detach()
        labels = sum(label_cross_entropy(each, reference, c.label_threshold) for each in (p, q))
        scores = self.discriminator(context.gather(deep), context.gather(shallow))
        information = jensen_shannon(scores, similar)
        metrics = {
            "pair_loss": pairs.detach(),
            "information_loss": information.detach(),
            "labelled": (reference.amax(dim=1) >= c.label_threshold).float().mean(),
        }
        return StepOutput(pairs + c.label_weight * labels + c.information_weight * information, metrics)

    def _deep_and_shallow(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's features (b width), and the pooled ones (b shallow) of its first block."""
        block = first_block(self.encoder)
        if block is None:
            return self.encoder(images), pooled(images, self.config.shallow)
        found: list[Tensor] = []
        hook = block.register_forward_hook(lambda *outcome: found.append(outcome[-1]))
        try:
            deep = self.encoder(images)
        finally:
            hook.remove()
        return deep, pooled(found[0], self.config.shallow)

    def features(self) -> nn.Module:
        return self.encoder

    def assigner(self) -> Assigner:
        return Head(self.head, self.n_clusters)

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        parts = {"encoder": [self.encoder], "head": [self.head, self.discriminator]}
        return {role: [parameter for part in each for parameter in part.parameters()] for role, each in parts.items()}

    def networks(self) -> Sequence[nn.Module]:
        return [self.head]  # a compiled encoder would not call the hook


class Discriminator(nn.Module):
    """Deep (b d) and shallow (b m) features to the scores (b b) of all pairs: one hidden layer on both of them together."""

    def __init__(self, deep: int, shallow: int, hidden: int) -> None:
        super().__init__()
        self.deep, self.shallow = nn.Linear(deep, hidden), nn.Linear(shallow, hidden, bias=False)
        self.score = nn.Linear(hidden, 1)

    def forward(self, deep: Float[Tensor, "b d"], shallow: Float[Tensor, "b m"]) -> Float[Tensor, "b b"]:
        scores: Tensor = self.score((self.deep(deep).unsqueeze(1) + self.shallow(shallow)).relu())
        return scores.squeeze(2)


def first_block(encoder: nn.Module) -> nn.Module | None:
    """The first child that has children of its own: a stage or block of a ResNet; None where there is none."""
    return next((child for child in encoder.children() if next(child.children(), None) is not None), None)


def pooled(maps: Float[Tensor, "b ..."], size: int) -> Float[Tensor, "b m"]:
    """The values of each image split into `size` equal runs, padded with zeros; the mean of each run."""
    rows = maps.flatten(1)
    runs: Tensor = F.pad(rows, (0, -rows.shape[1] % size)).unflatten(1, (size, -1))
    return runs.mean(dim=2)
