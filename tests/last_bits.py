"""Products as another processor could give them: each result is moved by at most one unit in its last place, or stays.

By how much depends on the operation, the shapes and the place in the result. So the same call gives the same result, as on a
real machine, and a product of another shape, or an equal row elsewhere in it, has other last bits.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS = {
    "mm", "bmm", "addmm", "baddbmm", "addbmm", "mv", "addmv", "dot", "vdot", "addr", "linear", "matmul", "einsum",
    "_cdist_forward", "_euclidean_dist", "convolution", "convolution_backward",
}  # fmt: skip


class LastBits(TorchDispatchMode):
    """Every product of torch inside it, also in backward passes. `count` is how many there were."""

    count = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = operation(*args, **(kwargs or {}))
        name = operation.overloadpacket.__name__
        if name not in PRODUCTS:
            return found
        self.count += 1
        shapes = [tuple(each.shape) for each in args if isinstance(each, Tensor)]
        results = found if isinstance(found, tuple) else (found,)
        for at, result in enumerate(results):
            if isinstance(result, Tensor) and result.is_floating_point():
                _move(result, zlib.crc32(repr((name, at, shapes)).encode()))
        return found


def _move(result: Tensor, seed: int) -> None:
    """Up, down or not at all, in place; what is 0 stays, as sums of zeros do on every machine."""
    draw = torch.randint(-1, 2, result.shape, generator=torch.Generator().manual_seed(seed))
    moved = torch.nextafter(result, torch.where(draw > 0, torch.inf, -torch.inf).to(result))
    result.copy_(torch.where((draw.to(result.device) == 0) | (result == 0), result, moved))


def _sparse_product(one: Any, other: Any) -> Any:
    found = sp.csr_array._matmul_unmoved(one, other)
    values = found.data if sp.issparse(found) else found
    draw = np.random.default_rng(zlib.crc32(repr((one.shape, other.shape, values.size)).encode())).integers(
        -1, 2, values.shape
    )
    values[...] = np.where((draw == 0) | (values == 0), values, np.nextafter(values, np.where(draw > 0, np.inf, -np.inf)))
    return found


@contextmanager
def moved() -> Iterator[LastBits]:
    """Products of torch and of sparse matrices in this thread have other last bits."""
    real = sp.csr_array.__matmul__
    sp.csr_array._matmul_unmoved, sp.csr_array.__matmul__ = real, _sparse_product
    try:
        with LastBits() as mode:
            yield mode
    finally:
        sp.csr_array.__matmul__ = real
        del sp.csr_array._matmul_unmoved
