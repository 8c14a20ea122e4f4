"""Settings that a process has once (environment variables, torch's switches) while several threads ask for them at once."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager


class SharedSetting:
    """The first thread that asks for the setting makes it, the last one that is done with it undoes it.

    Args:
        made: a context manager, inside which the setting holds.
    """

    def __init__(self, backbone_config: Callable[[], AbstractContextManager[object]]) -> None:
        self._made, self._lock, self._users = backbone_config, threading.Lock(), 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside, the setting holds."""
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
