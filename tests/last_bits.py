"""Products as another processor could give them: each result is moved by a unit or two in its last place, or stays.

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
    paused = False

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = operation(*args, **(kwargs or {}))
        name = operation.overloadpacket.__name__
        if name not in PRODUCTS or LastBits.paused:
            return found
        self.count += 1
        shapes = [tuple(each.shape) for each in args if isinstance(each, Tensor)]
        results = found if isinstance(found, tuple) else (found,)
        for at, result in enumerate(results):
            if isinstance(result, Tensor) and result.is_floating_point():
                _move(result, zlib.crc32(repr((name, at, shapes)).encode()))
        return found


DRAWS = np.random.default_rng(0).integers(-1, 2, 1 << 16)
FACTORS = {
    dtype: torch.from_numpy(1 + DRAWS * np.where(DRAWS > 0, 1.0, 0.5) * torch.finfo(dtype).eps).to(dtype)
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16)
}  # the numbers next to 1 and 1 itself


def _move(result: Tensor, seed: int) -> None:
    """Up, down or not at all, in place; what is 0 stays, as sums of zeros do on every machine."""
    factors, start = FACTORS[result.dtype], seed % len(DRAWS)
    at = (torch.arange(start, start + result.numel()) % len(DRAWS)).view(result.shape)
    result.mul_(factors[at].to(result.device))


@contextmanager
def paused() -> Iterator[None]:
    """Products are left alone for a while."""
    LastBits.paused, before = True, LastBits.paused
    try:
        yield
    finally:
        LastBits.paused = before


@contextmanager
def moved() -> Iterator[LastBits]:
    """Products of torch and of sparse matrices in this thread have other last bits."""
    real = sp.csr_array.__matmul__

    def product(one: Any, other: Any) -> Any:
        found = real(one, other)
        values = found.data if sp.issparse(found) else found
        _move(torch.from_numpy(values), zlib.crc32(repr((one.shape, other.shape, values.size)).encode()))
        return found

    sp.csr_array.__matmul__ = product
    try:
        with LastBits() as mode:
            yield mode
    finally:
        sp.csr_array.__matmul__ = real
