"""What the tests of several methods share: tiny networks, one step of them, and short runs that stop and go on."""

import os
import signal

import pytest
import torch
from torch import nn

from connr import recipe, runs
from connr.engine import Callback, checkpoint
from connr.errors import Stopped
from connr.methods import Batch, Context, Setup
from connr.registry import METHODS
from connr.run_folder import RunFolder

WIDTH, K, B = 5, 3, 12


def built(name, n_images=40, encoder=None, **settings):
    """A method on rows of WIDTH numbers, whose encoder is the identity, in double precision."""
    kind = METHODS[name]
    return kind(kind.Config(**settings), Setup(encoder or nn.Identity(), WIDTH, K, n_images)).double()


def drawn(*names, seed=0, b=B):
    """A batch of rows by the names of its views."""
    generator = torch.Generator().manual_seed(seed)
    views = {name: torch.randn(b, WIDTH, generator=generator, dtype=torch.float64) for name in names}
    return Batch(views, torch.randperm(40, generator=generator)[:b])


def at(phase, **known):
    """The context of a step of a run of 10 epochs, in epoch 5 if nothing else is said."""
    return Context(**{"phase": phase, "epoch": 5, "epochs": 10, "phase_epoch": 5, "batch_size": B, **known})


def linear(layer, rows):
    """A linear layer by loops."""
    weight, bias = layer.weight.tolist(), layer.bias.tolist()
    return [[sum(w * x for w, x in zip(ws, row, strict=True)) + b for ws, b in zip(weight, bias, strict=True)] for row in rows]


def two_layers(head, rows):
    """Linear, BatchNorm over the batch where there is one, ReLU, Linear, by loops."""
    between = linear(head[0], rows)
    if isinstance(head[1], nn.BatchNorm1d):
        scale, shift, eps = head[1].weight.tolist(), head[1].bias.tolist(), head[1].eps
        for j in range(len(between[0])):
            values = [row[j] for row in between]
            mean = sum(values) / len(values)
            variance = sum((value - mean) ** 2 for value in values) / len(values)
            for row in between:
                row[j] = scale[j] * (row[j] - mean) / (variance + eps) ** 0.5 + shift[j]
    return linear(head[-1], [[max(0.0, x) for x in row] for row in between])


def softmax(rows):
    return torch.tensor(rows, dtype=torch.float64).softmax(dim=1).tolist()


class StopAfter(Callback):
    """Asks the run to stop after so many steps, as a SIGTERM from outside does."""

    def __init__(self, steps):
        self.left = steps

    def on_step_end(self):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


def resumes_and_predicts(images, folder, *settings, name="digits", steps=9):
    """A run of 3 epochs of 6 steps, in one piece and stopped after `steps`: the same weights and assignments; and what the
    saved model says of the images is what the run said."""
    shared = ("train.epochs=3", "train.batch_size=64", "train.evaluate_every=1", "backbone.width=8")
    r = recipe.load(name, (*settings, *shared))
    whole = runs.fit(r, images, RunFolder(folder / "whole"))
    cut = RunFolder(folder / "cut")
    with pytest.raises(Stopped):
        runs.fit(r, images, cut, callback=StopAfter(steps))
    assert checkpoint.position(checkpoint.checkpoints(cut.checkpoints)[-1])[1] > 0  # within an epoch
    resumed = runs.fit(r, images, cut, resume=True)
    for part in ("representation", "assigner"):
        weights, again = (getattr(fitted.model, part).state_dict() for fitted in (whole, resumed))
        assert all(torch.equal(value, again[key]) for key, value in weights.items())
    assert torch.equal(whole.assigned.clusters, resumed.assigned.clusters)
    model = runs.load_model(cut)[1]
    assert torch.equal(model.assign(images.images).clusters, whole.assigned.clusters)
    return whole
