"""Run over the table of frameworks: a new row is tested here as soon as it has an oracle for its pair loss."""

import oracles
import pytest
import torch
from conftest import unit_rows
from lightly.loss import NegativeCosineSimilarity, NTXentLoss
from torch import nn

from connr import algorithm, experiment, recipe
from connr.algorithm import Sockets, all_anchors, step
from connr.frameworks.framework import move_towards
from connr.neighbours import contextual, itself

SECTIONS = {section.model_fields["name"].annotation.__args__[0]: section for section in experiment.FRAMEWORKS}
SMALL = {
    "byol": {"hidden": 8, "out": 4},
    "simsiam": {"hidden": 8, "out": 4, "bottleneck": 3},
    "moco": {"hidden": 8, "out": 4, "queue": 32},
}
PAIR_ORACLES = {
    "byol": lambda framework, query, key: -2 * oracles.cosine(query, key),
    "simsiam": lambda framework, query, key: -oracles.cosine(query, key),
    "moco": lambda framework, query, key: oracles.info_nce(query, key, framework.queue.tolist(), framework.temperature),
}


@pytest.fixture(params=sorted(SECTIONS))
def name(request):
    return request.param


@pytest.fixture
def framework(name):
    """Each framework of the table on images of 2 x 2 pixels, in float64."""
    torch.manual_seed(0)
    section = SECTIONS[name](name=name, **SMALL[name])
    return experiment.FRAMEWORKS[type(section)](section, nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.Tanh()), 6).double()


@pytest.fixture
def views():
    torch.manual_seed(1)
    return torch.randn(12, 1, 2, 2).double(), torch.randn(12, 1, 2, 2).double()


def test_every_framework_has_an_oracle_and_a_size():
    assert set(PAIR_ORACLES) == set(SMALL) == set(SECTIONS)


def test_pair_loss_is_the_oracle(name, framework):
    queries, positives = unit_rows(6, 4, 0) * 3, torch.stack([unit_rows(5, 4, seed) for seed in range(6)])
    found = framework.pair_loss(queries, positives)
    for i in range(6):
        for j in range(5):
            expected = PAIR_ORACLES[name](framework, queries[i].tolist(), positives[i, j].tolist())
            assert float(found[i, j]) == pytest.approx(expected, rel=1e-9)


def test_both_directions_are_two_embeddings(framework, views):
    """Without batch norm nothing remembers how often it was asked, so that sharing passes changes no number."""
    for found, pair in zip(framework.embed_both(*views), (views, views[::-1]), strict=True):
        for one, other in zip(found, framework.embed(*pair), strict=True):
            assert torch.allclose(one, other, rtol=1e-12, atol=1e-14)
            assert one.requires_grad == other.requires_grad


def test_a_view_goes_once_through_each_network_that_takes_it(name):
    """SimSiam's one network makes queries and keys: 2 passes a step and no more; its batch norms move once a view."""
    framework = with_batch_norm(name)
    passes = {part: 0 for part, _ in framework.named_children()}
    for part, network in framework.named_children():
        network.register_forward_hook(lambda *_, part=part: passes.update({part: passes[part] + 1}))
    for steps in (1, 2):
        step(framework, batch_norm_views(steps), torch.arange(12), Sockets(itself, all_anchors))
        framework.after_step(0.9)
        assert passes == dict.fromkeys(passes, 2 * steps)
        norms = {key: int(v) for key, v in framework.state_dict().items() if key.endswith("num_batches_tracked")}
        assert norms == dict.fromkeys(norms, 2 * steps)
        assert norms


def test_simsiams_step_is_the_naive_loop():
    """In training mode: loss, gradients and running statistics of two views, each sent once through the network."""
    ours, theirs = (with_batch_norm("simsiam") for _ in range(2))
    views = batch_norm_views(1)
    found = step(ours, views, torch.arange(12), Sockets(itself, all_anchors)).loss
    found.backward()
    z = [theirs.online(view) for view in views]
    p = [theirs.predictor(one) for one in z]
    expected = -(nn.functional.cosine_similarity(p[0], z[1].detach()) + nn.functional.cosine_similarity(p[1], z[0].detach()))
    (expected.mean() / 2).backward()
    assert found.item() == pytest.approx(expected.mean().item() / 2, rel=1e-12)
    for (key, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-9, atol=1e-14), key
    for (key, one), other in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        assert torch.allclose(one, other, rtol=1e-12), key


def with_batch_norm(name):
    torch.manual_seed(3)
    section = SECTIONS[name](name=name, **SMALL[name])
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh())
    return experiment.FRAMEWORKS[type(section)](section, encoder, 6).double()


def batch_norm_views(seed):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(12, 1, 2, 2, generator=generator, dtype=torch.float64) for _ in range(2))


