"""Methods of clustering without labels: the contract (`method`), and one file for each.

A method of your own is a subclass of `Method` in any module, registered with `@register("name")`; or found through the entry
point `connr.methods` of an installed package.
"""

from connr.methods.method import Batch, Context, Method, Needs, Optimizer, Phase, Setup, StepOutput, View
from connr.recipe.plugins import MethodConfig
from connr.registry import METHODS

register = METHODS.register

__all__ = [
    "Batch",
    "Context",
    "Method",
    "MethodConfig",
    "Needs",
    "Optimizer",
    "Phase",
    "Setup",
    "StepOutput",
    "View",
    "register",
]
