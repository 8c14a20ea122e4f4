"""What a user can mend: the command prints it as one line and exits with 2."""


class InputError(ValueError):
    """Bad input, found before any work. The message names the thing, its value and the way out."""
