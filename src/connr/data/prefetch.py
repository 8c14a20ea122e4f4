"""Pictures decoded ahead by threads, in order, in bounded memory."""

import os
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from torch import Tensor

AT_ONCE = 16  # pictures that a thread takes: handing over each by itself takes as long as decoding a small one


def read_ahead(
    named: Iterable[tuple[str, Path]], read: Callable[[Path], Tensor | str], ahead: int, threads: int | None = None
) -> Iterator[tuple[str, Tensor | str]]:
    """Each name with its pixels or the reason why there are none, in order; at most `ahead` pictures are held, or 16.

    Args:
        named: taken as they are needed.
        threads: that decode; None for one a core.
    """
    pending = deque["Future[list[tuple[str, Tensor | str]]]"]()
    source, pool, left = iter(named), ThreadPoolExecutor(threads or os.cpu_count()), threading.Event()

    def read_some(some: list[tuple[str, Path]]) -> list[tuple[str, Tensor | str]]:
        return [(name, read(path)) for name, path in some if not left.is_set()]

    try:
        with quiet_pillow():
            while some := list(islice(source, AT_ONCE)):
                pending.append(pool.submit(read_some, some))
                if len(pending) * AT_ONCE >= ahead:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
    finally:  # also when whoever reads has stopped; then threads end after the picture that they are at
        left.set()
        pool.shutdown(cancel_futures=True)


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Inside, Pillow does not warn of what it reads in spite of its faults. To be put around threads, not into them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.filterwarnings("ignore", ".* image format is deprecated", DeprecationWarning)
        yield
