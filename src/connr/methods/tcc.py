"""TCC (Shen et al. 2021), rebuilt from the paper's idea only: no public code exists, and the details are ours.

    clusters    r_k = normalised sum_i pi_ik v_i;  r_k against its other view, the other clusters and a queue of them
    images      c_i a Gumbel-softmax sample of pi_i,  e_i = normalised(v_i + phi(c_i));  InfoNCE(e_i, e'_i) + KL(pi_i || pi'_i)

' is the other view under a moving average of the network. The queues hold r' and e' of earlier steps.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from connr.clustering.assigners import Assigner, Head
from connr.losses import (
    assignment_divergence,
    cluster_contrast,
    cluster_embeddings,
    in_context,
    info_nce,
    normalize_rows,
    relaxed_assignment,
)
from connr.losses.precision import clamped_log, upcast
from connr.methods.method import Batch, Context, Method, Phase, Setup, StepOutput, move_towards
from connr.methods.noise import Noise
from connr.networks.heads import mlp
from connr.recipe.plugins import MethodConfig
from connr.recipe.section import Count, NonNegative, Positive, Share, Width
from connr.registry import METHODS


class TCCConfig(MethodConfig):
    """Widths of the projector, images and steps in the queues, temperatures, momentum of the copy, weights of the terms."""

    name: Literal["tcc"] = "tcc"
    hidden: Width = 512
    out: Width = 128
    queue: Count = 4096
    cluster_queue: Count = 64
    temperature: Positive = 0.5
    cluster_temperature: Positive = 0.5
    gumbel_temperature: Positive = 1.0
    target_momentum: Share = 0.996
    instance_weight: NonNegative = 1.0
    divergence_weight: NonNegative = 1.0


@METHODS.register("tcc")
class TCC(Method):
    """An encoder, a projector, a cluster head, an embedding of assignments; a moving average of all; two queues."""

    Config = TCCConfig
    queue: Tensor
    cluster_queue: Tensor
    steps: Tensor

    def __init__(self, config: TCCConfig, setup: Setup) -> None:
        super().__init__()
        self.config, self.n_clusters = config, setup.n_clusters
        self.online = Networks(config, setup)
        self.target = deepcopy(self.online).requires_grad_(False)
        self.register_buffer("queue", normalize_rows(torch.randn(config.queue, config.out)))
        rows = config.cluster_queue * setup.n_clusters  # row r is of cluster r modulo K
        self.register_buffer("cluster_queue", normalize_rows(torch.randn(rows, config.out)))
        self.register_buffer("steps", torch.zeros(2, dtype=torch.int64))  # where the next rows go, of each queue
        self.noise = Noise()
        self._new: tuple[Tensor, Tensor] | None = None  # clusters and images of the step under way

    def phases(self) -> Sequence[Phase]:
        return [Phase("contrast")]

    def training_step(self, batch: Batch, context: Context) -> StepOutput:
        c = self.config
        with context.autocast():
            found = self.online(batch.views["one"])
            with torch.no_grad():
                wanted = self.target(batch.views["other"])
        p, v, q, w = (context.gather(upcast(each)) for each in (*found, *wanted))
        r, e = cluster_embeddings(p, v), in_context(v, self.online.context(self._sample(p)))
        with torch.no_grad():
            r_other, e_other = cluster_embeddings(q, w), in_context(w, self.target.context(self._sample(q)))
        owners = torch.arange(len(self.cluster_queue), device=p.device) % self.n_clusters
        own = owners == torch.arange(self.n_clusters, device=p.device).unsqueeze(1)
        clusters = cluster_contrast(r, r_other, self.cluster_queue, c.cluster_temperature, ignored=own)
        images = info_nce(e, e_other.unsqueeze(1), self.queue, c.temperature).mean()
        divergence = assignment_divergence(p, q)
        self._new = r_other, e_other
        metrics = {"cluster_loss": clusters.detach(), "instance_loss": images.detach(), "divergence": divergence.detach()}
        return StepOutput(clusters + c.instance_weight * images + c.divergence_weight * divergence, metrics)

    def _sample(self, assignments: Float[Tensor, "b K"]) -> Float[Tensor, "b K"]:
        gumbel = -clamped_log(-clamped_log(self.noise.uniform(assignments.shape, assignments)))
        return relaxed_assignment(assignments, gumbel, self.config.gumbel_temperature)

    def after_step(self, progress: float) -> None:
        """The copy follows the network; both queues take the rows of the step in place of the oldest."""
        assert self._new is not None  # `training_step` came before
        move_towards(self.target, self.online, self.config.target_momentum)
        for kind, (queue, new) in enumerate(zip((self.cluster_queue, self.queue), self._new, strict=True)):
            new = new[-len(queue) :]
            places = (self.steps[kind] + torch.arange(len(new), device=new.device)) % len(queue)
            queue[places] = new.to(queue)
            self.steps[kind] = (self.steps[kind] + len(new)) % len(queue)
        self._new = None

    def features(self) -> nn.Module:
        return self.online.encoder

    def assigner(self) -> Assigner:
        return Head(self.online.head, self.n_clusters)

    def networks(self) -> Sequence[nn.Module]:
        return [self.online, self.target]

    @property
    def backbone(self) -> nn.Module:
        return self.online.encoder

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        return {"encoder": list(self.online.parameters())}


class Networks(nn.Module):
    """Images to assignments pi (b K) and embeddings v (b out); `context` is phi, assignments to embeddings."""

    def __init__(self, config: TCCConfig, setup: Setup) -> None:
        super().__init__()
        self.encoder, self.head = setup.encoder, nn.Linear(setup.width, setup.n_clusters)
        self.projector = mlp(setup.width, config.hidden, config.out)
        self.context = nn.Linear(setup.n_clusters, config.out)

    def forward(self, images: Float[Tensor, "b ..."]) -> tuple[Float[Tensor, "b K"], Float[Tensor, "b d"]]:
        features = self.encoder(images)
        return self.head(features).softmax(dim=1), self.projector(features)
