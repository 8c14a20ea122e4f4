"""Neighbours among the keys of the batches before: what is in the pool, and that a run with it resumes, shares and repeats."""

import signal
from contextlib import suppress

import oracles
import pytest
import torch
from conftest import unit_rows
from processes import run_in_processes
from safetensors import safe_open
from short_runs import tiny_recipe, trained
from small_methods import batch_of, context, linear_byol, sizes, small, views

from connr import recipe, runs
from connr.clustering.kmeans import Clusters
from connr.distributed import SINGLE_PROCESS
from connr.engine import Callback, checkpoint
from connr.errors import Stopped
from connr.methods.key_memory import KeyMemory
from connr.run_folder import RunFolder

ON = ["group.memory=100", "group.neighbourhood.k=20"]


def connr(**group):
    method = small("connr", base={"name": "byol", **sizes("byol")}, group=group)
    method.base = linear_byol()
    return method


def test_the_pool_is_the_batch_and_after_it_the_newest_keys_of_its_direction():
    memory, batches = KeyMemory(5), [unit_rows(3, 4, seed) for seed in range(6)]
    for at, keys in enumerate(batches[:3]):
        other = unit_rows(3, 4, 10 + at)
        before = [row for past in reversed(batches[:at]) for row in past]
        assert torch.equal(memory.pool(0, keys, 5), torch.stack([*keys, *before[:5]]))
        assert torch.equal(memory.pool(1, other, 5)[:3], other)
    assert [len(keys) for keys in memory.keys] == [5, 5]
    again = KeyMemory(5)
    again.load_state_dict(memory.state_dict())
    assert torch.equal(again.pool(0, batches[3], 2), torch.cat([batches[3], batches[2][:2]]))
    assert len(again.pool(1, batches[3], 2)) == 5
    assert torch.equal(memory.pool(0, batches[4], 0), batches[4])


def test_a_state_of_another_memory_is_refused():
    for wrong in (torch.zeros(2, 6, 4), torch.zeros(3, 5, 4), torch.zeros(2, 5), torch.zeros(3)):
        with pytest.raises(ValueError, match=r"should be \[2, m, d\] with m <= 5"):
            KeyMemory(5).set_extra_state(wrong)


def test_a_step_with_memory_is_the_oracle():
    """Each direction's neighbours are sought among a pool that is written out; anchors are those of the batch alone."""
    neighbourhood = {"name": "contextual", "k": 6, "k1": 5, "k2": 2}
    method, pasts = (
        connr(memory=15, neighbourhood=neighbourhood, anchors={"name": "boundary", "fraction": 0.5, "final": 0.5}),
        [[], []],
    )
    centroids, assignments = unit_rows(3, 5, 4), torch.arange(12) % 3
    known = context("group", epoch=3, clusters=Clusters(centroids, assignments, 0.0))
    for batch in range(3):
        found = method.training_step(batch_of(views(batch)), known)
        expected = []
        with torch.no_grad():
            directions = method.base.embed_both(*views(batch))
        for direction, (queries, keys) in enumerate(directions):
            queries, keys = queries.tolist(), keys.tolist()
            pool = keys + pasts[direction]
            pasts[direction] = pool[:15]
            scores = oracles.contextual_similarity(pool, 5, 2, 2.0, 2)
            neighbours = [oracles.ranking(scores, i)[:6] for i in range(12)]
            kept = oracles.keep(oracles.boundary_ratio(keys, centroids.tolist(), assignments.tolist()), 1, 2)
            expected.append(oracles.group_loss(queries, pool, neighbours, kept))
            assert batch == 0 or any(j >= 12 for near in neighbours for j in near)
        assert found.loss.item() == pytest.approx(sum(expected) / 2, rel=1e-9)
        assert float(found.metrics["kept"]) == 0.5


