"""Training on Lightning Fabric: the loop of both stages, features, checkpoints, events. It never sees a label."""

from connr.engine.callbacks import Callback, CallbackForwarder, Epoch
from connr.engine.extraction import extract
from connr.engine.loop import train
from connr.engine.plan import Plan, Stage
from connr.engine.state import State
from connr.engine.update import update

__all__ = ["Callback", "CallbackForwarder", "Epoch", "Plan", "Stage", "State", "extract", "train", "update"]
