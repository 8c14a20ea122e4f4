"""Ctrl-C, SIGTERM and SIGHUP: the first one finishes and saves the current step, the second one ends the process at once.

So does the first one where there is nothing to save, but not without saying so and taking away what is half done.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from connr.errors import Stopped

HANGUP = getattr(signal, "SIGHUP", None)  # the terminal was closed; not on Windows
SIGNALS = (signal.SIGINT, signal.SIGTERM, *([HANGUP] if HANGUP else []))


class StopRequest:
    """Whether a stop signal was received, and which."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __call__(self) -> bool:
        return self.signal is not None


@contextmanager
def listening(signals: tuple[signal.Signals, ...] = SIGNALS) -> Iterator[StopRequest]:
    """Inside the block the first of these signals is recorded, and the second has its usual effect.

    Only the main thread can receive signals: in any other, nothing is recorded.
    """
    request = StopRequest()

    def note(number: signal.Signals) -> None:
        request.signal = number

    with _first_of(signals, note):
        yield request


@contextmanager
def at_once(signals: tuple[signal.Signals, ...] = SIGNALS) -> Iterator[None]:
    """Inside the block the first of these signals raises `Stopped` in the main thread.

    Whatever is raised after it counts as its effect: a module that is interrupted while it is imported may raise anything.
    """
    seen: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        seen.append(number)
        raise KeyboardInterrupt  # not an Exception, which readers of broken files catch

    with _first_of(signals, stop):
        try:
            yield
        except Stopped:  # raised by the interrupted code, with more detail
            raise
        except BaseException:
            if not seen:
                raise
            raise Stopped(seen[0]) from None


@contextmanager
def _first_of(signals: tuple[signal.Signals, ...], on_first: Callable[[signal.Signals], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in signals}
    if HANGUP and before.get(HANGUP) == signal.SIG_IGN:  # as under nohup: the run continues without a terminal
        del before[HANGUP]

    def as_before() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def first(number: int, _: FrameType | None) -> None:
        as_before()
        on_first(signal.Signals(number))

    for number in before:
        signal.signal(number, first)
    try:
        yield
    finally:
        as_before()
