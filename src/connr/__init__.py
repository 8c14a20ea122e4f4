"""Clusters images without labels: deep clustering methods, ConNR (NeurIPS 2023) among them, as a library and a command."""

import logging
from importlib import import_module
from typing import Any

from connr import deprecated

__version__ = "0.2.0.dev0"

_HOME = {  # imported when asked for: torch takes seconds
    "ConNR": "connr.estimator",
    "ConNRLoss": "connr.integrations.connr_loss",
    "DeepClusterer": "connr.estimator",
}
_PACKAGES = ("clustering", "losses", "methods", "metrics", "neighbours")

__all__ = [
    "ConNR",
    "ConNRLoss",
    "DeepClusterer",
    "__version__",
    "clustering",
    "losses",
    "methods",
    "metrics",
    "neighbours",
]

deprecated.install()
logging.getLogger(__name__).addHandler(logging.NullHandler())  # a library is silent until a program asks


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in _PACKAGES:
        return import_module(f"connr.{name}")
    raise AttributeError(f"module 'connr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
