"""What a step does beside its arithmetic: nothing in it may wait for the device."""

import shutil
from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from connr import algorithm, experiment, recipe, runs
from connr.clustering.kmeans import Clusters
from connr.engine import Callback, loop, update
from connr.frameworks import BYOL
from connr.key_memory import KeyMemory
from connr.neighbours import itself

WAITS = {"_local_scalar_dense", "nonzero", "equal", "is_nonzero", "_to_cpu", "masked_select", "unique", "item"}


class Watching(TorchDispatchMode):
    """Notes every operation that would make a GPU's host wait."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.__name__.split(".")[0]
        if name in WAITS:
            self.seen.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["digits", "digits-simsiam-connr", "digits-moco-connr"])
@pytest.mark.parametrize(("stage", "size"), [(0, 0), (1, 0), (1, 96)])
def test_no_step_waits_for_the_device(name, stage, size):
    r = recipe.load(name)
    plan, framework = experiment.plan_for(r, [0.5], [0.25]), experiment.build(r)
    optimizer = experiment.optimizer_for(r, framework)
    views = tuple(torch.randn(64, 1, 8, 8) for _ in range(2))
    width = framework.embed(*views)[1].shape[1]
    clusters = Clusters(torch.randn(10, width), torch.arange(64) % 10, 0.0)
    sockets = plan.stages[stage].sockets(plan.t0, clusters)
    memory = KeyMemory(size)
    for _ in range(2):  # the second looks into the keys of the first
        with Watching() as watch:
            update(framework, optimizer, views, torch.arange(64), sockets, 0.99, memory=memory)
        assert watch.seen == []
    with Watching() as watch:
        float(views[0].sum())
    assert watch.seen == ["_local_scalar_dense"]


def test_a_deterministic_run_leaves_torch_as_it_was(few_digits, tiny):
    wanted = []

    class Ears(Callback):
        def on_step_end(self):
            wanted.append(torch.are_deterministic_algorithms_enabled())

    r = recipe.load(tiny, ["train.deterministic=true", "train.epochs=1"])
    runs.fit(r, few_digits, device="cpu", callback=Ears())
    assert set(wanted) == {True}
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of torch's own tracing
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler on a CPU")
def test_a_compiled_run_is_the_same_run_to_rounding(few_digits, tiny):
    plain = runs.fit(recipe.load(tiny, ["train.epochs=1", "train.base_lr=0.01"]), few_digits, device="cpu")
    torch.compiler.reset()
    compiled = runs.fit(
        recipe.load(tiny, ["train.epochs=1", "train.base_lr=0.01", "train.compile=true"]), few_digits, device="cpu"
    )
    assert compiled.history[0]["loss"] == pytest.approx(plain.history[0]["loss"], abs=1e-2)
    assert {key: value.shape for key, value in compiled.model.representation.state_dict().items()} == {
        key: value.shape for key, value in plain.model.representation.state_dict().items()
    }


def test_weights_are_cast_to_half_precision_once_a_step():
    """Autocast forgets its casts when the outermost context ends: that is the step, not one of its two directions."""

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is torch.ops.aten._to_copy.default and (kwargs or {}).get("dtype") == torch.bfloat16:
                cast.append(tuple(args[0].shape))
            return function(*args, **(kwargs or {}))

    cast: list[tuple[int, ...]] = []
    framework = BYOL(torch.nn.Flatten(), torch.nn.Linear(3, 7), torch.nn.Linear(7, 7))
    views, sockets = (torch.ones(4, 3, 1, 1), torch.ones(4, 3, 1, 1)), algorithm.Sockets(itself, algorithm.all_anchors)
    half = partial(torch.autocast, "cpu", torch.bfloat16)
    with Counting(), half():
        framework.embed(*views)
    assert cast.count((7, 7)) == 1
    cast.clear()
    with Counting():
        algorithm.step(framework, views, torch.arange(4), sockets, autocast=half)
    assert cast.count((7, 7)) == 1


def test_a_scaled_loss_has_scaled_gradients_and_is_reported_as_it_is():
    """`group.loss_scale`: SGD without momentum and decay then takes a step of that length."""
    found = {}
    for scale in (1.0, 0.25):
        torch.manual_seed(0)
        framework = BYOL(torch.nn.Flatten(), torch.nn.Linear(3, 7), torch.nn.Linear(7, 7)).double()
        before = framework.predictor.weight.detach().clone()
        optimizer = torch.optim.SGD([p for group in framework.parameter_groups().values() for p in group], lr=0.1)
        views = tuple(torch.randn(4, 3, 1, 1, dtype=torch.float64) for _ in range(2))
        sockets = algorithm.Sockets(itself, algorithm.all_anchors)
        told = update(framework, optimizer, views, torch.arange(4), sockets, 0.9, loss_scale=scale)
        found[scale] = told.loss, told.gradient, framework.predictor.weight.detach() - before
    assert found[1.0][0] == found[0.25][0]
    assert found[1.0][1] == 4 * found[0.25][1] > 0
    assert torch.allclose(found[1.0][2], 4 * found[0.25][2], rtol=1e-12, atol=0)


def test_each_stage_has_the_memory_and_the_scale_of_its_section(few_digits, tiny, monkeypatch):
    seen = []
    plain = loop.update

    def noted(*arguments, **named):
        seen.append((named["memory"].size, named["loss_scale"]))
        return plain(*arguments, **named)

    monkeypatch.setattr(loop, "update", noted)
    runs.fit(recipe.load(tiny, ["group.memory=100", "group.loss_scale=0.5"]), few_digits, device="cpu")
    assert seen == 18 * [(0, 1.0)] + 12 * [(100, 0.5)]  # 3 + 2 epochs of 6 steps
