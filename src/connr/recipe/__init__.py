"""A recipe: every number of a run, checked as a whole before anything starts."""

from connr.recipe.crowding import crowded
from connr.recipe.networks import BYOL, MLP, MoCo, Pretrained, ResNet, SimSiam, SmallResNet
from connr.recipe.reading import RecipeError, backbone, check, keys, load, names, text
from connr.recipe.recipe import Recipe
from connr.recipe.stages import AllAnchors, Boundary, Contextual, Itself, Local, Stage

__all__ = [
    "BYOL",
    "MLP",
    "AllAnchors",
    "Boundary",
    "Contextual",
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
    "crowded",
    "keys",
    "load",
    "names",
    "text",
]
