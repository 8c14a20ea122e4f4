"""Methods of a few weights on images of 2 x 2 pixels, in float64, and what their steps take."""

from copy import deepcopy

import torch
from torch import nn

from connr.methods import Batch, Context, Setup
from connr.registry import METHODS

SIZES = {"hidden": 8, "out": 4, "bottleneck": 3, "queue": 32, "over_clusters": 7, "sobel": False}


def encoder(batch_norm=False):
    """Images (b 1 2 2) to features (b 6)."""
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 6), *([nn.BatchNorm1d(6)] if batch_norm else []), nn.Tanh())


def sizes(name):
    """The fields of a method's config that make it small."""
    return {key: value for key, value in SIZES.items() if key in METHODS[name].Config.model_fields}


def small(name, seed=0, batch_norm=False, n_images=20, n_clusters=3, **changes):
    """A method by name, with the weights of a seed."""
    torch.manual_seed(seed)
    config = METHODS[name].Config(name=name, **{**sizes(name), **changes})
    return METHODS[name](config, Setup(encoder(batch_norm), 6, n_clusters, n_images)).double()


def linear_byol():
    """BYOL whose heads are single linear layers, so that no row depends on the others of its batch."""
    method = small("byol")
    torch.manual_seed(0)
    method.online, method.predictor = nn.Sequential(encoder(), nn.Linear(6, 5)).double(), nn.Linear(5, 5).double()
    method.target = deepcopy(method.online).requires_grad_(False)
    return method


def views(seed=1, b=12):
    """Two views (b 1 2 2)."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(b, 1, 2, 2, generator=generator, dtype=torch.float64) for _ in range(2))


def batch_of(pair, indices=None):
    """A batch of the views `one` and `other`."""
    one, other = pair
    return Batch({"one": one, "other": other}, torch.arange(len(one)) if indices is None else indices)


def context(phase="instance", epoch=0, epochs=4, phase_epoch=0, batch_size=12, **known):
    """Where a step is."""
    return Context(phase, epoch, epochs, phase_epoch, batch_size, **known)