@pytest.mark.parametrize("plain", [True, False])
def test_a_step_is_the_oracle(name, framework, views, plain):
    """Alone (Eq. 1 and its kin) and with neighbours (Eqs. 8, 16, 17): the mean over anchors, neighbours, directions."""
    sockets = Sockets(itself if plain else lambda keys: contextual(keys, 4, 4, 2), all_anchors)
    with torch.no_grad():
        directions = [framework.embed(*pair) for pair in (views, views[::-1])]
    expected = []
    for queries, keys in directions:
        scores = oracles.contextual_similarity(keys.tolist(), 4, 2, 2.0, 2)
        for i, query in enumerate(queries.tolist()):
            near = [i] if plain else oracles.ranking(scores, i)[:4]
            pairs = [PAIR_ORACLES[name](framework, query, keys[j].tolist()) for j in near]
            expected.append(sum(pairs) / len(pairs))
    found = step(framework, views, torch.arange(12), sockets)
    assert found.loss.item() == pytest.approx(sum(expected) / len(expected), rel=1e-9)


def test_gradients_of_the_pair_loss(framework):
    queries, positives = unit_rows(3, 4, 0).requires_grad_(), torch.stack([unit_rows(2, 4, seed) for seed in range(3)])
    assert torch.autograd.gradcheck(lambda q: framework.pair_loss(q, positives), (queries,))


def test_queries_have_gradients_and_keys_are_unit_and_have_none(framework, views):
    queries, keys = framework.embed(*views)
    assert queries.requires_grad
    assert not keys.requires_grad
    assert torch.allclose(keys.norm(dim=1), torch.ones(12).double())


def test_all_that_is_trained_is_in_a_group_once(framework):
    grouped = [parameter for group in framework.parameter_groups().values() for parameter in group]
    assert len({id(p) for p in grouped}) == len(grouped)
    assert {id(p) for p in grouped} == {id(p) for p in framework.parameters() if p.requires_grad}
    assert set(framework.parameter_groups()) <= set(recipe.Stage().lr_factors.model_dump())


def test_the_representation_gives_a_projection_per_image(framework, views):
    assert framework.representation(views[0]).shape == (12, 4)


def test_state_is_whole(name, framework, views):
    """A second framework with the state of the first gives the same loss after a step of each."""
    torch.manual_seed(5)
    section = SECTIONS[name](name=name, **SMALL[name])
    other = experiment.FRAMEWORKS[type(section)](section, nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.Tanh()), 6).double()
    step(framework, views, torch.arange(12), Sockets(itself, all_anchors))
    framework.after_step(0.9)
    other.load_state_dict(framework.state_dict())
    losses = [step(f, views, torch.arange(12), Sockets(itself, all_anchors)).loss.item() for f in (framework, other)]
    assert losses[0] == losses[1]


def test_the_target_moves_by_its_momentum():
    target, online = nn.Linear(2, 2), nn.Linear(2, 2)
    expected = 0.9 * target.weight.detach() + 0.1 * online.weight.detach()
    move_towards(target, online, 0.9)
    assert torch.allclose(target.weight, expected)


def test_the_queue_holds_the_newest_keys_in_turn():
    section = recipe.MoCo(name="moco", hidden=8, out=4, queue=5)
    moco = experiment.FRAMEWORKS[recipe.MoCo](section, nn.Sequential(nn.Flatten(), nn.Linear(4, 6)), 6)
    before = moco.queue.clone()
    first, second, third = (unit_rows(2, 4, seed).float() for seed in range(3))
    moco.remember(first)
    moco.remember(second)
    assert torch.equal(moco.queue, before)  # negatives of a step are those of the steps before
    moco.after_step(0.9)
    assert torch.equal(moco.queue, torch.cat([first, second, before[4:]]))
    moco.remember(third)
    moco.after_step(0.9)
    assert torch.equal(moco.queue, torch.cat([third[1:], first[1:], second, third[:1]]))


def test_plain_losses_are_lightlys():
    """The same tensors through lightly's losses: 2 x its negative cosine for BYOL, its own for SimSiam and MoCo."""
    queries, keys, queue = unit_rows(16, 4, 0) * 2, unit_rows(16, 4, 1), unit_rows(32, 4, 2)
    everyone_kept = torch.ones(16, dtype=torch.bool)
    found = {}
    for name, section in SECTIONS.items():
        framework = experiment.FRAMEWORKS[section](section(name=name, **SMALL[name]), nn.Linear(6, 6), 6).double()
        if name == "moco":
            framework.queue.copy_(queue)
        found[name] = algorithm.group_loss(framework.pair_loss(queries, keys[itself(keys)]), everyone_kept)
    theirs = NTXentLoss(temperature=recipe.MoCo(name="moco").temperature, memory_bank_size=(32, 4))
    theirs.memory_bank.bank = queue.clone()
    theirs.memory_bank.bank_ptr = torch.zeros(1, dtype=torch.long)
    assert found["moco"].item() == pytest.approx(theirs(queries, keys).item(), rel=1e-9)
    cosine = NegativeCosineSimilarity()(queries, keys).item()
    assert found["simsiam"].item() == pytest.approx(cosine, rel=1e-9)
    assert found["byol"].item() == pytest.approx(2 * cosine, rel=1e-9)
