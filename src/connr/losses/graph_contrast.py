"""Contrast with weighted positives: the representation loss RGC of GCC (Zhong et al. 2021).

    s_ij = cos(a_i, x_j)
    1/b sum_i -ln( sum_j w_ij e^{s_ij/tau} / sum_{j in D_i} e^{s_ij/tau} )

The positives of i are the j with w_ij > 0: its other view and its neighbours in a graph. GCC weighs a neighbour by
1/sqrt(d_i d_j), d the node degrees. D_i is every candidate, or those of a mask.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from connr.losses.precision import check_rows, check_temperature, clamped_log
from connr.losses.sphere import normalize_rows


def graph_contrast(
    anchors: Float[Tensor, "b d"],
    candidates: Float[Tensor, "m d"],
    weights: Float[Tensor, "b m"],
    temperature: float = 0.1,
    compared: Bool[Tensor, "b m"] | None = None,
) -> Float[Tensor, ""]:
    """Pulls each anchor to its weighted positives among the candidates.

    Args:
        anchors: (b d), need not be normalised.
        candidates: (m d), need not be normalised: other views and neighbours.
        weights: (b m), w_ij >= 0, 0 where j is no positive of i.
        temperature: tau > 0.
        compared: (b m), D_i, the candidates in the denominator; False leaves e.g. the anchor itself out. None: all.

    Returns:
        scalar; >= 0 where no weight exceeds 1 and all positives are compared. An anchor without a positive, or with nothing
        to compare, is left out of the mean; it is 0 where all are left out.

    Raises:
        ValueError: no anchors, no candidates, or temperature <= 0.
    """
    check_rows("anchors", anchors)
    check_rows("candidates", candidates)
    check_temperature(temperature)
    if compared is None:
        compared = torch.ones_like(weights, dtype=torch.bool)
    logits = normalize_rows(anchors) @ normalize_rows(candidates).T / temperature
    usable = (weights > 0).any(dim=1) & compared.any(dim=1)
    # Rows that are not usable get finite values here, since a row of -inf has no gradient, and the factor 0 below.
    weighted = (logits + clamped_log(weights)).masked_fill((weights <= 0) & usable[:, None], -torch.inf)
    everything = logits.masked_fill(~compared & usable[:, None], -torch.inf)
    losses = torch.logsumexp(everything, dim=1) - torch.logsumexp(weighted, dim=1)
    return (losses * usable).sum() / usable.sum().clamp(min=1)
