"""Clusters images without labels: ConNR (NeurIPS 2023) as a library and a command."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from connr.algorithm import ConNRLoss
    from connr.estimator import ConNR

_HOME = {"ConNR": "connr.estimator", "ConNRLoss": "connr.algorithm"}  # imported when asked for: torch takes seconds

__all__ = ["ConNR", "ConNRLoss", "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'connr' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
