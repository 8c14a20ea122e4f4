"""Contrast of the columns of two assignment matrices: cluster k of one view against all clusters of the other.

c_k, c'_k = column k of p, p' over its L2 norm: the images of cluster k, as a vector of length b
NT-Xent over columns    NT-Xent(c, c'; tau) over 2K columns                                        (CC, TCL, TAC)
cross-entropy           1/K sum_k -ln( e^{c_k . c'_k} / sum_l e^{c_k . c'_l} )                     (PICA, NNM, GCC)
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from connr.losses.nt_xent import nt_xent
from connr.losses.precision import check_rows
from connr.losses.sphere import normalize_rows


def column_nt_xent(first: Float[Tensor, "b K"], second: Float[Tensor, "b K"], temperature: float = 1.0) -> Float[Tensor, ""]:
    """NT-Xent over the 2K columns of two assignment matrices.

    Args:
        first: (b K), p, assignment probabilities of one view.
        second: (b K), p' of the other view, or of neighbours.
        temperature: tau > 0; 1 in CC and TCL, 0.5 in TAC.

    Returns:
        scalar >= 0; 0 with K = 1.

    Raises:
        ValueError: b = 0, K = 0, or temperature <= 0.
    """
    check_rows("first", first)
    return nt_xent(first.T, second.T, temperature)


def column_cross_entropy(first: Float[Tensor, "b K"], second: Float[Tensor, "b K"]) -> Float[Tensor, ""]:
    """Cross-entropy of the cosines between columns, without temperature; it is not symmetric in its arguments.

    Args:
        first: (b K), p, assignment probabilities of one view.
        second: (b K), p' of the other view, or of neighbours.

    Returns:
        scalar >= 0; 0 with K = 1.

    Raises:
        ValueError: b = 0 or K = 0.
    """
    check_rows("first", first)
    check_rows("first.T", first.T)
    logits = normalize_rows(first.T) @ normalize_rows(second.T).T
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
