"""The command `connr`, a file for each group of commands. Heavy imports are inside them: --help answers at once."""

from connr.cli import (  # each puts its commands on the app, in this order of --help
    data,
    demo,
    fit,
    recipes,
    report,
    reproduce,
    use,
)
from connr.cli.app import app

__all__ = ["app", "data", "demo", "fit", "recipes", "report", "reproduce", "use"]
