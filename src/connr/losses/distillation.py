"""TEMI (Adaloglou et al. 2023): weighted pointwise mutual information between a student and a teacher on pairs of neighbours.

    w_i = mean over heads of sum_k q_ik q'_ik                        (do the teachers agree that the pair is one?)
    1/b sum_i -w_i ln sum_k (p_ik q'_ik)^beta / m_k

p = student on image i, q, q' = teacher (moving average of the student) on image i and on its neighbour, m = running mean of q.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from connr.losses.precision import check_rows, clamped_log, upcast


@torch.no_grad()
def pair_weights(teachers: Float[Tensor, "H b K"], neighbours: Float[Tensor, "H b K"]) -> Float[Tensor, " b"]:
    """w, how surely the teachers put an image and its neighbour into one cluster.

    Args:
        teachers: (H b K), q of H heads, probabilities.
        neighbours: (H b K), q' of the neighbours, probabilities.

    Returns:
        (b), in [0, 1], without gradient.

    Raises:
        ValueError: H = 0.
    """
    check_rows("teachers", teachers)
    return (upcast(teachers) * upcast(neighbours)).sum(dim=2).mean(dim=0)


def weighted_pointwise_information(
    students: Float[Tensor, "b K"],
    teachers: Float[Tensor, "b K"],
    marginal: Float[Tensor, " K"],
    weights: Float[Tensor, " b"],
    beta: float = 0.6,
) -> Float[Tensor, ""]:
    """TEMI's loss of one head in one direction; call it again with the pair swapped and average.

    Args:
        students: (b K), p, probabilities of the images, with gradient.
        teachers: (b K), q', probabilities of their neighbours; taken without gradient.
        marginal: (K), m, probabilities of the clusters; values below 1e-30 count as 1e-30.
        weights: (b), w, from `pair_weights`.
        beta: in (0.5, 1]; below 1 it avoids collapse to few clusters.

    Returns:
        scalar, of either sign.

    Raises:
        ValueError: b = 0.
    """
    check_rows("students", students)
    terms = beta * (clamped_log(students) + clamped_log(teachers.detach())) - clamped_log(marginal.detach())
    return -(upcast(weights) * torch.logsumexp(terms, dim=1)).mean()
