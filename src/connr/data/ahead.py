"""Pictures decoded ahead by threads, in order, in bounded memory."""

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor


def read_ahead(
    named: Iterable[tuple[str, Path]], read: Callable[[Path], Tensor | str], ahead: int, threads: int | None = None
) -> Iterator[tuple[str, Tensor | str]]:
    """Each name with its pixels or the reason why there are none, in order; at most `ahead` pictures are held.

    Args:
        named: taken as they are needed.
        threads: that decode; None for one a core. Pillow decodes and resizes without the interpreter's lock.
    """
    pending = deque[tuple[str, "Future[Tensor | str]"]]()
    pool = ThreadPoolExecutor(threads or os.cpu_count())
    try:
        with quiet_pillow():
            for name, path in named:
                pending.append((name, pool.submit(read, path)))
                if len(pending) == ahead:
                    name, reading = pending.popleft()
                    yield name, reading.result()
            while pending:
                name, reading = pending.popleft()
                yield name, reading.result()
    finally:  # also when whoever reads has stopped
        pool.shutdown(cancel_futures=True)


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Inside, Pillow does not warn of what it reads in spite of its faults. To be put around threads, not into them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.filterwarnings("ignore", ".* image format is deprecated", DeprecationWarning)
        yield
