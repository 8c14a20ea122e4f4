"""What a user can mend: the command prints it as one message, and exits with 2 for bad input, 1 for a run gone wrong."""


class InputError(ValueError):
    """Bad input, found before any work. The message names the thing, its value and the way out."""


class NotTheSame(ArithmeticError):
    """An exported model does not give the answers of the original; nothing was written."""


class Diverged(ArithmeticError):
    """Training left the finite numbers. The message names the epoch and the way out; the checkpoints before it are good."""
