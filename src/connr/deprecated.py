"""Where the public names of connr 0.1 are now: the old modules can be imported until 0.3, and each use of a name warns."""

import sys
import warnings
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

GONE_IN = "0.3"
MOVED = {  # module of 0.1 -> name -> the module and name of today
    "connr.algorithm": {
        "ConNRLoss": "connr.integrations.connr_loss:ConNRLoss",
        "everyone": "connr.clustering.anchors:all_anchors",
        "group_loss": "connr.losses:group_mean",
    },
    "connr.augment": {
        "LAYOUT": "connr.views:LAYOUT",
        "Augment": "connr.views:Augment",
        "FeatureViews": "connr.views:FeatureViews",
        "Views": "connr.views:Views",
    },
    "connr.boundary": {
        "boundary_ratio": "connr.clustering.boundary:boundary_ratio",
        "keep": "connr.clustering.boundary:keep",
    },
    "connr.frameworks": {},
    "connr.integrations.features": {"extract": "connr.integrations.embeddings:extract"},
    "connr.kmeans": {"Clusters": "connr.clustering.kmeans:Clusters", "kmeans": "connr.clustering.kmeans:kmeans"},
    "connr.neighbourhoods": {
        "contextual": "connr.neighbours:contextual",
        "itself": "connr.neighbours:itself",
        "local": "connr.neighbours:local",
    },
}
REPLACED = {  # names that take other arguments today: what to use instead
    "connr.algorithm.step": "connr.methods.pairs.pair_step",
    "connr.algorithm.off_boundary": "connr.clustering.anchors.Boundary",
    "connr.frameworks.BYOL": "connr.methods.byol.BYOL(config, setup)",
    "connr.frameworks.Framework": "connr.methods.Method",
    "connr.frameworks.MoCo": "connr.methods.moco.MoCo(config, setup)",
    "connr.frameworks.SimSiam": "connr.methods.simsiam.SimSiam(config, setup)",
}
KEYWORDS = {"sigma_too": "inclusive_threshold", "ranks": "communicator"}  # of 0.1 -> of today


class MovedModules(MetaPathFinder, Loader):
    """Finds the modules of 0.1 where there is no file of that name."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        old, names = module.__name__, MOVED[module.__name__]

        def look_up(name: str) -> Any:
            if instead := REPLACED.get(f"{old}.{name}"):
                raise ImportError(f"{old}.{name} takes other arguments since 0.2; use {instead}.")
            if name not in names:
                raise AttributeError(f"module {old!r} has no attribute {name!r}")
            home, _, new = names[name].partition(":")
            warnings.warn(
                f"{old}.{name} is now {home}.{new}; the old name will be removed in {GONE_IN}.",
                DeprecationWarning,
                stacklevel=2,
            )
            found = getattr(import_module(home), new)
            return with_old_keywords(found) if callable(found) and not isinstance(found, type) else found

        module.__doc__ = f"Names of connr 0.1: {', '.join(names)}."
        module.__dict__.update(__getattr__=look_up, __all__=sorted(names))


def with_old_keywords(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which takes its keyword arguments by the names of 0.1 too."""

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        return function(*arguments, **{KEYWORDS.get(key, key): value for key, value in named.items()})

    return call


def install() -> None:
    """Makes the modules of 0.1 importable."""
    sys.meta_path.append(MovedModules())


__all__ = ["install"]
