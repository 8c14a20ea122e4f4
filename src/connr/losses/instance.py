"""Instance discrimination (Wu et al. 2018; IDFD): every image is a class of its own, its class vector is its past embedding.

    1/b sum_i -ln( e^{z_i . m_{x_i} / tau} / sum_j e^{z_i . m_j / tau} )

x_i is the index of image i in the data set, m_j the j-th row of a memory with a row for each of the n images.
"""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from connr.losses.precision import check_rows, check_temperature
from connr.losses.sphere import normalize_rows


def instance_discrimination(
    embeddings: Float[Tensor, "b d"], memory: Float[Tensor, "n d"], indices: Int[Tensor, " b"], temperature: float = 1.0
) -> Float[Tensor, ""]:
    """Cross-entropy of each image's cosines with all n rows of the memory against its own index.

    Args:
        embeddings: (b d), z, with gradient; need not be normalised.
        memory: (n d), m, rows of L2 norm 1, which are not normalised again.
        indices: (b), of the images in the memory, in 0...n-1.
        temperature: tau > 0.

    Returns:
        scalar >= 0. Memory of the computation is b n numbers.

    Raises:
        ValueError: b = 0, or temperature <= 0.
    """
    check_rows("embeddings", embeddings)
    check_temperature(temperature)
    unit = normalize_rows(embeddings)
    return F.cross_entropy(unit @ memory.to(unit.dtype).T / temperature, indices.long())
