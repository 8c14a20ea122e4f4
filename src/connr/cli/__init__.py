"""The command `connr`, one file per group of commands. Heavy imports are inside the commands, so that --help is fast."""

from connr.cli import (
    data,
    demo,
    features,
    fit,
    methods,
    recipes,
    report,
    reproduce,
    use,
)  # importing a module adds its commands to the app; the order is that of --help
from connr.cli.app import app

__all__ = ["app", "data", "demo", "features", "fit", "methods", "recipes", "report", "reproduce", "use"]
