"""Threads of one process against one thread: answers of one shared model, and fits. Prints how many differ; none should.

python benchmarks/threads.py
"""

import argparse
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from connr import ConNR, recipe
from connr.data import open_images
from connr.engine import checkpoint

THREADS = 8


def state(model):
    """A digest of all that a fitted model holds."""
    tensors = {**model.model_.representation.state_dict(), **model.model_.assigner.state_dict()}
    return checkpoint.digest(checkpoint.on_cpu(tensors))


def predictions(model, images, trials):
    """(trials with a wrong answer, trials that changed the model) of 8 threads that predict and transform at once."""
    clusters, features, before = model.predict(images), model.transform(images), state(model)

    def wrong(_):
        return not (np.array_equal(model.predict(images), clusters) and np.array_equal(model.transform(images), features))

    differ = changed = 0
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(trials):
            differ += any(pool.map(wrong, range(THREADS)))
            changed += state(model) != before
    return differ, changed


def fits(images, r, trials, epochs):
    """How many of 4 fits at once, of different seeds, differ from the same fit alone."""

    def fit(seed):
        return state(ConNR(8, r, seed, epochs=epochs).fit(images))

    seeds = range(4)
    alone = [fit(seed) for seed in seeds]
    with ThreadPoolExecutor(len(seeds)) as pool:
        return sum(one != other for _ in range(trials) for one, other in zip(alone, pool.map(fit, seeds), strict=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20)
    arguments = parser.parse_args()
    images = open_images("digits", 8, 1).images[:].squeeze(1).numpy()
    r = recipe.load("digits", ["train.epochs=2"])
    wrong, changed = predictions(ConNR(10, r).fit(images), images, arguments.trials)
    print(
        f"{THREADS} threads that predict on one model: {wrong} of {arguments.trials} trials wrong, {changed} changed the model"
    )
    small = recipe.load("digits", ["train.epochs=2", "backbone.width=8", "train.batch_size=128"])
    differ = fits(images[:600], small, arguments.trials, 2)
    print(f"4 fits at once: {differ} of {4 * arguments.trials} differ from the same fit alone")
