"""A recipe: every number of a run, checked as a whole before anything starts."""

from connr.recipe.reading import RecipeError, check, keys, load, names, text
from connr.recipe.sections import (
    BYOL,
    Boundary,
    Contextual,
    Everyone,
    Itself,
    Local,
    MoCo,
    Recipe,
    ResNet,
    SimSiam,
    SmallResNet,
    Stage,
)

__all__ = [
    "BYOL",
    "Boundary",
    "Contextual",
    "Everyone",
    "Itself",
    "Local",
    "MoCo",
    "Recipe",
    "RecipeError",
    "ResNet",
    "SimSiam",
    "SmallResNet",
    "Stage",
    "check",
    "keys",
    "load",
    "names",
    "text",
]
