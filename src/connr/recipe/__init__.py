"""A recipe: every number of a run, checked as a whole before anything starts."""

from connr.recipe.reading import RecipeError, backbone, check, keys, load, names, text
from connr.recipe.sections import (
    BYOL,
    MLP,
    Boundary,
    Contextual,
    Everyone,
    Itself,
    Local,
    MoCo,
    Pretrained,
    Recipe,
    ResNet,
    SimSiam,
    SmallResNet,
    Stage,
)

__all__ = [
    "BYOL",
    "MLP",
    "Boundary",
    "Contextual",
    "Everyone",
    "Itself",
    "Local",
    "MoCo",
    "Pretrained",
    "Recipe",
    "RecipeError",
    "ResNet",
    "SimSiam",
    "SmallResNet",
    "Stage",
    "backbone",
    "check",
    "keys",
    "load",
    "names",
    "text",
]
