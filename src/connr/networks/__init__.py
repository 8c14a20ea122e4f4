"""Encoders: images (b c h w) or rows (b d) -> features (b f), from scratch or pretrained."""

from connr.networks.backbone import Backbone, Input, Standardise, features_out
from connr.networks.by_name import expects, open_backbone, own, prefer_if_cached
from connr.networks.depth import parameters_by_depth
from connr.networks.mlp import mlp_encoder
from connr.networks.rebuild import rebuild
from connr.networks.resnet import resnet, small_resnet

__all__ = [
    "Backbone",
    "Input",
    "Standardise",
    "expects",
    "features_out",
    "mlp_encoder",
    "open_backbone",
    "own",
    "parameters_by_depth",
    "prefer_if_cached",
    "rebuild",
    "resnet",
    "small_resnet",
]
