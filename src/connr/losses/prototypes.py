"""ProPos (Huang et al. 2022): prototypes of a batch pushed apart, and a positive sampled around an embedding.

mu_k, mu~_k = normalised sum of the unit embeddings z_i, z~_i (online, target) of the images with label k
s_kl = mu_k . mu_l / tau for l != k,  s_kk = mu_k . mu~_k / tau
scattering = mean over the clusters k present in the batch of -s_kk + ln(e^{s_kk} + sum_{l != k} e^{s_kl})
positive sampling: z + sigma eps, eps ~ N(0, I), goes into the predictor; its pair loss is `negative_cosine`
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from connr.losses.precision import check_rows, check_temperature, upcast
from connr.losses.sphere import normalize_rows


class Prototypes(NamedTuple):
    """means: (K d), unit rows, zeros where a cluster has no image. present: (K), the clusters that have one."""

    means: Float[Tensor, "K d"]
    present: Bool[Tensor, " K"]


def batch_prototypes(embeddings: Float[Tensor, "b d"], labels: Int[Tensor, " b"], n_clusters: int) -> Prototypes:
    """The normalised mean of each cluster's unit embeddings.

    Args:
        embeddings: (b d), need not be normalised.
        labels: (b), in 0...n_clusters-1; images with a negative label belong to no cluster.
        n_clusters: K >= 1.

    Returns:
        The prototypes, and which clusters are present.

    Raises:
        ValueError: n_clusters < 1.
    """
    if n_clusters < 1:
        raise ValueError(f"n_clusters={n_clusters} should be at least 1.")
    rows = normalize_rows(embeddings)
    member = F.one_hot(labels.clamp(min=0).long(), n_clusters) * (labels >= 0)[:, None]
    return Prototypes(normalize_rows(member.to(rows.dtype).T @ rows), member.any(dim=0))


def prototype_scattering(
    online: Float[Tensor, "b d"],
    target: Float[Tensor, "b d"],
    labels: Int[Tensor, " b"],
    n_clusters: int,
    temperature: float = 0.5,
) -> Float[Tensor, ""]:
    """ProPos' prototype scattering loss.

    Args:
        online: (b d), embeddings of one view, with gradient.
        target: (b d), embeddings of the other view by the target network.
        labels: (b), in 0...n_clusters-1, from k-means; images with a negative label belong to no cluster.
        n_clusters: K >= 1.
        temperature: tau > 0.

    Returns:
        scalar >= 0; 0 with fewer than two clusters in the batch.

    Raises:
        ValueError: b = 0, n_clusters < 1, or temperature <= 0.
    """
    check_rows("online", online)
    check_temperature(temperature)
    means, present = batch_prototypes(online, labels, n_clusters)
    own = (means * batch_prototypes(target, labels, n_clusters).means).sum(dim=1) / temperature
    same = torch.eye(n_clusters, dtype=torch.bool, device=own.device)
    logits = torch.where(same, own[:, None], means @ means.T / temperature)
    logits = logits.masked_fill(present[:, None] & ~present, -torch.inf)  # rows of absent clusters stay finite
    losses = torch.logsumexp(logits, dim=1) - own
    return (losses * present).sum() / present.sum().clamp(min=1)


def sampled_positive(
    embeddings: Float[Tensor, "b d"], noise: Float[Tensor, "b d"], sigma: float = 0.001
) -> Float[Tensor, "b d"]:
    """ProPos' positive sampling: a point near each embedding, z + sigma eps.

    Args:
        embeddings: (b d), z.
        noise: (b d), eps, standard normal; the caller draws it.
        sigma: >= 0, standard deviation in the units of z.

    Returns:
        (b d), float32; float64 stays float64.
    """
    return upcast(embeddings) + sigma * upcast(noise)
