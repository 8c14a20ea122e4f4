"""A recipe: every number of a run, checked as a whole before anything starts."""

from connr.recipe.reading import RecipeError, check, keys, load, names, text
from connr.recipe.sections import (
    BYOL,
    Boundary,
    Contextual,
    Everyone,
    Itself,
    Local,
    Recipe,
    ResNet,
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
    "Recipe",
    "RecipeError",
    "ResNet",
    "SmallResNet",
    "Stage",
    "check",
    "keys",
    "load",
    "names",
    "text",
]
