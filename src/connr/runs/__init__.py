"""Images + recipe -> a finished run and its folder; and back from a folder to the model."""

from connr.runs.assignments import evaluate, read_assignments, write_assignments
from connr.runs.fit import Fitted, check_recipe, fit, clamp_to_data, saved_progress
from connr.runs.worker import Job, history, prepared, train_here
from connr.runs.saved import load_model, read_config, save_model

__all__ = [
    "Fitted",
    "Job",
    "check_recipe",
    "evaluate",
    "fit",
    "clamp_to_data",
    "history",
    "load_model",
    "prepared",
    "read_assignments",
    "read_config",
    "save_model",
    "train_here",
    "saved_progress",
    "write_assignments",
]
