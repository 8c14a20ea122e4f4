"""Console output that survives a closed terminal or pipe and escapes control characters in file names."""

import os
import sys
from typing import Any

from rich.console import Console

from connr.printable import printable


class Screen(Console):
    """A console without markup that escapes control characters and ignores a closed stream.

    Args:
        stderr: standard error, not standard output.
        quiet: prints nothing.
    """

    def __init__(self, stderr: bool = False, quiet: bool = False) -> None:
        stream = sys.stderr if stderr else sys.stdout
        file: Any = Lasting(stream) if stream is not None else None
        super().__init__(file=file, stderr=stderr, quiet=quiet, soft_wrap=True, markup=False, highlight=False)

    def print(self, *objects: Any, **named: Any) -> None:
        super().print(*(printable(each) if isinstance(each, str) else each for each in objects), **named)


class Lasting:
    """A text stream that discards text once a write has failed, because its reader or terminal has ended."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._lost = stream, False

    def write(self, text: str) -> int:
        self._tried(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._tried(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _tried(self, act: Any, *arguments: str) -> None:
        if not self._lost:
            try:
                act(*arguments)
            except OSError:
                self._lost = True
                silence(self._stream)


def silence(stream: Any) -> None:
    """Redirects a stream to the null device, including its buffer, which Python flushes at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, stream.fileno())
    finally:
        os.close(nowhere)


def prepare_streams() -> None:
    """Makes the standard streams accept any text; opens closed ones on the null device, so that no file gets their number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
