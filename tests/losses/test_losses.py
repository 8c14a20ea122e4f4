"""Every loss against its naive loop: values, gradients, single precision, half-precision inputs, large logits."""

import itertools
import math

import pytest
import torch

from connr import losses
from losses.cases import CASES, KINDS, SIZES, Draw

NO_ORACLE = {"next_threshold", "Prototypes", "SelfLabelLoss"}  # a rule on floats, and two results


each_loss = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
each_with_gradient = pytest.mark.parametrize("case", [c for c in CASES if c.differentiable], ids=lambda case: case.name)
each_without_gradient = pytest.mark.parametrize("case", [c for c in CASES if not c.differentiable], ids=lambda case: case.name)


def through_softmax(case, arguments):
    return {name: torch.softmax(value, dim=-1) if name in case.logits else value for name, value in arguments.items()}


def cast(arguments, dtype):
    """Every floating-point argument in another type."""
    floating = {name for name, value in arguments.items() if isinstance(value, torch.Tensor) and value.is_floating_point()}
    return {name: value.to(dtype) if name in floating else value for name, value in arguments.items()}


def flat(result):
    """The result's floats, one after another: a loss may give a tuple."""
    parts = result if isinstance(result, tuple) else (result,)
    return torch.cat([part.reshape(-1).to(torch.float64) for part in parts])


def as_lists(arguments):
    return {name: value.tolist() if isinstance(value, torch.Tensor) else value for name, value in arguments.items()}


def numbers(nested):
    if isinstance(nested, (list, tuple)):
        return [number for item in nested for number in numbers(item)]
    return [float(nested)]


def test_every_loss_has_a_case():
    assert sorted(case.name for case in CASES) == sorted(set(losses.__all__) - NO_ORACLE)


@each_loss
@pytest.mark.parametrize("kind", KINDS)
def test_value_is_that_of_the_loops(case, kind):
    for size, seed in itertools.product(SIZES, range(3)):
        arguments = through_softmax(case, case.inputs(Draw(size, seed, kind)))
        found = flat(case.loss(**arguments))
        expected = torch.tensor(numbers(case.oracle(**as_lists(case.oracle_arguments(arguments)))), dtype=torch.float64)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12, msg=lambda text, size=size: f"{size}: {text}")


@each_with_gradient
def test_gradient_is_that_of_finite_differences(case):
    for size, seed, kind in [((2, 3, 4), 0, "random"), ((6, 4, 3), 1, "random"), ((5, 2, 3), 2, "one kept")]:
        arguments = case.inputs(Draw(size, seed, kind))
        names = [*case.logits, *case.rows]
        leaves = [arguments[name].clone().requires_grad_() for name in names]

        def loss(*values, arguments=arguments, names=names):
            result = case.loss(**through_softmax(case, arguments | dict(zip(names, values, strict=True))))
            parts = result if isinstance(result, tuple) else (result,)
            return tuple(part for part in parts if part.requires_grad)

        assert torch.autograd.gradcheck(loss, leaves)


@each_without_gradient
def test_masks_and_weights_have_no_gradient(case):
    arguments = case.inputs(Draw((6, 4, 3), 0))
    for name in (*case.logits, *case.rows):
        arguments[name].requires_grad_()
    assert not case.loss(**through_softmax(case, arguments)).requires_grad


@each_loss
def test_single_precision_is_near_double(case):
    for size, kind in itertools.product(SIZES, KINDS):
        arguments = through_softmax(case, case.inputs(Draw(size, 5, kind)))
        double, single = case.loss(**arguments), case.loss(**cast(arguments, torch.float32))
        torch.testing.assert_close(flat(single), flat(double), rtol=1e-4, atol=1e-5)
        for part in single if isinstance(single, tuple) else (single,):
            assert part.dtype in (torch.float32, torch.bool)


@each_loss
def test_half_precision_inputs_are_computed_in_single(case):
    for dtype in (torch.bfloat16, torch.float16):
        arguments = cast(through_softmax(case, case.inputs(Draw((9, 4, 5), 3))), dtype)
        half, single = case.loss(**arguments), case.loss(**cast(arguments, torch.float32))
        assert torch.equal(flat(half), flat(single))


