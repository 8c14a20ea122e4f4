"""NNM (Dang et al. 2021): an image is matched with neighbours in the batch and in the whole set. The paper calls it NMM.

    m(p, n)   = mean of -ln <p_i, n_i> + cross-entropy of the columns of p against those of n
    pretext   NT-Xent between two views, as SCAN's
    match     m(p, n) + m(p', p_j) + m(p, s) + m(p', s) - weight * H(mean p)

p, p' are the assignments of an image and of another view of it; p_j those of the image's nearest in the batch, by features;
n those of a view of a random one of its nearest in the whole set, s what the bank holds of that one. There are several heads,
each with these terms; the one of least loss assigns.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from connr.clustering.assigners import Assigner, Head
from connr.losses import mean_entropy, neighbour_matching, normalize_rows, nt_xent
from connr.losses.precision import upcast
from connr.methods.method import Batch, Context, Method, Needs, Optimizer, Phase, Setup, StepOutput, View
from connr.methods.scan import others
from connr.networks.heads import mlp
from connr.recipe.plugins import MethodConfig
from connr.recipe.section import Count, NonNegative, Positive, Share, Width
from connr.registry import METHODS


class NNMConfig(MethodConfig):
    """`pretext`: its share of the epochs. `lr` (Adam) and `batch`: of the second phase; the first has the recipe's.

    `hidden`, `out`, `temperature`: of the pretext. `heads`, `neighbours`, `entropy`: of the second phase.
    """

    name: Literal["nnm"] = "nnm"
    hidden: Width = 512
    out: Width = 128
    temperature: Positive = 0.1
    pretext: Share = 5 / 6
    heads: Annotated[int, Field(ge=1, le=100)] = 3
    neighbours: Count = 20
    entropy: NonNegative = 5.0
    lr: Positive = 1e-4
    batch: Annotated[int, Field(ge=2, le=2**20)] = 200


@METHODS.register("nnm")
class NNM(Method):
    """An encoder with a projector for the pretext, linear heads, and a bank of assignments by image index."""

    Config = NNMConfig
    bank: Tensor
    losses: Tensor

    def __init__(self, config: NNMConfig, setup: Setup) -> None:
        super().__init__()
        self.config, self.n_clusters, self.n_images = config, setup.n_clusters, setup.n_images
        self.encoder = setup.encoder
        self.projector = mlp(setup.width, config.hidden, config.out, batch_norm=False)
        self.heads = nn.ModuleList(nn.Linear(setup.width, setup.n_clusters) for _ in range(config.heads))
        unknown = torch.full((config.heads, setup.n_images, setup.n_clusters), 1 / setup.n_clusters)
        self.register_buffer("bank", unknown)
        self.register_buffer("losses", torch.zeros(config.heads))  # of each head, a moving mean
        self._new: tuple[Tensor, Tensor] | None = None  # indices and assignments of the step under way

    def phases(self) -> Sequence[Phase]:
        c = self.config
        views = {"anchor": View("weak"), "augmented": View(), "near": View("weak", of="neighbour")}
        k = min(c.neighbours, max(1, self.n_images - 1))
        return [
            Phase("pretext", c.pretext, lr_factors={"head": 0}),
            Phase(
                "match",
                1 - c.pretext,
                views=views,
                needs=Needs(neighbours=partial(others, k=k), every=0),
                optimizer=Optimizer("adam", c.lr, weight_decay=1e-4),
                lr_factors={"projector": 0},
                batch_size=c.batch,
            ),
        ]

    def training_step(self, batch: Batch, context: Context) -> StepOutput:
        pretext = context.phase == "pretext"
        with context.autocast():
            features = [self.encoder(view) for view in batch.views.values()]
            features = [self.projector(each) for each in features] if pretext else features
        features = [context.gather(upcast(each)) for each in features]
        if pretext:
            return StepOutput(nt_xent(features[0], features[1], self.config.temperature))
        assert batch.neighbours is not None  # a view is of neighbours
        in_batch = others(normalize_rows(features[0].detach()), 1).squeeze(1)
        stored = self.bank[:, context.collect(batch.neighbours)]
        losses, entropies, found = [], [], []
        for head, known in zip(self.heads, stored, strict=True):
            anchor, augmented, near = (head(each).softmax(dim=1) for each in features)
            pairs = (anchor, near), (augmented, anchor[in_batch]), (anchor, known), (augmented, known)
            entropies.append(mean_entropy(anchor))
            matching = torch.stack([neighbour_matching(*pair) for pair in pairs]).sum()
            losses.append(matching - self.config.entropy * entropies[-1])
            found.append(anchor.detach())
        each = torch.stack(losses)
        self._new = context.collect(batch.indices), torch.stack(found)
        self.losses.lerp_(each.detach().to(self.losses), 0.05)
        return StepOutput(each.mean(), {"entropy": torch.stack(entropies).detach().mean()})

    def after_step(self, progress: float) -> None:
        """The bank takes the assignments of the batch's images."""
        if self._new is not None:
            indices, assignments = self._new
            self.bank[:, indices] = assignments.to(self.bank)
        self._new = None

    def features(self) -> nn.Module:
        return self.encoder

    def assigner(self) -> Assigner:
        return Head(self.heads[int(self.losses.argmin())], self.n_clusters)

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        parts = {"encoder": self.encoder, "projector": self.projector, "head": self.heads}
        return {role: list(part.parameters()) for role, part in parts.items()}
