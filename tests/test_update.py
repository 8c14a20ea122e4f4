"""What a step does beside its arithmetic: nothing in it may wait for the device."""

import shutil
from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from connr import algorithm, experiment, recipe, run
from connr.frameworks import BYOL
from connr.kmeans import Clusters
from connr.neighbourhoods import itself
from connr.training import Listener, update

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
@pytest.mark.parametrize("stage", [0, 1])
def test_no_step_waits_for_the_device(name, stage):
    r = recipe.load(name)
    plan, framework = experiment.plan_for(r, [0.5], [0.25]), experiment.build(r)
    optimizer = experiment.optimizer_for(r, framework)
    views = tuple(torch.randn(64, 1, 8, 8) for _ in range(2))
    width = framework.embed(*views)[1].shape[1]
    clusters = Clusters(torch.randn(10, width), torch.arange(64) % 10, 0.0)
    sockets = plan.stages[stage].sockets(plan.t0, clusters)
    with Watching() as watch:
        update(framework, optimizer, views, torch.arange(64), sockets, 0.99)
    assert watch.seen == []
    with Watching() as watch:
        float(views[0].sum())
    assert watch.seen == ["_local_scalar_dense"]


def test_a_deterministic_run_leaves_torch_as_it_was(few_digits, tiny):
    wanted = []

    class Ears(Listener):
        def stepped(self):
            wanted.append(torch.are_deterministic_algorithms_enabled())

    r = recipe.load(tiny, ["train.deterministic=true", "train.epochs=1"])
    run.fit(r, few_digits, device="cpu", listener=Ears())
    assert set(wanted) == {True}
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of torch's own tracing
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler on a CPU")
def test_a_compiled_run_is_the_same_run_to_rounding(few_digits, tiny):
    plain = run.fit(recipe.load(tiny, ["train.epochs=1", "train.base_lr=0.01"]), few_digits, device="cpu")
    torch.compiler.reset()
    compiled = run.fit(
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
    views, sockets = (torch.ones(4, 3, 1, 1), torch.ones(4, 3, 1, 1)), algorithm.Sockets(itself, algorithm.everyone)
    with Counting():
        algorithm.concordance(
            framework, *views, torch.arange(4), sockets, autocast=partial(torch.autocast, "cpu", torch.bfloat16)
        )
    assert cast.count((7, 7)) == 1
    cast.clear()
    with Counting():
        algorithm.step(framework, views, torch.arange(4), sockets, autocast=partial(torch.autocast, "cpu", torch.bfloat16))
    assert cast.count((7, 7)) == 1