@each_loss
def test_large_logits_give_finite_losses_and_gradients(case):
    for size, kind, scale in itertools.product(SIZES, KINDS, [30.0, 1e3, 1e6]):
        arguments = cast(case.inputs(Draw(size, 7, kind, scale)), torch.float32)
        leaves = [arguments[name].requires_grad_() for name in (*case.logits, *(case.rows if case.differentiable else ()))]
        result = flat(case.loss(**through_softmax(case, arguments)))
        assert result.isfinite().all(), (size, kind, scale)
        if case.differentiable and result.requires_grad:
            for gradient in torch.autograd.grad(result.sum(), leaves, allow_unused=True):
                assert gradient is None or gradient.isfinite().all(), (size, kind, scale)


@each_loss
def test_nothing_waits_for_the_device(case):
    """Tensors of the meta device have no values: whatever needs one on the host, `.item()` or an `if`, raises."""
    arguments = case.inputs(Draw((6, 4, 3), 0))
    away = {name: value.to("meta") if isinstance(value, torch.Tensor) else value for name, value in arguments.items()}
    result = case.loss(**through_softmax(case, away))
    for part in result if isinstance(result, tuple) else (result,):
        assert part.device.type == "meta"


def test_zero_rows_give_finite_gradients():
    """A dead projection or a cluster with no mass is a row of zeros, which has no direction."""
    rows = torch.zeros(4, 3, requires_grad=True)
    total = (
        losses.nt_xent(rows, rows)
        + losses.feature_decorrelation(rows)
        + losses.boost_loss(rows, rows, torch.tensor([0, 0, 1, 1]), torch.ones(4, dtype=torch.bool), 2)
    )
    (gradient,) = torch.autograd.grad(total, rows)
    assert gradient.isfinite().all()


def test_confident_neighbours_that_disagree_still_pull():
    """Probabilities of 1e-20 are far below the resolution of float32 near 1; the gradient must not vanish there."""
    logits = torch.tensor([[46.0, 0.0]], requires_grad=True)
    neighbour = torch.softmax(torch.tensor([[0.0, 46.0]]), dim=1)
    losses.neighbour_consistency(torch.softmax(logits, dim=1), neighbour).backward()
    assert logits.grad.abs().max() > 0.1


def test_posterior_makes_the_mixture_loss_the_likelihood():
    """With q from the E-step, minus the bound is -ln sum_k pi phi, and so is its gradient."""
    generator = torch.Generator().manual_seed(0)
    gates, experts = (torch.randn(5, 4, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))
    log_gates = torch.log_softmax(gates, dim=1)
    bound = losses.mixture_loss(log_gates, experts, losses.mixture_posterior(log_gates, experts))
    likelihood = -torch.logsumexp(log_gates + experts, dim=1).mean()
    torch.testing.assert_close(bound, likelihood)
    of_bound, of_likelihood = (torch.autograd.grad(x, (gates, experts), retain_graph=True) for x in (bound, likelihood))
    torch.testing.assert_close(of_bound, of_likelihood)


def test_uniform_and_one_hot_batches_are_the_ends_of_the_entropy():
    uniform, one_hot = torch.full((6, 3), 1 / 3), torch.eye(3)[[1, 1, 1]]
    assert losses.mean_entropy(uniform).item() == pytest.approx(math.log(3))
    assert losses.kl_to_uniform(uniform).item() == pytest.approx(0, abs=1e-6)
    assert losses.mean_entropy(one_hot).item() == pytest.approx(0)
    assert losses.kl_to_uniform(one_hot).item() == pytest.approx(math.log(3))


def test_perfect_balanced_clusters_have_the_most_mutual_information():
    one_hot = torch.eye(4)[[0, 1, 2, 3, 0, 1, 2, 3]]
    assert losses.negative_mutual_information(one_hot, one_hot).item() == pytest.approx(-math.log(4))


def test_the_number_kept_in_all_processes_makes_the_parts_add_up():
    generator = torch.Generator().manual_seed(0)
    pairs, kept = torch.randn(9, 3, generator=generator), torch.rand(9, generator=generator) < 0.5
    parts = [losses.group_mean(pairs[own], kept[own], kept.sum()) for own in (slice(0, 4), slice(4, 9))]
    torch.testing.assert_close(sum(parts), losses.group_mean(pairs, kept))


