"""The command `connr`, a file for each group of commands. Heavy imports are inside them: --help answers at once."""

from connr.cli import (
    data,
    demo,
    features,
    fit,
    recipes,
    report,
    reproduce,
    use,
)  # each puts its commands on the app, in this order of --help
from connr.cli.app import app

__all__ = ["app", "data", "demo", "features", "fit", "recipes", "report", "reproduce", "use"]
