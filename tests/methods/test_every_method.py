"""Run over the registry: every method is trained, stopped, resumed, saved, loaded and shared among processes."""

import json
import math
import signal
from contextlib import suppress

import pytest
import torch
from processes import run_in_processes
from safetensors.torch import load_file
from short_runs import digits, timeline, tiny_recipe, trained

from connr import runs
from connr.distributed import SINGLE_PROCESS
from connr.engine import Callback, checkpoint
from connr.errors import Stopped
from connr.registry import METHODS
from connr.run_folder import RunFolder
from connr.runs import read_assignments

N = 130
VARIANTS = {name: (name, {}) for name in METHODS}
VARIANTS["connr with memory"] = ("connr", {"group": {"memory": 70}})
PROCESSES = {"iic": (2, 4)}  # 2 for the others


@pytest.fixture(scope="module")
def images():
    return digits(N)


@pytest.fixture(scope="module", params=list(VARIANTS))
def of_method(request):
    name, changes = VARIANTS[request.param]
    return tiny_recipe(name, **changes)


@pytest.fixture(scope="module")
def finished(of_method, images, tmp_path_factory):
    """A run that nothing stopped, and its folder."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "whole")
    return runs.fit(of_method, images, folder, device="cpu"), folder


@pytest.mark.filterwarnings("error::UserWarning")
def test_every_phase_trains(of_method, finished):
    history = finished[0].history
    segments = timeline(of_method, N).segments
    expected = [s.phase.name for s in segments for _ in range(s.end_epoch - s.first_epoch)]
    assert [record["stage"] for record in history] == expected
    assert min(expected.count(name) for name in expected) >= 2
    assert all(math.isfinite(record[key]) for record in history for key in ("loss", "gradient", "lr"))
    assert all(record["gradient"] > 0 for record in history)


def test_predictions_on_the_training_images_are_their_assignments(finished, images):
    fitted, folder = finished
    again = fitted.model.assign(images.images)
    assert torch.equal(again.clusters, fitted.assigned.clusters)
    assert torch.equal(again.ratios, fitted.assigned.ratios)
    assert [row.cluster for row in read_assignments(folder)] == fitted.assigned.clusters.tolist()


def test_what_is_loaded_is_what_was_saved(finished, images):
    fitted, folder = finished
    r, model = runs.load_model(folder, "cpu")
    assert r == fitted.recipe
    for mine, theirs in ((fitted.model.representation, model.representation), (fitted.model.assigner, model.assigner)):
        assert mine.state_dict().keys() == theirs.state_dict().keys()
        assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in mine.state_dict().items())
    found = model.assign(images.images)
    assert torch.equal(found.clusters, fitted.assigned.clusters)
    assert torch.equal(found.distances, fitted.assigned.distances)
    exported, distances = model.assigner(model.features(images.images))
    assert torch.equal(exported.cpu(), fitted.assigned.clusters)
    assert torch.allclose(distances.cpu(), fitted.assigned.distances, atol=1e-6)


class StopAfter(Callback):
    """Asks for a stop after so many steps of the run."""

    def __init__(self, steps):
        self.left = steps

    def on_step_end(self):
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGTERM)


def test_a_run_that_is_stopped_and_resumed_again_and_again_ends_in_the_same_bits(of_method, finished, images, tmp_path):
    """At every boundary between phases, and within the first and the second epoch of each phase."""
    fitted, whole = finished
    segments, folder, done = timeline(of_method, N).segments, RunFolder(tmp_path / "stopped"), 0
    stops = {s.first_step + at for s in segments for at in (0, 1, s.steps_per_epoch + 1)} - {
        0,
        segments[-1].first_step + segments[-1].steps,
    }
    for stop in sorted(stops):
        with suppress(Stopped):
            runs.fit(of_method, images, folder, resume=done > 0, device="cpu", callback=StopAfter(stop - done))
            pytest.fail("it should have stopped")
        assert timeline(of_method, N).position(*checkpoint.position(checkpoint.checkpoints(folder.checkpoints)[-1])) == stop
        done = stop
    resumed = runs.fit(of_method, images, folder, resume=True, device="cpu")
    for mine, theirs in (
        (fitted.model.representation, resumed.model.representation),
        (fitted.model.assigner, resumed.model.assigner),
    ):
        for key, value in mine.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[key]), key
    assert torch.equal(resumed.assigned.clusters, fitted.assigned.clusters)
    last = [load_file(checkpoint.checkpoints(each.checkpoints)[-1]) for each in (whole, folder)]
    assert last[0].keys() == last[1].keys()
    for key, value in last[0].items():  # memories, queues and the optimiser's state as well
        assert torch.equal(value, last[1][key]), key
    lines = [[{**json.loads(line), "seconds": 0} for line in each.events.read_text().splitlines()] for each in (whole, folder)]
    assert lines[0] == lines[1]


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_run_does_not_depend_on_the_number_of_processes(name):
    """In double precision. 64 images go into 4 as they go; those of a phase's own batch and the 130 do not."""
    r = tiny_recipe(name, "train.precision=64-true")
    losses, weights, assignments, records = trained(r, N, SINGLE_PROCESS)
    for count in PROCESSES.get(name, (2,)):
        processes = run_in_processes(count, trained, r, N)
        assert processes[0][0] == pytest.approx(losses, abs=1e-9)
        assert processes[0][3][-1]["feature_std"] == pytest.approx(records[-1]["feature_std"], rel=1e-9)
        for _, others, theirs, _ in processes:  # on every process the same bits
            assert torch.equal(theirs, assignments)
            for key, value in processes[0][1].items():
                assert torch.equal(value, others[key]), key
        for key, value in processes[0][1].items():
            assert torch.allclose(value, weights[key], rtol=0, atol=1e-9), key
