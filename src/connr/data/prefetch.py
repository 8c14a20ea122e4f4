"""Decoding of pictures by threads, in order and in bounded memory."""

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

AT_ONCE = 16  # pictures per task: the overhead of a task is that of decoding one small picture


def read_ahead(
    named: Iterable[tuple[str, Path]], read: Callable[[Path], Tensor | str], ahead: int, threads: int | None = None
) -> Iterator[tuple[str, Tensor | str]]:
    """Each name with its pixels or the reason why it is unreadable, in order.

    Args:
        named: names and paths, consumed on demand.
        read: decodes one picture.
        ahead: the largest number of decoded pictures in memory, at least 16.
        threads: number of decoding threads; None for one per core.
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
    finally:  # if the consumer stops early, threads end after their current picture
        left.set()
        pool.shutdown(cancel_futures=True)


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silences Pillow's warnings about damaged files. Use it around threads, not inside them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.filterwarnings("ignore", ".* image format is deprecated", DeprecationWarning)
        yield
