"""All randomness is a function of (seed, purpose, position), so any step can be repeated or resumed on its own.

A generator is never carried from one step to the next: the batch order of epoch 7 depends on
`(seed, "order", 7)` and nothing before it. Resuming therefore needs no generator state, and the
global generators of torch, numpy and Python are left as the caller had them.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(seed: int, purpose: str, position: int = 0) -> int:
    """A 63-bit seed for one use, e.g. `derive(0, "order", 7)`; unrelated for any two different arguments."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{position}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def stream(seed: int, purpose: str, position: int = 0) -> torch.Generator:
    """A fresh CPU generator for one use. Draws are made on the CPU so that every device sees the same ones."""
    return torch.Generator().manual_seed(derive(seed, purpose, position))


@contextmanager
def initialising(seed: int) -> Iterator[None]:
    """Seeds the weights of modules built inside, whose initialisers know only the global generator, and puts it back."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "weights"))
        yield


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Inside, torch takes only algorithms that repeat bit for bit on a GPU too, and says what has none; then as before."""
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
