"""IDFD's feature decorrelation (Tao et al. 2021): each of the d features is discriminated from the others over the batch.

    f_l = column l of the unit embeddings, over its L2 norm
    1/d sum_l -ln( e^{f_l . f_l / tau} / sum_m e^{f_m . f_l / tau} )

The softmax bounds the constraint, unlike a penalty on the squared correlations.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from connr.losses.precision import check_rows, check_temperature
from connr.losses.sphere import normalize_rows


def feature_decorrelation(embeddings: Float[Tensor, "b d"], temperature: float = 2.0) -> Float[Tensor, ""]:
    """Cross-entropy of the cosines between feature columns against the identity.

    Args:
        embeddings: (b d), need not be normalised.
        temperature: tau > 0.

    Returns:
        scalar >= 0; it cannot reach 0 with d > 1, where it is ln(1 + (d - 1) e^{-1/tau}) for orthogonal columns.

    Raises:
        ValueError: b = 0, d = 0, or temperature <= 0.
    """
    check_rows("embeddings", embeddings)
    check_rows("embeddings.T", embeddings.T)
    check_temperature(temperature)
    columns = normalize_rows(normalize_rows(embeddings).T)
    return F.cross_entropy(columns @ columns.T / temperature, torch.arange(len(columns), device=columns.device))
