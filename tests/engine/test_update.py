"""What a step does beside its arithmetic: nothing in it may wait for the device."""

import shutil
from functools import partial

import pytest
import torch
from short_runs import tiny_recipe
from small_methods import batch_of, context, linear_byol, sizes, small, views
from torch.utils._python_dispatch import TorchDispatchMode

from connr import experiment, recipe, runs
from connr.clustering.kmeans import Clusters
from connr.engine import Callback, optimizers, update
from connr.methods import Batch, Optimizer

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
@pytest.mark.parametrize(("phase", "size"), [("instance", 0), ("group", 0), ("group", 96)])
def test_no_step_of_connr_waits_for_the_device(name, phase, size):
    r = recipe.load(name, [f"method.group.memory={size}"])
    method = experiment.build(r)
    batch = batch_of(tuple(torch.randn(64, 1, 8, 8) for _ in range(2)))
    width = method.features()(batch.views["one"]).shape[1]
    known = context(
        phase, epoch=80, epochs=110, batch_size=64, clusters=Clusters(torch.randn(10, width), torch.arange(64) % 10, 0.0)
    )
    check_waits_for_nothing(method, batch, known)


@pytest.mark.parametrize(
    ("name", "phase", "names"),
    [
        ("iic", "cluster", ("one", "other")),
        ("idfd", "discriminate", ("one",)),
        ("scan", "pretext", ("one", "other")),
        ("scan", "cluster", ("one", "other")),
        ("scan", "self_label", ("weak", "strong")),
    ],
)
def test_no_step_of_another_method_waits_for_the_device(name, phase, names):
    method = experiment.build(tiny_recipe(name), n_images=64)
    batch = Batch({view: torch.randn(64, 1, 8, 8) for view in names}, torch.arange(64))
    check_waits_for_nothing(method, batch, context(phase, phase_epoch=1, batch_size=64))


def check_waits_for_nothing(method, batch, known):
    optimizer = optimizers.optimizer_for(method, Optimizer("sgd", 0.1))
    for _ in range(2):  # the second looks into the keys of the first
        with Watching() as watch:
            update(method, optimizer, batch, known, 0.99)
        assert watch.seen == []
    with Watching() as watch:
        float(next(iter(batch.views.values())).sum())
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
    method = linear_byol().float()
    pair = tuple(view.float() for view in views())
    half = partial(torch.autocast, "cpu", torch.bfloat16)
    with Counting(), half():
        method.embed_both(*pair)
    assert cast.count((5, 5)) == 1
    cast.clear()
    with Counting():
        method.training_step(batch_of(pair), context(autocast=half))
    assert cast.count((5, 5)) == 1


@pytest.mark.parametrize("phase", ["instance", "group"])
def test_a_scaled_loss_has_scaled_gradients_in_its_phase_alone(phase):
    """`group.loss_scale`: SGD without momentum and decay then takes a step of that length."""
    found = {}
    for scale in (1.0, 0.25):
        plain = {"neighbourhood": {"name": "itself"}, "anchors": {"name": "all"}}
        method = small("connr", base={"name": "byol", **sizes("byol")}, group={"loss_scale": scale, **plain})
        before = [p.detach().clone() for p in method.base.predictor.parameters()]
        optimizer = torch.optim.SGD([p for group in method.parameter_groups().values() for p in group], lr=0.1)
        metrics = update(method, optimizer, batch_of(views()), context(phase), 0.9)
        moved = [new.detach() - old for new, old in zip(method.base.predictor.parameters(), before, strict=True)]
        found[scale] = metrics["loss"], metrics["gradient"], moved
    times = 4 if phase == "group" else 1
    assert found[1.0][0] == times * found[0.25][0]
    assert found[1.0][1] == times * found[0.25][1] > 0
    for one, other in zip(found[1.0][2], found[0.25][2], strict=True):
        assert torch.allclose(one, times * other, rtol=1e-9, atol=1e-14)
