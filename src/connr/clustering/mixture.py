"""Clusters as the experts of a mixture (MiCE): an image goes to the one of largest posterior q_k ~ pi_k phi_k."""

from copy import deepcopy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from connr.clustering.assigners import Assigned, Head
from connr.losses import expert_log_probabilities, gate_log_probabilities, mixture_posterior, normalize_rows
from connr.losses.precision import upcast
from connr.networks.heads import simplex

AT_A_TIME = 2**25  # numbers that the posterior of a part of the images holds


class Mixture(nn.Module):
    """The heads of K experts and their gate: features (b 2w), the student's and then the teacher's, to the posterior (b K).

    Args:
        width: w, of the features of either encoder.
        n_clusters: K >= 1.
        out: d >= K - 1, numbers of an embedding.
        queue: rows of the queue, which holds the teacher's embeddings of other images; empty rows are random ones.
        temperature: tau, of the experts.
        gate_temperature: kappa, of the gate.

    Raises:
        InputError: d < K - 1.
    """

    gate_vectors: Tensor
    queue: Tensor

    def __init__(
        self, width: int, n_clusters: int, out: int, queue: int, temperature: float = 1.0, gate_temperature: float = 1.0
    ) -> None:
        super().__init__()
        self.shape, self.temperature, self.gate_temperature = (n_clusters, out), temperature, gate_temperature
        self.student, self.gate = nn.Linear(width, n_clusters * out), nn.Linear(width, out)
        self.teacher = deepcopy(self.student).requires_grad_(False)
        self.prototypes = nn.Parameter(normalize_rows(torch.randn(n_clusters, out)))
        self.register_buffer("gate_vectors", simplex(n_clusters, out))
        self.register_buffer("queue", normalize_rows(torch.randn(queue, n_clusters, out)))

    def teachers(self, features: Float[Tensor, "b w"]) -> Float[Tensor, "b K d"]:
        """v, the teacher's unit embeddings for all experts, without gradient."""
        with torch.no_grad():
            return normalize_rows(self.teacher(features).unflatten(1, self.shape))

    def log_probabilities(
        self, features: Float[Tensor, "b w"], teachers: Float[Tensor, "b K d"], gating: Float[Tensor, "b w"]
    ) -> tuple[Float[Tensor, "b K"], Float[Tensor, "b K"]]:
        """ln pi of the gate and ln phi of the experts.

        Args:
            features: (b w), of the student's view.
            teachers: (b K d), of the teacher's view.
            gating: (b w), of the gate's view.
        """
        gates = gate_log_probabilities(upcast(self.gate(gating)), self.gate_vectors, self.gate_temperature)
        students = upcast(self.student(features)).unflatten(1, self.shape)
        return gates, expert_log_probabilities(students, teachers, self.prototypes, self.queue, self.temperature)

    def forward(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "b K"]:
        student, teacher = features.chunk(2, dim=1)
        return mixture_posterior(*self.log_probabilities(student, self.teachers(teacher), student))


class Posterior(Head):
    """The expert of largest posterior.

    Args:
        mixture: with weights.
    """

    head: Mixture

    def __init__(self, mixture: Mixture) -> None:
        super().__init__(mixture, mixture.shape[0], probabilities=True)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        queue = tensors.get("head.queue")
        if queue is not None and queue.shape[1:] == self.head.queue.shape[1:]:  # as long as that of the run
            self.head.queue = torch.empty_like(queue)
        super().restore(tensors)

    def assign(self, features: Float[Tensor, "b d"]) -> Assigned:
        """As `Head`. Images go in blocks, so that their similarities to the queue fit into memory."""
        rows = max(1, AT_A_TIME // max(1, self.head.queue[..., 0].numel()))
        parts = [Head.assign(self, part) for part in features.split(rows)]
        return Assigned(*(torch.cat(column) for column in zip(*parts, strict=True)))
