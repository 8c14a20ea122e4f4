"""Training on Lightning Fabric: the loop of both stages, features, checkpoints, events. It never sees a label."""

from connr.training.events import Epoch, Listener, Told
from connr.training.features import extract
from connr.training.loop import train
from connr.training.plan import Plan, Stage
from connr.training.state import State
from connr.training.update import update

__all__ = ["Epoch", "Listener", "Plan", "Stage", "State", "Told", "extract", "train", "update"]
