"""Runs: `fit` trains, clusters and writes a run folder; `load_model` and `evaluate` read it."""

from connr.runs.assignments import evaluate, read_assignments, write_assignments
from connr.runs.fit import Fitted, check_recipe, clamp_to_data, fit, saved_progress
from connr.runs.saved import load_model, read_config, save_model
from connr.runs.worker import Job, history, prepare, train_process

__all__ = [
    "Fitted",
    "Job",
    "check_recipe",
    "clamp_to_data",
    "evaluate",
    "fit",
    "history",
    "load_model",
    "prepare",
    "read_assignments",
    "read_config",
    "save_model",
    "saved_progress",
    "train_process",
    "write_assignments",
]
