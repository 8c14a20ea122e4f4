"""The boundary filter: which images are far enough from a cluster boundary to be anchors.

d_I = |f_i - c_own|,  d_N = min over the other centroids |f_i - c|     (9-10)
r_i = 1 - (d_N - d_I) / max(d_I, d_N)                                  (11)
kept: r_i <= sigma, the floor(b*fraction)-th smallest ratio            (13)
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def boundary_ratio(
    features: Float[Tensor, "b d"], centroids: Float[Tensor, "K d"], assignments: Int[Tensor, " b"]
) -> Float[Tensor, " b"]:
    """How near each image is to a cluster boundary (Eqs. 9-11).

    Args:
        features: (b d).
        centroids: (K d), K >= 2.
        assignments: (b), the cluster pi(x_i) of each image, 0 <= value < K.

    Returns:
        (b) in [0, 2]: 0 on the own centroid, 1 half-way to the next, above 1 nearer to another one.
        An image at distance 0 from both counts as half-way.

    Raises:
        ValueError: there is only one centroid, so no boundary.
    """
    if len(centroids) < 2:
        raise ValueError(f"A boundary needs at least 2 centroids, got {len(centroids)}.")
    # The distances are differences of near-equal numbers: exact subtraction, not |f|^2 - 2<f,c> + |c|^2.
    distances = torch.cdist(features, centroids, compute_mode="donot_use_mm_for_euclid_dist")
    own = assignments.unsqueeze(1)
    to_own = distances.gather(1, own).squeeze(1)
    to_nearest_other = distances.scatter(1, own, torch.inf).amin(dim=1)
    larger = torch.maximum(to_own, to_nearest_other)
    return 1 - torch.where(larger > 0, (to_nearest_other - to_own) / larger, 0.0)


def keep(ratios: Float[Tensor, " b"], fraction: float, inclusive_threshold: bool = True) -> Bool[Tensor, " b"]:
    """The anchors kept at this epoch (Eq. 13): ratio <= sigma, the floor(b*fraction)-th smallest of the batch.

    Args:
        ratios: (b), from `boundary_ratio`.
        fraction: fr(t) of Eq. 12, 0 < fraction <= 1.
        inclusive_threshold: False drops what ties with sigma, as the released program does.

    Returns:
        (b) bool, with inclusive_threshold at least one True; images that tie with sigma are all kept, or all dropped.

    Raises:
        ValueError: fraction is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction={fraction} should be above 0 and at most 1.")
    rank = max(1, math.floor(len(ratios) * fraction + 1e-9))  # 100 * 0.29 is 28.999999999999996
    sigma = ratios.sort().values[rank - 1]  # kthvalue has no deterministic form on every device
    return ratios <= sigma if inclusive_threshold else ratios < sigma
