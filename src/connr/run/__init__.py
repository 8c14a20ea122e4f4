"""Images + recipe -> a finished run and its folder; and back from a folder to the model."""

from connr.run.assignments import evaluate, read_assignments, write_assignments
from connr.run.fit import Fitted, check_recipe, fit, fitted_to, what_is_safe
from connr.run.rank import Job, history, prepared, train_here
from connr.run.saved import load_model, read_config, save_model

__all__ = [
    "Fitted",
    "Job",
    "check_recipe",
    "evaluate",
    "fit",
    "fitted_to",
    "history",
    "load_model",
    "prepared",
    "read_assignments",
    "read_config",
    "save_model",
    "train_here",
    "what_is_safe",
    "write_assignments",
]
