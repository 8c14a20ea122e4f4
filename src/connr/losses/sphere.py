"""z / |z|: rows of L2 norm 1, so that inner products are cosines."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from connr.losses.precision import upcast


def normalize_rows(rows: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
    """Divides each row by its L2 norm.

    Args:
        rows: (... d). A row of zeros stays a row of zeros.

    Returns:
        (... d), float32; float64 stays float64.
    """
    return F.normalize(upcast(rows), dim=-1)
