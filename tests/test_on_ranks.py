"""A run on several processes is the run of one: the same batches, views, neighbours, filter, sums."""

import csv
import shutil

import last_bits
import pytest
import torch
from conftest import TINY
from processes import run_in_processes

from connr import recipe, runs
from connr.data import ImageSet, open_images
from connr.distributed import SINGLE_PROCESS, ProcessGroup
from connr.distributed.batch_norm import SyncedBatchNorm
from connr.engine import Callback, loop
from connr.errors import InputError
from connr.run_folder import RunFolder
from connr.schema import read_epochs
from connr.views import Augment

FRAMEWORKS = {  # each over both stages: 2 epochs of 6 steps alone, 2 with neighbours and the filter
    "byol": "digits",
    "simsiam": "digits-simsiam-connr",
    "moco": "digits-moco-connr",
}
SHORT = (*TINY, "train.epochs=4", "train.group_from=0.5", "kmeans.restarts=3")


def digits(n):
    whole = open_images("digits", 8, 1)
    return ImageSet(whole.images[:n], whole.names[:n], whole.labels[:n], whole.class_names)


def trained(name, ranks=None, settings=(), precision="64-true"):
    """Losses of every step, the final weights and assignments of a rank; in double precision, so that they can be equal.

    Views are made in single precision, each rank its share: they are the same to the last bit on the machine that both run on.
    """
    ranks, images, losses = ranks or ProcessGroup(), digits(390), []
    update, apply = loop.update, Augment.apply

    def noted(*arguments, **named):
        told = update(*arguments, **named)
        losses.append(float(told["loss"]))
        return told

    r = recipe.load(FRAMEWORKS[name], [*SHORT, f"train.precision={precision}", *settings])
    job = runs.Job(r, images, images.statistics(), images.fingerprint(), None, None, "cpu")

    def applied(*arguments):
        with last_bits.paused():
            return apply(*arguments)

    loop.update, Augment.apply = noted, applied
    try:
        part = runs.prepare(job, ranks)
        runs.train_process(job, part, ranks, Callback())
    finally:
        loop.update, Augment.apply = update, apply
    return losses, part.method.state_dict(), part.state.clusters.assignments, part.records


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_losses_and_assignments_do_not_depend_on_the_number_of_ranks(name):
    torch.set_num_threads(1)
    losses, weights, assignments, records = trained(name, SINGLE_PROCESS)
    assert len(losses) == 24
    for count in (2, 3, 4):  # 64 images go into 3 as 21, 21, 22
        ranks = run_in_processes(count, trained, name)
        assert ranks[0][0] == pytest.approx(losses, abs=1e-9)
        assert torch.equal(ranks[0][2], assignments)
        assert ranks[0][3][-1]["feature_std"] == pytest.approx(records[-1]["feature_std"], rel=1e-9)
        for _, others, theirs, _ in ranks:  # on every rank the same bits
            assert torch.equal(theirs, assignments)
            assert all(torch.equal(value, others[key]) for key, value in ranks[0][1].items())
        assert all(torch.allclose(value, weights[key], rtol=0, atol=1e-9) for key, value in ranks[0][1].items())


def test_in_single_precision_they_drift_apart_by_rounding_only():
    """The first losses agree; on a network fresh from its start rounding grows tenfold every few steps."""
    losses, *_ = trained("byol", SINGLE_PROCESS, ["train.base_lr=0.01", "train.epochs=2"], "32-true")
    two, *_ = run_in_processes(2, trained, "byol", None, ["train.base_lr=0.01", "train.epochs=2"], "32-true")[0]
    assert two[:4] == pytest.approx(losses[:4], abs=1e-5)


def of_own_batches(rank_norm):
    ranks = ProcessGroup()
    r = recipe.load("digits", [*SHORT, "train.epochs=2", f"train.batch_norm={'rank' if rank_norm else 'synchronised'}"])
    images = digits(390)
    job = runs.Job(r, images, images.statistics(), images.fingerprint(), None, None, "cpu")
    part = runs.prepare(job, ranks)
    kinds = {type(module) for module in part.method.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)}
    runs.train_process(job, part, ranks, Callback())
    return kinds, part.method.state_dict()


