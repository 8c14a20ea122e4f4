"""Encoders: images (b c h w) or rows (b d) -> features (b f); trained from scratch, or brought along by name."""

from connr.backbones.backbone import Backbone, Input, Standardise, features_out
from connr.backbones.by_name import at_hand, expects, open_backbone, own
from connr.backbones.depth import by_depth
from connr.backbones.made import remade
from connr.backbones.mlp import mlp_encoder
from connr.backbones.resnet import resnet, small_resnet

__all__ = [
    "Backbone",
    "Input",
    "Standardise",
    "at_hand",
    "by_depth",
    "expects",
    "features_out",
    "mlp_encoder",
    "open_backbone",
    "own",
    "remade",
    "resnet",
    "small_resnet",
]
