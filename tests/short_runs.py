"""Runs of a few steps on a few digits, of any method: settings that make it small, and its losses and end on any process."""

import torch

from connr import recipe, runs
from connr.data import ImageSet, open_images
from connr.distributed import ProcessGroup
from connr.engine import Callback, Timeline, loop
from connr.experiment import build
from connr.registry import METHODS

SIZES = {  # of any method that has a field of this name
    "hidden": 32,
    "out": 16,
    "bottleneck": 8,
    "queue": 128,
    "heads": 2,
    "over_clusters": 12,
    "start": 0.5,
    "pretext": 1 / 3,
    "cluster": 1 / 3,
    "cluster_batch": 40,
    "self_label_batch": 50,
    "threshold": 0.15,
}
TINY = ("train.batch_size=64", "backbone.width=4", "backbone.stages=2", "kmeans.restarts=2", "train.keep_checkpoints=0")


def digits(n):
    whole = open_images("digits", 8, 1)
    return ImageSet(whole.images[:n], whole.names[:n], whole.labels[:n], whole.class_names)


def section(name, **changes):
    """The section `method` of a small one."""
    fields = METHODS[name].Config.model_fields
    found = {"name": name, **{key: value for key, value in SIZES.items() if key in fields}, **changes}
    if "base" in fields:
        found.setdefault("base", "cc" if name == "divclust" else section("byol"))
    return found


def tiny_recipe(name, *settings, **changes):
    """`digits` by a method, with two epochs or more of each of its phases; settings may change that."""
    r = recipe.load(recipe.load("digits", method=section(name, **changes)), TINY)
    return recipe.load(r, [f"train.epochs={next(n for n in range(4, 100) if has_two_of_each(r, n))}", *settings])


def has_two_of_each(r, epochs):
    segments = timeline(r, 64, epochs).segments
    return len(segments) == len(build(r).phases()) and all(s.end_epoch - s.first_epoch >= 2 for s in segments)


def timeline(r, n, epochs=None):
    """Of a recipe on n images."""
    return Timeline(build(r, n_images=n).phases(), epochs or r.train.epochs, n, min(n, r.train.batch_size))


def trained(r, n=130, communicator=None):
    """On this process: the loss of every step, the state dict at the end, the assignments, and the records of the epochs."""
    torch.set_num_threads(1)
    communicator, images, losses = communicator or ProcessGroup(), digits(n), []
    update = loop.update

    def noted(*arguments, **named):
        metrics = update(*arguments, **named)
        losses.append(float(metrics["loss"]))
        return metrics

    job = runs.Job(r, images, images.statistics(), images.fingerprint(), None, None, "cpu")
    loop.update = noted
    try:
        part = runs.prepare(job, communicator)
        runs.train_process(job, part, communicator, Callback())
    finally:
        loop.update = update
    return losses, part.method.state_dict(), part.state.clusters.assignments, part.records
