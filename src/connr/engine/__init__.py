"""Training on Lightning Fabric: the loop over a method's phases, checkpoints, callbacks. It never sees a label."""

from connr.engine.callbacks import Callback, CallbackForwarder, Epoch
from connr.engine.extraction import extract
from connr.engine.loop import train
from connr.engine.plan import Plan
from connr.engine.state import State
from connr.engine.timeline import Timeline
from connr.engine.update import update

__all__ = ["Callback", "CallbackForwarder", "Epoch", "Plan", "State", "Timeline", "extract", "train", "update"]
