"""Process-wide settings (environment variables, torch's switches) shared by threads."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager


class SharedSetting:
    """Reference-counted setting: the first thread enters its context manager, the last one exits it.

    Args:
        made: a context manager, inside which the setting holds.
    """

    def __init__(self, backbone_config: Callable[[], AbstractContextManager[object]]) -> None:
        self._made, self._lock, self._users = backbone_config, threading.Lock(), 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the setting inside the block."""
        with self._lock:
            if self._users == 0:
                self._setting = self._made()
                self._setting.__enter__()
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._setting.__exit__(None, None, None)
