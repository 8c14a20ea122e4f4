"""A method on an encoder that changes nothing, so that a step can be worked out from its formula; and short runs of it."""

import signal
from contextlib import suppress

import torch
from torch import nn

from connr import recipe, runs
from connr.data import ImageSet, open_images
from connr.engine import Callback
from connr.errors import Stopped
from connr.methods import Batch, Context, Setup
from connr.registry import METHODS
from connr.run_folder import RunFolder

B, WIDTH, K, N = 6, 4, 3, 12


def built(name, n_clusters=K, width=WIDTH, **numbers):
    """In double precision and training mode; images are rows of `WIDTH` numbers."""
    kind = METHODS[name]
    method = kind(kind.Config(**numbers), Setup(nn.Identity(), width, n_clusters, N)).double().train()
    for buffer in method.buffers():
        if buffer.is_floating_point() and buffer.ndim == 3 and bool((buffer == buffer.flatten()[0]).all()):
            buffer.uniform_()  # a bank that says nothing would hide what is done with it
    return method


def batch(*names, neighbours=None):
    """A view of each name, of the images 3, 4, ..."""
    views = {name: torch.randn(B, WIDTH, dtype=torch.float64) for name in names}
    return Batch(views, torch.arange(3, 3 + B), neighbours)


def context(phase, **known):
    return Context(phase=phase, epoch=4, epochs=9, phase_epoch=1, batch_size=B, **known)


def softmax(rows):
    return rows.softmax(dim=1).tolist()


class StopAfter(Callback):
    def __init__(self, steps):
        self.left = steps

    def on_step_end(self):
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGTERM)


def check_short_run(tmp_path, name, *settings, epochs=3):
    """Three epochs on digits: stopped within each, it ends in the same bits, and predicts what it assigned."""
    whole = open_images("digits", 8, 1)
    images = ImageSet(whole.images[:200], whole.names[:200], whole.labels[:200], whole.class_names)
    tiny = (f"method={name}", "backbone.width=8", "backbone.stages=2", "train.batch_size=50", "train.base_lr=0.1")
    r = recipe.load("digits", [*tiny, f"train.epochs={epochs}", *settings])
    straight = runs.fit(r, images, RunFolder(tmp_path / "whole"), device="cpu")
    folder, resumed = RunFolder(tmp_path / "stopped"), False
    for stop in (2, 5, 3):
        with suppress(Stopped):
            runs.fit(r, images, folder, resume=resumed, device="cpu", callback=StopAfter(stop))
            raise AssertionError("it should have stopped")
        resumed = True
    again = runs.fit(r, images, folder, resume=True, device="cpu")
    for part in ("representation", "assigner"):
        one, other = (getattr(each.model, part).state_dict() for each in (straight, again))
        assert one.keys() == other.keys()
        assert all(torch.equal(value, other[key]) for key, value in one.items())
    assert torch.equal(straight.assigned.clusters, again.assigned.clusters)
    model = runs.load_model(folder, "cpu")[1]
    assert torch.equal(model.assign(images.images).clusters, straight.assigned.clusters)
    return straight
