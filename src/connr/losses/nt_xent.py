"""NT-Xent, the symmetric in-batch softmax contrast of two views a, a' (SimCLR, Chen et al. 2020; CC, TCL).

    x = (a_1, ..., a_b, a'_1, ..., a'_b),  s_ij = cos(x_i, x_j),  i' = the other view of i
    1/(2b) sum_i -ln( e^{s_ii'/tau} / sum_{j != i} e^{s_ij/tau} )

TCL leaves out of the denominator the images that share the anchor's pseudo-label.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from connr.losses.precision import check_rows, check_temperature
from connr.losses.sphere import normalize_rows


def nt_xent(
    first: Float[Tensor, "b d"],
    second: Float[Tensor, "b d"],
    temperature: float = 0.5,
    ignored: Bool[Tensor, "b b"] | None = None,
) -> Float[Tensor, ""]:
    """NT-Xent over the 2b rows of two views.

    Args:
        first: (b d), one view of each of b images, need not be normalised.
        second: (b d), the other view of the same images.
        temperature: tau > 0.
        ignored: (b b); where [i, j] is True, both views of image j are no negatives of image i. The diagonal does not
            matter: the other view of an image is its positive. None: all other images are negatives.

    Returns:
        scalar >= 0; 0 with b = 1, where there is no negative.

    Raises:
        ValueError: b = 0, or temperature <= 0.
    """
    check_rows("first", first)
    check_temperature(temperature)
    b = len(first)
    rows = normalize_rows(torch.cat([first, second]))
    logits = rows @ rows.T / temperature
    excluded = torch.eye(2 * b, dtype=torch.bool, device=rows.device)
    if ignored is not None:
        other_images = ~torch.eye(b, dtype=torch.bool, device=rows.device)
        excluded = excluded | (ignored & other_images).repeat(2, 2)
    positive = torch.cat([logits.diagonal(b), logits.diagonal(-b)])
    return (torch.logsumexp(logits.masked_fill(excluded, -torch.inf), dim=1) - positive).mean()


def same_label(labels: Int[Tensor, " b"]) -> Bool[Tensor, "b b"]:
    """The pairs of images that share a pseudo-label, for `nt_xent(..., ignored=)` (TCL).

    Args:
        labels: (b), pseudo-labels >= 0; negative where an image has none, which makes all others its negatives.

    Returns:
        (b b), True where both have a label and it is the same.
    """
    return (labels[:, None] == labels) & (labels >= 0)
