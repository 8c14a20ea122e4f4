"""Neighbours among the keys of the batches before: what is in the pool, and that a run with it resumes, shares and repeats."""

import signal
from contextlib import suppress

import oracles
import pytest
import torch
from conftest import unit_rows
from processes import run_in_processes
from safetensors import safe_open
from test_on_ranks import trained
from torch import nn

from connr import algorithm, recipe, runs
from connr.algorithm import Sockets, all_anchors, off_boundary, step
from connr.distributed import SINGLE_PROCESS
from connr.engine import Callback, checkpoint
from connr.errors import Stopped
from connr.frameworks import BYOL
from connr.key_memory import KeyMemory
from connr.neighbours import contextual, itself
from connr.run_folder import RunFolder

ON = ["group.memory=100", "group.neighbourhood.k=20"]


def framework():
    torch.manual_seed(0)
    return BYOL(nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.Tanh()), nn.Linear(6, 5), nn.Linear(5, 5)).double()


def views(batch, b=12):
    generator = torch.Generator().manual_seed(batch)
    return tuple(torch.randn(b, 1, 2, 2, generator=generator, dtype=torch.float64) for _ in range(2))


def test_the_pool_is_the_batch_and_after_it_the_newest_keys_of_its_direction():
    memory, batches = KeyMemory(5), [unit_rows(3, 4, seed) for seed in range(6)]
    for at, keys in enumerate(batches[:3]):
        other = unit_rows(3, 4, 10 + at)
        before = [row for past in reversed(batches[:at]) for row in past]
        assert torch.equal(memory.pool(0, keys), torch.stack([*keys, *before[:5]]))
        assert torch.equal(memory.pool(1, other)[:3], other)
    assert [len(keys) for keys in memory.keys] == [5, 5]
    assert torch.equal(KeyMemory(2, memory.keys).pool(0, batches[3]), torch.cat([batches[3], batches[2][:2]]))
    assert len(KeyMemory(2, memory.keys).pool(1, batches[3])) == 5
    assert KeyMemory(0).pool(0, batches[0]) is batches[0]


def test_a_step_with_memory_is_the_oracle():
    """Each direction's neighbours are sought among a pool that is written out; anchors are those of the batch alone."""
    network, memory, pasts = framework(), KeyMemory(15), [[], []]
    centroids, assignments = unit_rows(3, 5, 4), torch.arange(12) % 3
    sockets = Sockets(
        lambda pool: contextual(pool, 6, 5, 2),
        lambda keys, ids: off_boundary(keys, ids, centroids=centroids, assignments=assignments, fraction=0.5),
    )
    for batch in range(3):
        found = step(network, views(batch), torch.arange(12), sockets, memory=memory)
        expected = []
        for direction, pair in enumerate((views(batch), views(batch)[::-1])):
            with torch.no_grad():
                queries, keys = (rows.tolist() for rows in network.embed(*pair))
            pool = keys + pasts[direction]
            pasts[direction] = pool[:15]
            scores = oracles.contextual_similarity(pool, 5, 2, 2.0, 2)
            neighbours = [oracles.ranking(scores, i)[:6] for i in range(12)]
            kept = oracles.keep(oracles.boundary_ratio(keys, centroids.tolist(), assignments.tolist()), 1, 2)
            expected.append(oracles.group_loss(queries, pool, neighbours, kept))
            assert batch == 0 or any(j >= 12 for near in neighbours for j in near)
        assert found.loss.item() == pytest.approx(sum(expected) / 2, rel=1e-9)
        assert float(found.kept) == 0.5


@pytest.mark.parametrize(
    "sockets", [Sockets(itself, all_anchors), Sockets(lambda pool: contextual(pool, 4, 4, 2), all_anchors)]
)
def test_a_memory_of_nothing_is_the_plain_batch_bit_for_bit(sockets):
    plain, empty, memory = framework(), framework(), KeyMemory(0)
    for batch in range(3):
        losses = [
            step(plain, views(batch), torch.arange(12), sockets).loss,
            step(empty, views(batch), torch.arange(12), sockets, memory=memory).loss,
        ]
        for loss in losses:
            loss.backward()
        assert losses[0] == losses[1]
    for one, other in zip(plain.parameters(), empty.parameters(), strict=True):
        assert one.grad is None or torch.equal(one.grad, other.grad)


def test_oneself_alone_is_not_looked_for_in_the_memory():
    """Eq. 1 whatever there is to remember."""
    network, memory = framework(), KeyMemory(50)
    for batch in range(2):
        with_memory = step(network, views(batch), torch.arange(12), Sockets(itself, all_anchors), memory=memory).loss
        assert with_memory == algorithm.step(network, views(batch), torch.arange(12), Sockets(itself, all_anchors)).loss


def test_every_epoch_begins_without_memory(few_digits, tiny, monkeypatch):
    """So that no image of a batch is in the pool a second time."""
    sizes, pool = [], KeyMemory.pool

    def noted(memory, direction, keys):
        found = pool(memory, direction, keys)
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
        assert [file.get_slice(f"memory.{direction}").get_shape() for direction in (0, 1)] == 2 * [[100, 16]]
    resumed = runs.fit(r, few_digits, folder, resume=True, device="cpu")
    for key, value in whole.model.representation.state_dict().items():
        assert torch.equal(value, resumed.model.representation.state_dict()[key]), key
    assert torch.equal(whole.assigned.clusters, resumed.assigned.clusters)
    plain = runs.fit(recipe.load(r, ["group.memory=0"]), few_digits, device="cpu")
    assert plain.history[2]["loss"] == whole.history[2]["loss"]
    assert plain.history[-1]["loss"] != whole.history[-1]["loss"]


def test_over_ranks_the_memory_is_of_the_gathered_keys():
    torch.set_num_threads(1)
    losses, weights, assignments, _ = trained("byol", SINGLE_PROCESS, ON)
    ranks = run_in_processes(2, trained, "byol", None, ON)
    for found, theirs, clusters, _ in ranks:
        assert torch.equal(clusters, assignments)
        assert all(torch.allclose(value, weights[key], atol=1e-4) for key, value in theirs.items())
        assert len(found) == len(losses)
    assert ranks[0][0] == pytest.approx(losses, abs=1e-5)
    assert all(torch.equal(value, ranks[1][1][key]) for key, value in ranks[0][1].items())
