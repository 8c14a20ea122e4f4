"""TCC (Shen et al. 2021), from the paper's idea only: no public code exists, and details here are ours.

    cluster level     r_k = normalised sum_i pi_ik v_i
                      1/K sum_k -ln( e^{r_k . r'_k / tau} / (sum_l e^{r_k . r'_l / tau} + sum_m e^{r_k . u_m / tau}) )
    instance level    c_i = softmax((ln pi_i + gumbel) / t),  e_i = normalised(v_i + phi(c_i))
                      1/b sum_i InfoNCE(e_i, e'_i) + KL(pi_i || pi'_i)

' is the other view, u a queue of past clusters. InfoNCE is `connr.losses.info_nce`.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from connr.losses.precision import check_rows, check_temperature, clamped_log, upcast
from connr.losses.sphere import normalize_rows


def cluster_embeddings(assignments: Float[Tensor, "b K"], embeddings: Float[Tensor, "b d"]) -> Float[Tensor, "K d"]:
    """r, the normalised mean of the unit embeddings, weighted by the assignments.

    Args:
        assignments: (b K), pi, probabilities.
        embeddings: (b d), v, need not be normalised.

    Returns:
        (K d), unit rows.
    """
    return normalize_rows(upcast(assignments).T @ normalize_rows(embeddings))


def cluster_contrast(
    first: Float[Tensor, "K d"],
    second: Float[Tensor, "K d"],
    queue: Float[Tensor, "m d"],
    temperature: float,
    ignored: Bool[Tensor, "K m"] | None = None,
) -> Float[Tensor, ""]:
    """Each cluster of one view against all clusters of the other view and a queue.

    Args:
        first: (K d), r, need not be normalised.
        second: (K d), r' of the other view; row k is the positive of row k.
        queue: (m d), u, clusters of past batches, rows of L2 norm 1, which are not normalised again; m may be 0.
        temperature: tau > 0.
        ignored: (K m), True where a row of the queue is no negative, as the same cluster of an earlier batch. None: all are.

    Returns:
        scalar >= 0.

    Raises:
        ValueError: K = 0, or temperature <= 0.
    """
    check_rows("first", first)
    check_temperature(temperature)
    rows = normalize_rows(first)
    logits = rows @ torch.cat([normalize_rows(second), queue.to(rows.dtype)]).T / temperature
    if ignored is not None:
        logits = logits.masked_fill(
            torch.cat([torch.zeros_like(logits[:, : len(first)], dtype=torch.bool), ignored], 1), -torch.inf
        )
    return F.cross_entropy(logits, torch.arange(len(first), device=logits.device))


def relaxed_assignment(
    assignments: Float[Tensor, "b K"], gumbel: Float[Tensor, "b K"], temperature: float
) -> Float[Tensor, "b K"]:
    """c, a Gumbel-softmax sample of the assignments.

    Args:
        assignments: (b K), pi, probabilities.
        gumbel: (b K), noise, -ln(-ln u) with u uniform in (0, 1); the caller draws it.
        temperature: t > 0; the smaller, the nearer to one-hot.

    Returns:
        (b K), probabilities.

    Raises:
        ValueError: temperature <= 0.
    """
    check_temperature(temperature)
    return F.softmax((clamped_log(assignments) + upcast(gumbel)) / temperature, dim=1)


def in_context(embeddings: Float[Tensor, "b d"], contexts: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    """e, an image beside its cluster: the normalised sum of its unit embedding and an embedding of its assignment.

    Args:
        embeddings: (b d), v, need not be normalised.
        contexts: (b d), phi(c), of `relaxed_assignment`.

    Returns:
        (b d), unit rows.
    """
    return normalize_rows(normalize_rows(embeddings) + upcast(contexts))


def assignment_divergence(first: Float[Tensor, "b K"], second: Float[Tensor, "b K"]) -> Float[Tensor, ""]:
    """The mean of KL(pi_i || pi'_i).

    Args:
        first: (b K), pi, probabilities.
        second: (b K), pi' of the other view, probabilities.

    Returns:
        scalar >= 0; 0 where the views agree.

    Raises:
        ValueError: b = 0.
    """
    check_rows("first", first)
    return (upcast(first) * (clamped_log(first) - clamped_log(second))).sum(dim=1).mean()
