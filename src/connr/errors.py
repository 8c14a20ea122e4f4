"""What a user can mend: the command prints it as one message, and exits with 2 for bad input, 1 for a run gone wrong."""


class InputError(ValueError):
    """Bad input, found before any work. The message names the thing, its value and the way out."""


class ExportMismatch(ArithmeticError):
    """An exported model does not give the answers of the original; nothing was written."""


class Diverged(ArithmeticError):
    """The loss became NaN or infinite. The message names the step and the way out; the checkpoints before it are good."""


class Stopped(Exception):
    """A signal asked a run to stop, and where it was is saved.

    Attributes:
        number: of the signal; the command exits with 128 + number.
    """

    def __init__(self, number: int = 15) -> None:
        super().__init__(number)
        self.number = number


class RankLost(RuntimeError):
    """One of several processes of a run ended before its time. The message names it, and how it ended."""


class NotWritten(OSError):
    """A file of a run could not be written: disk full, folder gone. The message says what is safe and how to go on."""
