"""Errors for users. The command prints them as one message and exits with 2 for bad input, 1 for a failed run."""


class InputError(ValueError):
    """Bad input, detected before any work. The message names the thing, its value and the way out."""


class ExportMismatch(ArithmeticError):
    """The results of an exported model differ from those of the original; nothing was written."""


class Diverged(ArithmeticError):
    """The loss became NaN or infinite. The message names the step and the way out; earlier checkpoints are valid."""


class Stopped(Exception):
    """A signal stopped a run; its state is saved.

    Attributes:
        number: of the signal; the command exits with 128 + number.
    """

    def __init__(self, number: int = 15) -> None:
        super().__init__(number)
        self.number = number


class RankLost(RuntimeError):
    """One of several processes of a run ended unexpectedly. The message names it and the reason."""


class NotWritten(OSError):
    """A file of a run could not be written: disk full, folder gone. The message says what is saved and how to continue."""
