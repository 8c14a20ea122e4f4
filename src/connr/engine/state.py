"""How far a run has come: with the weights, all that a checkpoint holds."""

from dataclasses import dataclass, field

from connr.clustering.kmeans import Clusters
from connr.engine.update import Updated
from connr.key_memory import KeyMemory


@dataclass
class State:
    """Where to go on from; any position in training is (epoch, step), as all randomness is a function of it.

    Attributes:
        epoch: how many are finished.
        step: how many steps of the next one are finished.
        step_metrics: what each of those steps told, for the mean over the epoch.
        seconds: that they took.
        clusters: found after the last finished epoch, if they were due.
        memory: the keys of those steps that the next one looks for neighbours among.
    """

    epoch: int = 0
    step: int = 0
    step_metrics: list[Updated] = field(default_factory=list)
    seconds: float = 0.0
    clusters: Clusters | None = None
    memory: KeyMemory = field(default_factory=KeyMemory)
