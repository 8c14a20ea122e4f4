"""Training on Lightning Fabric: the loop of both stages, features, checkpoints, events. It never sees a label."""

from connr.training.events import Epoch, Listener
from connr.training.features import extract
from connr.training.loop import Plan, Stage, State, train

__all__ = ["Epoch", "Listener", "Plan", "Stage", "State", "extract", "train"]