def test_ties_and_whole_quotas_of_the_most_confident():
    rows = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.2, 0.8]])
    assert losses.top_per_cluster(rows, 1.0, 0.5).tolist() == [True, True, False, True]
    # 0.07 * 100 is 7.000000000000001 in floats: one image a cluster more, if the quota is rounded up as it stands
    assert losses.top_per_cluster(torch.ones(100, 1), 0.07, 0.5).sum() == 7


def test_the_threshold_of_diversity_follows_the_agreement():
    assert losses.next_threshold(0.5, agreement=0.9, target=0.8) == pytest.approx(0.495)
    assert losses.next_threshold(0.5, agreement=0.7, target=0.8) == pytest.approx(0.505)
    assert losses.next_threshold(0.5, agreement=0.8, target=0.8) == pytest.approx(0.505)
    assert losses.next_threshold(0.995, agreement=0.7, target=0.8) == 1.0
    assert losses.next_threshold(0.5, agreement=0.9, target=0.8, rate=0.1) == pytest.approx(0.45)


NONE, FEW = torch.zeros(0, 3), torch.rand(4, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.nt_xent(NONE, NONE), "first has 0 rows"),
        (lambda: losses.nt_xent(FEW, FEW, 0.0), "temperature=0.0"),
        (lambda: losses.info_nce(FEW, FEW[:, None], FEW, -1.0), "temperature=-1.0"),
        (lambda: losses.group_mean(torch.zeros(3, 0), torch.ones(3, dtype=torch.bool)), "k = 0"),
        (lambda: losses.graph_contrast(FEW, NONE, torch.zeros(4, 0)), "candidates has 0 rows"),
        (lambda: losses.graph_contrast(FEW, FEW, torch.eye(4), math.nan), "temperature=nan"),
        (lambda: losses.column_nt_xent(NONE, NONE), "first has 0 rows"),
        (lambda: losses.column_nt_xent(FEW[:, :0], FEW[:, :0]), "first has 0 rows"),
        (lambda: losses.column_cross_entropy(NONE, NONE), "first has 0 rows"),
        (lambda: losses.mean_entropy(NONE), "assignments has 0 rows"),
        (lambda: losses.kl_to_uniform(FEW[:, :0]), "0 rows"),
        (lambda: losses.negative_mutual_information(NONE, NONE), "first has 0 rows"),
        (lambda: losses.neighbour_consistency(NONE, NONE), "assignments has 0 rows"),
        (lambda: losses.confident_cross_entropy(NONE, NONE), "logits has 0 rows"),
        (lambda: losses.top_per_cluster(FEW, 0.0), "ratio=0.0"),
        (lambda: losses.batch_prototypes(FEW, torch.zeros(4, dtype=torch.int64), 0), "n_clusters=0"),
        (lambda: losses.prototype_scattering(NONE, NONE, torch.zeros(0, dtype=torch.int64), 2), "online has 0 rows"),
        (lambda: losses.mixture_loss(NONE, NONE, NONE), "log_gates has 0 rows"),
        (lambda: losses.gate_log_probabilities(FEW, FEW, 0.0), "temperature=0.0"),
        (lambda: losses.feature_decorrelation(NONE), "embeddings has 0 rows"),
        (lambda: losses.instance_discrimination(NONE, FEW, torch.zeros(0, dtype=torch.int64)), "embeddings has 0 rows"),
        (lambda: losses.pair_cross_entropy(NONE, NONE, torch.zeros(0, 0, dtype=torch.bool)), "first has 0 rows"),
        (lambda: losses.label_cross_entropy(NONE, NONE), "predictions has 0 rows"),
        (lambda: losses.diversity_penalty(torch.zeros(0, 4, 3), 0.5), "assignments has 0 rows"),
        (lambda: losses.cluster_contrast(NONE, NONE, FEW, 0.5), "first has 0 rows"),
        (lambda: losses.relaxed_assignment(FEW, FEW, 0.0), "temperature=0.0"),
        (lambda: losses.assignment_divergence(NONE, NONE), "first has 0 rows"),
        (lambda: losses.pull_together(NONE, NONE, torch.zeros(0, dtype=torch.int64), NONE[:, 0] > 0), "first has 0 rows"),
        (lambda: losses.weighted_pointwise_information(NONE, NONE, FEW[0], NONE[:, 0]), "students has 0 rows"),
    ],
)
def test_sizes_and_temperatures_without_meaning_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
