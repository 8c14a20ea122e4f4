"""MiCE (Tsai et al. 2021): a mixture of K contrastive experts, trained by expectation-maximisation.

    gate      pi_k ~ exp(w_k . g / kappa)
    expert    phi_k = softmax over the other view and a queue of exp(v_k . (f_k + mu_k) / tau)
    E-step    q_k ~ pi_k phi_k, which also assigns
    M-step    -E_q[ln pi + ln phi - ln q]

f, g are of the student, v of the teacher, its moving average, each of a view of its own. The gate vectors w are as far apart
as K directions can be, and fixed. The prototypes mu are trained, and before each epoch become the mean v_k of their images.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from connr.clustering.assigners import Assigner
from connr.clustering.mixture import Mixture, Posterior
from connr.losses import mixture_loss, mixture_posterior, normalize_rows
from connr.losses.precision import upcast
from connr.methods.method import Batch, Context, Method, Phase, Setup, StepOutput, View, move_towards
from connr.recipe.plugins import MethodConfig
from connr.recipe.section import Count, Positive, Share, Width
from connr.registry import METHODS


class MiCEConfig(MethodConfig):
    """Width of the embeddings, at least K - 1; the queue; temperatures of experts and gate; the teacher's momentum."""

    name: Literal["mice"] = "mice"
    out: Width = 128
    queue: Count = 16384
    temperature: Positive = 1.0
    gate_temperature: Positive = 1.0
    target_momentum: Share = 0.999


@METHODS.register("mice")
class MiCE(Method):
    """Encoders of student and teacher, and the mixture on them, whose queue has at most n rows."""

    Config = MiCEConfig
    oldest: Tensor
    sums: Tensor

    def __init__(self, config: MiCEConfig, setup: Setup) -> None:
        super().__init__()
        self.config, k, queue = config, setup.n_clusters, min(config.queue, setup.n_images)
        self.encoder = setup.encoder
        self.teacher = deepcopy(self.encoder).requires_grad_(False)
        self.mixture = Mixture(setup.width, k, config.out, queue, config.temperature, config.gate_temperature)
        self.register_buffer("oldest", torch.zeros((), dtype=torch.int64))
        self.register_buffer("sums", torch.zeros(k, config.out))  # of v_k over this epoch's images of each expert
        self._new: Tensor | None = None  # v of the step under way

    def phases(self) -> Sequence[Phase]:
        return [Phase("mixture", views={"student": View(), "teacher": View(), "gate": View()})]

    def training_step(self, batch: Batch, context: Context) -> StepOutput:
        with context.autocast():
            student, gating = (self.encoder(batch.views[name]) for name in ("student", "gate"))
            with torch.no_grad():
                teacher = self.teacher(batch.views["teacher"])
        v = self.mixture.teachers(upcast(teacher))
        log_gates, log_experts = self.mixture.log_probabilities(upcast(student), v, upcast(gating))
        q = mixture_posterior(log_gates, log_experts)
        self._new, chosen = context.collect(v), context.collect(q.argmax(dim=1))
        own = self._new[torch.arange(len(chosen), device=v.device), chosen]
        self.sums.index_add_(0, chosen, own.to(self.sums))
        of_all = len(v) * context.communicator.count / context.batch_size  # so that the mean over processes is that of all
        loss = mixture_loss(log_gates, log_experts, q)
        return StepOutput(loss * of_all, {"certainty": q.amax(dim=1).mean() * of_all})

    def before_epoch(self, context: Context) -> None:
        """A prototype becomes the mean of its expert's images of the epoch before; one without images stays as it is."""
        found = (self.sums != 0).any(dim=1, keepdim=True)
        self.mixture.prototypes.copy_(torch.where(found, normalize_rows(self.sums), self.mixture.prototypes))
        self.sums.zero_()

    def after_step(self, progress: float) -> None:
        """The teacher follows the student; the queue takes the teacher's rows in place of the oldest."""
        assert self._new is not None  # `training_step` came before
        students, teachers = [self.encoder, self.mixture.student], [self.teacher, self.mixture.teacher]
        move_towards(nn.ModuleList(teachers), nn.ModuleList(students), self.config.target_momentum)
        queue = self.mixture.queue
        rows = self._new[-len(queue) :]
        queue[(self.oldest + torch.arange(len(rows), device=rows.device)) % len(queue)] = rows.to(queue)
        self.oldest.add_(len(rows)).remainder_(len(queue))
        self._new = None

    def features(self) -> nn.Module:
        return Both(self.encoder, self.teacher)

    def trained_features(self) -> nn.Module:
        return self.encoder

    def assigner(self) -> Assigner:
        return Posterior(self.mixture)

    def networks(self) -> Sequence[nn.Module]:
        return [self.encoder, self.teacher]

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        heads = [parameter for name, parameter in self.mixture.named_parameters() if not name.startswith("teacher.")]
        return {"encoder": list(self.encoder.parameters()), "head": heads}


class Both(nn.Module):
    """The features of the student's encoder, and after them those of the teacher's."""

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        self.student, self.teacher = student, teacher

    def forward(self, images: Float[Tensor, "b ..."]) -> Float[Tensor, "b d"]:
        return torch.cat([self.student(images), self.teacher(images)], dim=1)
