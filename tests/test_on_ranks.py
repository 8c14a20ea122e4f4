"""A run on several processes is the run of one: the same batches, views, neighbours, filter, sums."""

import pytest
import torch
from conftest import TINY
from processes import on_ranks

from connr import recipe, run
from connr.augment import Augment
from connr.data import ImageSet, open_images
from connr.ranks import ALONE, ProcessGroup
from connr.training import Listener, loop

FRAMEWORKS = {  # each over both stages: 2 epochs of 6 steps alone, 2 with neighbours and the filter
    "byol": "digits",
    "simsiam": "digits-simsiam-connr",
    "moco": "digits-moco-connr",
}
SHORT = (*TINY, "train.epochs=4", "train.group_from=0.5", "kmeans.restarts=3")


def digits(n):
    whole = open_images("digits", 8, 1)
    return ImageSet(whole.images[:n], whole.names[:n], whole.labels[:n], whole.class_names)


def trained(name, ranks=None, settings=(), dtype=torch.float64):
    """Losses of every step, the final weights and assignments of a rank; in double precision, so that they can be equal."""
    ranks, images, losses = ranks or ProcessGroup(), digits(390), []
    update, standardise = loop.update, Augment._standardise

    def noted(*arguments, **named):
        told = update(*arguments, **named)
        losses.append(float(told.loss))
        return told

    r = recipe.load(FRAMEWORKS[name], [*SHORT, *settings])
    job = run.Job(r, images, images.statistics(), images.fingerprint(), None, None, "cpu")
    loop.update, Augment._standardise = noted, lambda *arguments: standardise(*arguments).to(dtype)
    try:
        part = run.prepared(job, ranks)
        part.framework.to(dtype)
        run.train_here(job, part, ranks, Listener())
    finally:
        loop.update, Augment._standardise = update, standardise
    return losses, part.framework.state_dict(), part.state.clusters.assignments, part.records


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_losses_and_assignments_do_not_depend_on_the_number_of_ranks(name):
    torch.set_num_threads(1)
    losses, weights, assignments, records = trained(name, ALONE)
    assert len(losses) == 24
    for count in (2, 3, 4):  # 64 images go into 3 as 21, 21, 22
        ranks = on_ranks(count, trained, name)
        assert ranks[0][0] == pytest.approx(losses, abs=1e-5)  # 1e-13, until rounding swaps two neighbours as near
        assert torch.equal(ranks[0][2], assignments)
        assert ranks[0][3][-1]["feature_std"] == pytest.approx(records[-1]["feature_std"], rel=1e-4)
        for _, others, theirs, _ in ranks:  # on every rank the same bits
            assert torch.equal(theirs, assignments)
            assert all(torch.equal(value, others[key]) for key, value in ranks[0][1].items())
        assert all(torch.allclose(value, weights[key], atol=1e-4) for key, value in ranks[0][1].items())


def test_in_single_precision_they_drift_apart_by_rounding_only():
    """The first losses agree; on a network fresh from its start rounding grows tenfold every few steps."""
    losses, *_ = trained("byol", ALONE, ["train.base_lr=0.01", "train.epochs=2"], torch.float32)
    two, *_ = on_ranks(2, trained, "byol", None, ["train.base_lr=0.01", "train.epochs=2"], torch.float32)[0]
    assert two[:4] == pytest.approx(losses[:4], abs=1e-5)