@pytest.mark.parametrize("rank_norm", [True, False])
def test_batch_norm_is_over_all_ranks_or_each_rank_by_itself(rank_norm):
    """Either way every rank ends with one network."""
    (kinds, one), (_, other) = run_in_processes(2, of_own_batches, rank_norm)
    assert (SyncedBatchNorm in kinds) != rank_norm
    assert all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_over_ranks_is_torchs(affine):
    """One rank, against torch: output, gradients, running statistics, and `eval`."""
    theirs = torch.nn.Sequential(torch.nn.BatchNorm2d(3, affine=affine)).double()
    ours = torch.nn.Sequential(SyncedBatchNorm(torch.nn.BatchNorm2d(3, affine=affine), SINGLE_PROCESS)).double()
    if affine:
        for network in (theirs, ours):
            torch.nn.init.constant_(network[0].weight, 1.5)
    results = []
    for network in (theirs, ours):
        rows = torch.randn(6, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
        found = network(rows)
        found.pow(3).sum().backward()
        results.append([found, rows.grad, network[0].running_mean, network[0].running_var, network.eval()(rows)])
    for their, our in zip(*results, strict=True):
        assert torch.allclose(their, our, atol=1e-12)


def far_rows():
    """Seven rows whose mean is 3,000 times their spread; three ranks have 2, 2 and 3 of them, each about another mean."""
    rows = torch.randn(7, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (3000 + rows + torch.tensor([0.0, 0, 1, 1, 2, 2, 2]).view(7, 1, 1, 1)).float()


def far_normed(count):
    ranks, norm = ProcessGroup(), torch.nn.BatchNorm2d(3)
    rows = far_rows()[:count][ranks.share(count)].requires_grad_()
    found = SyncedBatchNorm(norm, ranks)(rows)
    found.pow(3).sum().backward()
    return found.detach(), rows.grad, norm.running_var


@pytest.mark.parametrize("count", [2, 7])  # of 2 rows one of the ranks has none
def test_batch_norm_over_ranks_loses_nothing_far_from_zero(count):
    rows, norm = far_rows()[:count].double().requires_grad_(), torch.nn.BatchNorm2d(3).double()
    found = norm(rows)
    found.pow(3).sum().backward()
    answers = run_in_processes(3, far_normed, count)
    for their, our in ((found, 0), (rows.grad, 1)):
        assert torch.allclose(torch.cat([answer[our] for answer in answers]).double(), their, rtol=1e-3, atol=1e-3)
    assert torch.allclose(answers[0][2].double(), norm.running_var, atol=1e-3)


def fitted(folder, devices, resume=False, settings=SHORT):
    return runs.fit(recipe.load("digits", settings), digits(390), folder, resume=resume, device="cpu", devices=devices)


@pytest.mark.slow
def test_a_run_of_two_processes_and_one_that_changes_their_number(tmp_path):
    """The whole of `run.fit`: the same clusters, a line an epoch, and a resume from 2 to 1."""
    alone, pair, changed = (RunFolder(tmp_path / name) for name in ("alone", "pair", "changed"))
    heard = Heard()
    fitted(alone, 1)
    runs.fit(recipe.load("digits", SHORT), digits(390), pair, device="cpu", devices=2, callback=heard)
    assert heard.steps == 24
    assert [record["epoch"] for record in read_epochs(pair.events)] == [1, 2, 3, 4]
    assert not pair.pixels.exists()
    assert [row["path"] for row in rows(pair)] == [row["path"] for row in rows(alone)]
    shutil.copytree(pair.path, changed.path)
    for path in (changed.assignments, changed.checkpoints / "epoch-00004.safetensors"):
        path.unlink()
    fitted(changed, 1, resume=True)
    same = sum(one["cluster"] == two["cluster"] for one, two in zip(rows(changed), rows(pair), strict=True))
    assert same >= 0.95 * 390  # single precision, one epoch apart
    in_memory = runs.fit(recipe.load("digits", SHORT), digits(390), device="cpu", devices=2)
    assert in_memory.assigned.clusters.tolist() == [int(row["cluster"]) for row in rows(pair)]


class Heard(Callback):
    steps = 0

    def on_step_end(self):
        self.steps += 1


def rows(folder):
    with open(folder.assignments, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_more_devices_than_there_are_is_refused(tmp_path):
    with pytest.raises(InputError, match="devices=0 should be at least 1"):
        fitted(RunFolder(tmp_path / "run"), 0)
    assert not (tmp_path / "run").exists()
