"""Recipes: the complete, validated configuration of a run."""

from connr.recipe.crowding import crowded
from connr.recipe.plugins import BackboneConfig, MethodConfig
from connr.recipe.reading import RecipeError, backbone, check, keys, load, names, text
from connr.recipe.recipe import Recipe

__all__ = [
    "BackboneConfig",
    "MethodConfig",
    "Recipe",
    "RecipeError",
    "backbone",
    "check",
    "crowded",
    "keys",
    "load",
    "names",
    "text",
]
