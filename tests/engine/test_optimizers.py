"""Optimisers of phases: learning rates by role and depth, frozen roles, and their state through a checkpoint's tensors."""

import pytest
import torch
from small_methods import batch_of, context, small, views

from connr import experiment, recipe
from connr.engine import Plan, Timeline, optimizers, update
from connr.engine.loop import start_phase
from connr.engine.state import State
from connr.errors import InputError
from connr.methods import Optimizer, Phase
from connr.schedules import warmup_cosine

KINDS = {"sgd": 0.1, "adam": 0.01, "adamw": 0.01, "rmsprop": 0.01, "lars": 0.1}


def plan(**changes):
    numbers = {
        "optimizer": Optimizer("sgd", 0.4),
        "batch_size": 10,
        "reference_batch": 40,
        "warmup_epochs": 2.0,
        "depths": None,
    }
    whole_set = {"n_clusters": 3, "restarts": 1, "max_iterations": 10, "reseed_empty": True, "evaluate_every": 0, "seed": 0}
    views = experiment.plan_for(recipe.load("digits"), [0.5], [0.25]).views
    return Plan(epochs=12, cosine_reaches_zero=True, views=views, **whole_set, **{**numbers, **changes})


def first_segment(**changes):
    return Timeline([Phase("instance", **changes)], 4, 20, 10).segments[0]


def test_the_learning_rate_is_of_the_role_and_of_the_depth():
    method = small("simsiam")
    first, last = method.backbone[1].weight, method.backbone[1].bias
    optimizer = optimizers.optimizer_for(method, Optimizer("sgd", 1.0), lambda backbone: [(0.25, [first]), (0.5, [last])])
    optimizers.set_learning_rate(optimizer, first_segment(lr_factors={"encoder": 0.1, "predictor": 10}), 2.0)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates[id(first)] == pytest.approx(0.05)
    assert rates[id(last)] == pytest.approx(0.1)
    assert {rates[id(p)] for p in method.predictor.parameters()} == {20.0}
    assert {rates[id(p)] for p in method.online[1].parameters()} == {0.2}  # the projector has the encoder's, without depth
    trained = [id(p) for p in method.parameters() if p.requires_grad]
    assert sorted(rates) == sorted(trained)


def test_a_phase_without_an_optimiser_has_the_recipes_warm_up_and_cosine_over_its_span():
    phases = [
        Phase("one"),
        Phase("own", optimizer=Optimizer("adam", 0.03)),
        Phase("fall", optimizer=Optimizer("adam", 0.2, schedule="cosine")),
    ]
    timeline = Timeline(phases, 12, 20, 10)
    one, own, fall = timeline.segments
    numbers, span = plan(), timeline.optimizer_span(one)
    rates = [optimizers.learning_rate(numbers, one, span, at) for at in range(8)]
    assert rates == pytest.approx([0.1 * warmup_cosine(at, 8, 4) for at in range(8)])  # 0.4 for 40 images is 0.1 for 10
    assert rates[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    unscaled = optimizers.learning_rate(plan(reference_batch=None), one, span, 3)
    assert unscaled == pytest.approx(0.4)
    assert {optimizers.learning_rate(numbers, own, (own,), at) for at in range(8, 16)} == {0.03}
    falling = [optimizers.learning_rate(numbers, fall, (fall,), at) for at in range(16, 24)]
    assert falling == pytest.approx([0.2 * warmup_cosine(at, 8, 0) for at in range(8)])
    assert falling[0] == 0.2 > falling[-1] > 0


def step(method, optimizer, seed):
    update(method, optimizer, batch_of(views(seed)), context(), seed / 10)


@pytest.mark.parametrize("kind", KINDS)
def test_state_goes_through_tensors_and_back(kind):
    """Three steps, the state into tensors and into another method's optimiser, two more steps: the same bits."""
    if kind == "lars":
        pytest.importorskip("timm")
    chosen = Optimizer(kind, KINDS[kind], weight_decay=0.01)
    ours, theirs = small("simsiam"), small("simsiam", 5)
    optimizer = optimizers.optimizer_for(ours, chosen)
    for seed in range(3):
        step(ours, optimizer, seed)
    theirs.load_state_dict(ours.state_dict())
    tensors = {name: value.clone() for name, value in optimizers.state_tensors(optimizer).items()}
    assert tensors
    fresh, restored = (optimizers.optimizer_for(theirs, chosen) for _ in range(2))
    optimizers.restore(restored, tensors)
    for seed in (3, 4):
        step(ours, optimizer, seed)
        step(theirs, restored, seed)
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other), name
    assert not optimizers.state_tensors(fresh)  # which would have gone elsewhere
    found = optimizers.state_tensors(restored)
    assert found.keys() == optimizers.state_tensors(optimizer).keys()


@pytest.mark.parametrize("key", ["99.momentum_buffer", "x.momentum_buffer", "0.", "0.momentum_buffer", "1" * 12 + ".a"])
def test_state_of_another_network_is_refused(key):
    optimizer = optimizers.optimizer_for(small("simsiam"), Optimizer("sgd", 0.1))
    with pytest.raises(InputError, match="does not fit this network"):
        optimizers.restore(optimizer, {key: torch.zeros(3, 3)})


def test_a_factor_of_0_freezes_a_role_and_the_next_phase_frees_it():
    method = small("simsiam")
    frozen = {"predictor": 0}
    one, two = Timeline([Phase("one", lr_factors=frozen), Phase("two")], 4, 20, 10).segments
    optimizer = optimizers.optimizer_for(method, Optimizer("sgd", 0.1, weight_decay=0.1))
    for segment, moves in ((two, True), (one, False), (two, True)):
        optimizers.freeze(optimizer, segment)
        optimizers.set_learning_rate(optimizer, segment, 0.1)
        before = [p.clone() for p in method.predictor.parameters()]
        encoder = [p.clone() for p in method.online.parameters()]
        step(method, optimizer, 1)
        assert all(torch.equal(a, b) != moves for a, b in zip(before, method.predictor.parameters(), strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(encoder, method.online.parameters(), strict=True))
        assert all((p.grad is None) != moves for p in method.predictor.parameters())


def test_what_one_phase_froze_is_trained_by_the_optimiser_of_the_next():
    """Also where a method names its parameters by whether they take a gradient, as the contract does by default."""
    method = small("simsiam")
    everything = {role: [id(p) for p in group] for role, group in method.parameter_groups().items()}
    kind = type(method)
    plain = kind.parameter_groups

    def filtered(self):
        return {role: [p for p in group if p.requires_grad] for role, group in plain(self).items()}

    adam = Optimizer("adam", 0.1)
    timeline = Timeline([Phase("one", lr_factors={"predictor": 0}), Phase("two", optimizer=adam)], 4, 20, 10)
    state, numbers = State(), plan()
    method.parameter_groups = filtered.__get__(method)
    start_phase(timeline.segments[0], timeline, method, numbers, state)
    assert not any(p.requires_grad for p in method.predictor.parameters())
    state.epoch = 2
    start_phase(timeline.segments[1], timeline, method, numbers, state)
    found = {group["role"]: [id(p) for p in group["params"]] for group in state.optimizer.param_groups}
    assert found == everything
    assert isinstance(state.optimizer, torch.optim.Adam)
