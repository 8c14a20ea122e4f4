"""All randomness is a function of (seed, purpose, position), so any step can be repeated or resumed on its own.

A generator is never carried from one step to the next: the batch order of epoch 7 depends on
`(seed, "order", 7)` and nothing before it. Resuming therefore needs no generator state, and the
global generators of torch, numpy and Python are left as the caller had them.
"""

import hashlib
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