@pytest.mark.parametrize("name", ["itself", "contextual"])
def test_a_memory_of_nothing_is_the_plain_batch_bit_for_bit(name):
    """The first phase has no memory where the second has one."""
    section = {"name": "contextual", "k": 4, "k1": 4, "k2": 2} if name == "contextual" else {"name": name}
    plain, other = (
        small("connr", base={"name": "byol"} | sizes("byol"), instance={"neighbourhood": section}, group={"memory": m})
        for m in (0, 50)
    )
    assert plain.memory is None
    for batch in range(3):
        losses = [method.training_step(batch_of(views(batch)), context("instance")).loss for method in (plain, other)]
        for loss in losses:
            loss.backward()
        assert losses[0] == losses[1]
    for one, two in zip(plain.parameters(), other.parameters(), strict=True):
        assert one.grad is None or torch.equal(one.grad, two.grad)


def test_oneself_alone_is_not_looked_for_in_the_memory():
    """Eq. 1 whatever there is to remember."""
    settings = {"neighbourhood": {"name": "itself"}, "anchors": {"name": "all"}}
    plain, method = connr(**settings), connr(memory=50, **settings)
    for batch in range(2):
        losses = [each.training_step(batch_of(views(batch)), context("group")).loss for each in (plain, method)]
        assert losses[0] == losses[1]
    assert len(method.memory.keys[0]) == 24


def test_every_epoch_begins_without_memory(few_digits, tiny, monkeypatch):
    """So that no image of a batch is in the pool a second time."""
    sizes, pool = [], KeyMemory.pool

    def noted(memory, direction, keys, size):
        found = pool(memory, direction, keys, size)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(KeyMemory, "pool", noted)
    runs.fit(recipe.load(tiny, ON), few_digits, device="cpu")
    assert sizes == 36 * [64] + 2 * [64, 64, 128, 128, *8 * [164]]  # 3 epochs of 6 steps of 2 directions; then 2 with 100 keys


@pytest.mark.parametrize("steps", [20, 27])  # in the first and in the second epoch of stage 2
def test_a_run_that_was_stopped_within_an_epoch_resumes_bit_for_bit(few_digits, tiny, tmp_path, steps):
    class After(Callback):
        left = steps

        def on_step_end(self):
            self.left -= 1
            if self.left == 0:
                signal.raise_signal(signal.SIGTERM)

    r = recipe.load(tiny, ON)
    whole, folder = runs.fit(r, few_digits, device="cpu"), RunFolder(tmp_path / "run")
    with suppress(Stopped):
        runs.fit(r, few_digits, folder, device="cpu", callback=After())
    latest = checkpoint.checkpoints(folder.checkpoints)[-1]
    assert checkpoint.position(latest) == (steps // 6, steps % 6)
    with safe_open(latest, framework="pt") as file:
        assert file.get_slice("method.memory._extra_state").get_shape() == [2, 100, 16]
    resumed = runs.fit(r, few_digits, folder, resume=True, device="cpu")
    for key, value in whole.model.representation.state_dict().items():
        assert torch.equal(value, resumed.model.representation.state_dict()[key]), key
    assert torch.equal(whole.assigned.clusters, resumed.assigned.clusters)
    plain = runs.fit(recipe.load(r, ["group.memory=0"]), few_digits, device="cpu")
    assert plain.history[2]["loss"] == whole.history[2]["loss"]
    assert plain.history[-1]["loss"] != whole.history[-1]["loss"]


def test_over_processes_the_memory_is_of_the_gathered_keys():
    r = tiny_recipe("connr", "train.precision=64-true", group={"memory": 70})
    losses, weights, assignments, _ = trained(r, 130, SINGLE_PROCESS)
    processes = run_in_processes(2, trained, r, 130)
    for found, theirs, clusters, _ in processes:
        assert found == pytest.approx(losses, abs=1e-9)
        assert torch.equal(clusters, assignments)
        assert all(torch.allclose(value, weights[key], rtol=0, atol=1e-9) for key, value in theirs.items())
    assert all(torch.equal(value, processes[1][1][key]) for key, value in processes[0][1].items())
    assert losses != trained(tiny_recipe("connr", "train.precision=64-true"), 130, SINGLE_PROCESS)[0]
