"""All randomness is a function of (seed, purpose, position), so any step can be repeated or resumed on its own.

A generator is never carried from one step to the next: the batch order of epoch 7 depends on
`(seed, "order", 7)` and nothing before it. Resuming therefore needs no generator state, and the
global generators of torch, numpy and Python are left as the caller had them.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from connr.shared_setting import SharedSetting

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # cuBLAS is deterministic only with it
# Functions and methods of torch that take a generator.
_METHODS = ("bernoulli_", "cauchy_", "exponential_", "geometric_", "log_normal_", "normal_", "random_", "uniform_")
_FUNCTIONS = ("bernoulli", "multinomial", "normal", "poisson", "rand", "randint", "randn", "randperm")


def derive(seed: int, purpose: str, position: int = 0) -> int:
    """A 63-bit seed for one use, e.g. `derive(0, "order", 7)`; unrelated for any two different arguments."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{position}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def stream(seed: int, purpose: str, position: int = 0) -> torch.Generator:
    """A new CPU generator for one use. Random numbers are drawn on the CPU: the same for every device."""
    return torch.Generator().manual_seed(derive(seed, purpose, position))


@contextmanager
def seeded_initialisation(seed: int) -> Iterator[None]:
    """Seeds the initial weights of modules built inside, on the CPU, independent of other threads.

    Initialisers know only torch's global generator. Inside, this thread draws from a separate generator instead, so that the
    global one is neither read nor moved. Within `torch.device("meta")` nothing is drawn, and modules stay there.
    """
    if torch.get_default_device().type == "meta":
        yield
        return
    with torch.device("cpu"), _DrawsFrom(stream(seed, "weights")):
        yield


class _DrawsFrom(TorchFunctionMode):
    """A mode, per thread, in which random functions of torch without a generator use this one."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        takes_one = "generator" in named or getattr(func, "__name__", "") in (*_METHODS, *_FUNCTIONS)
        if takes_one and named.get("generator") is None:
            named["generator"] = self.generator
        return func(*args, **named)


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Enables deterministic algorithms of torch inside the block; operations without one raise."""
    if not wanted:
        yield
        return
    with _DETERMINISTIC.held():
        yield


@contextmanager
def _deterministic() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, workspace = torch.backends.cudnn.benchmark, os.environ.get(WORKSPACE)
    os.environ.setdefault(WORKSPACE, ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark
        if workspace is None:
            os.environ.pop(WORKSPACE, None)


_DETERMINISTIC = SharedSetting(_deterministic)
