"""Torch settings of fit and predict, independent of the caller's; restored afterwards."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from joblib import cpu_count, effective_n_jobs

from connr.errors import InputError
from connr.shared_setting import SharedSetting

_computed_in: int | None = None  # id of the process in which torch has started threads


@contextmanager
def computing(n_jobs: int | None) -> Iterator[int | None]:
    """Default dtype float32, no inference mode, gradients enabled, and `threads(n_jobs)`, whose value it yields."""
    with _SINGLE_PRECISION.held(), torch.inference_mode(False), torch.enable_grad(), threads(n_jobs) as found:
        yield found


@contextmanager
def threads(n_jobs: int | None) -> Iterator[int | None]:
    """Sets the number of torch's threads inside the block; yields None if it is unchanged.

    In a child that was forked after torch started threads there are none, and torch would wait for them for ever: it
    computes with one.

    Args:
        n_jobs: as in joblib; -1 for torch's setting.

    Raises:
        InputError: n_jobs is 0, or more threads than a machine of this size can be meant to run.
    """
    global _computed_in
    wanted = None if n_jobs == -1 else effective_n_jobs(n_jobs)
    most = max(64, 4 * cpu_count())
    if wanted is not None and wanted > most:
        raise InputError(f"n_jobs={n_jobs} should be at most {most} on this machine of {cpu_count()} cores.")
    if _computed_in not in (None, os.getpid()):
        wanted = 1
    else:
        _computed_in = os.getpid()
    if wanted is None:
        yield None
        return
    before = torch.get_num_threads()
    torch.set_num_threads(wanted)
    try:
        yield wanted
    finally:
        torch.set_num_threads(before)


@contextmanager
def _single_precision() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


_SINGLE_PRECISION = SharedSetting(_single_precision)
