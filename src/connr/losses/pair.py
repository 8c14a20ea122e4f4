"""The loss of a query q_i with each of its positives z_ij.

    negative cosine    -w cos(q_i, z_ij)                                                 (Eq. 1; BYOL w = 2, SimSiam w = 1)
    InfoNCE            -ln( e^{cos(q_i, z_ij)/tau} / (e^{cos(q_i, z_ij)/tau} + sum_m e^{cos(q_i, n_m)/tau}) )      (Eq. 17)

Only the pair's own positive is in the denominator of InfoNCE, not the other positives of the query.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from connr.losses.precision import check_temperature
from connr.losses.sphere import normalize_rows


def negative_cosine(
    queries: Float[Tensor, "b d"], positives: Float[Tensor, "b k d"], weight: float = 2.0
) -> Float[Tensor, "b k"]:
    """-w cos(q_i, z_ij), the pair loss of BYOL and SimSiam.

    Args:
        queries: (b d), need not be normalised.
        positives: (b k d), k positives of each query, need not be normalised. Detach them where they are targets.
        weight: w; with 2 the loss is |q - z|^2 - 2 on the sphere.

    Returns:
        (b k), in [-w, w].
    """
    return -weight * torch.einsum("bd,bkd->bk", normalize_rows(queries), normalize_rows(positives))


def info_nce(
    queries: Float[Tensor, "b d"], positives: Float[Tensor, "b k d"], negatives: Float[Tensor, "m d"], temperature: float
) -> Float[Tensor, "b k"]:
    """InfoNCE against negatives that all queries share, the pair loss of MoCo.

    Args:
        queries: (b d), need not be normalised.
        positives: (b k d), k positives of each query, need not be normalised.
        negatives: (m d), e.g. a queue, rows of L2 norm 1, which are not normalised again; with m = 0 the loss is 0.
        temperature: tau > 0.

    Returns:
        (b k), >= 0.

    Raises:
        ValueError: temperature <= 0.
    """
    check_temperature(temperature)
    unit = normalize_rows(queries)
    positive = torch.einsum("bd,bkd->bk", unit, normalize_rows(positives)) / temperature
    others = torch.logsumexp(unit @ negatives.to(unit.dtype).T / temperature, dim=1, keepdim=True)
    return torch.logaddexp(positive, others) - positive
