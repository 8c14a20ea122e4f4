"""Run over the methods of pairs: a new one is tested here as soon as it has an oracle for its pair loss."""

import oracles
import pytest
import torch
from conftest import unit_rows
from lightly.loss import NegativeCosineSimilarity, NTXentLoss
from small_methods import batch_of, context, small, views
from torch import nn

from connr.clustering.anchors import all_anchors
from connr.losses import group_mean
from connr.methods.method import move_towards
from connr.methods.pairs import LearningRateFactors, PairMethod, pair_step
from connr.neighbours import contextual, itself
from connr.registry import METHODS

# ProPos adds a term of the batch to BYOL's pairs: tests/methods/test_propos.py.
NAMES = [name for name, kind in METHODS.items() if issubclass(kind, PairMethod) and kind.batch_term is PairMethod.batch_term]
PAIR_ORACLES = {
    "byol": lambda method, query, key: -2 * oracles.cosine(query, key),
    "simsiam": lambda method, query, key: -oracles.cosine(query, key),
    "moco": lambda method, query, key: oracles.info_nce(query, key, method.queue.tolist(), method.config.temperature),
}
BOTH = views()


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def method(name):
    return small(name)


def loss_of(method, pair=BOTH, neighbourhood=itself):
    return pair_step(method, batch_of(pair), context(), neighbourhood, all_anchors).loss


def test_every_method_of_pairs_has_an_oracle():
    assert set(PAIR_ORACLES) == set(NAMES)


def test_pair_loss_is_the_oracle(name, method):
    queries, positives = unit_rows(6, 4, 0) * 3, torch.stack([unit_rows(5, 4, seed) for seed in range(6)])
    found = method.pair_loss(queries, positives)
    for i in range(6):
        for j in range(5):
            expected = PAIR_ORACLES[name](method, queries[i].tolist(), positives[i, j].tolist())
            assert float(found[i, j]) == pytest.approx(expected, rel=1e-9)


def test_both_directions_are_one_embedding_and_the_same_of_the_views_reversed(method):
    """Keys are of the other view than queries. Batch norms of a batch remember nothing that changes a number in training."""
    there, back = method.embed_both(*BOTH), method.embed_both(*BOTH[::-1])
    for found, again in zip(there, back[::-1], strict=True):
        for one, other in zip(found, again, strict=True):
            assert torch.allclose(one, other, rtol=1e-12, atol=1e-14)
            assert one.requires_grad == other.requires_grad
    changed = method.embed_both(BOTH[0], BOTH[1] + 1)
    assert torch.equal(changed[0][0], there[0][0])  # queries of the first view
    assert torch.equal(changed[1][1], there[1][1])  # keys of the first view
    assert not torch.equal(changed[0][1], there[0][1])


def test_a_view_goes_once_through_each_network_that_takes_it(name):
    """SimSiam's one network makes queries and keys: 2 passes a step and no more; its batch norms move once a view."""
    method = small(name, 3, batch_norm=True)
    passes = {part: 0 for part, _ in method.named_children()}
    for part, network in method.named_children():
        network.register_forward_hook(lambda *_, part=part: passes.update({part: passes[part] + 1}))
    for steps in (1, 2):
        loss_of(method, views(steps))
        method.after_step(0.9)
        assert passes == dict.fromkeys(passes, 2 * steps)
        norms = {key: int(v) for key, v in method.state_dict().items() if key.endswith("num_batches_tracked")}
        assert norms == dict.fromkeys(norms, 2 * steps)
        assert norms


def test_simsiams_step_is_the_naive_loop():
    """In training mode: loss, gradients and running statistics of two views, each sent once through the network."""
    ours, theirs = (small("simsiam", 3, batch_norm=True) for _ in range(2))
    found = loss_of(ours)
    found.backward()
    z = [theirs.online(view) for view in BOTH]
    p = [theirs.predictor(one) for one in z]
    expected = -(nn.functional.cosine_similarity(p[0], z[1].detach()) + nn.functional.cosine_similarity(p[1], z[0].detach()))
    (expected.mean() / 2).backward()
    assert found.item() == pytest.approx(expected.mean().item() / 2, rel=1e-12)
    for (key, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-9, atol=1e-14), key
    for (key, one), other in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        assert torch.allclose(one, other, rtol=1e-12), key


@pytest.mark.parametrize("plain", [True, False])
def test_a_step_is_the_oracle(name, method, plain):
    """Alone (Eq. 1 and its kin) and with neighbours (Eqs. 8, 16, 17): the mean over anchors, neighbours, directions."""
    with torch.no_grad():
        directions = method.embed_both(*BOTH)
    expected = []
    for queries, keys in directions:
        scores = oracles.contextual_similarity(keys.tolist(), 4, 2, 2.0, 2)
        for i, query in enumerate(queries.tolist()):
            near = [i] if plain else oracles.ranking(scores, i)[:4]
            pairs = [PAIR_ORACLES[name](method, query, keys[j].tolist()) for j in near]
            expected.append(sum(pairs) / len(pairs))
    found = loss_of(method, neighbourhood=itself if plain else lambda keys: contextual(keys, 4, 4, 2))
    assert found.item() == pytest.approx(sum(expected) / len(expected), rel=1e-9)
    if plain:
        assert small(name).training_step(batch_of(BOTH), context()).loss == found


def test_gradients_of_the_pair_loss(method):
    queries, positives = unit_rows(3, 4, 0).requires_grad_(), torch.stack([unit_rows(2, 4, seed) for seed in range(3)])
    assert torch.autograd.gradcheck(lambda q: method.pair_loss(q, positives), (queries,))


def test_queries_have_gradients_and_keys_are_unit_and_have_none(method):
    for queries, keys in method.embed_both(*BOTH):
        assert queries.requires_grad
        assert not keys.requires_grad
        assert torch.allclose(keys.norm(dim=1), torch.ones(12).double())


def test_all_that_is_trained_is_in_a_group_once(method):
    grouped = [parameter for group in method.parameter_groups().values() for parameter in group]
    assert len({id(p) for p in grouped}) == len(grouped)
    assert {id(p) for p in grouped} == {id(p) for p in method.parameters() if p.requires_grad}
    assert set(method.parameter_groups()) <= set(LearningRateFactors().model_dump())


def test_the_features_are_a_projection_per_image(method):
    assert method.features()(BOTH[0]).shape == (12, 4)


def test_state_is_whole(name, method):
    """A second method with the state of the first gives the same loss after a step of each."""
    other = small(name, 5)
    loss_of(method)
    method.after_step(0.9)
    other.load_state_dict(method.state_dict())
    assert loss_of(method) == loss_of(other)


def test_the_target_moves_by_its_momentum():
    target, online = nn.Linear(2, 2), nn.Linear(2, 2)
    expected = 0.9 * target.weight.detach() + 0.1 * online.weight.detach()
    move_towards(target, online, 0.9)
    assert torch.allclose(target.weight, expected)


def test_the_target_has_the_momentum_of_its_place_in_training(name):
    """From the config's momentum at the start to the final one at the end (BYOL's half cosine)."""
    if "target_momentum" not in METHODS[name].Config.model_fields:
        pytest.skip(f"{name} has no target network")
    for progress, momentum in ((0.0, 0.6), (0.5, 0.75), (1.0, 0.9)):
        method = small(name, target_momentum=0.6, final_momentum=0.9)
        loss_of(method)
        before = [p.clone() for p in method.target.parameters()]
        with torch.no_grad():
            for parameter in method.online.parameters():
                parameter.add_(1)
        method.after_step(progress)
        for old, new, online in zip(before, method.target.parameters(), method.online.parameters(), strict=True):
            assert torch.allclose(new, momentum * old + (1 - momentum) * online, rtol=1e-12)


def test_the_queue_holds_the_newest_keys_in_turn():
    moco = small("moco", queue=5)
    before = moco.queue.clone()
    first, second, third = (unit_rows(2, 4, seed) for seed in range(3))
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
    kept, found = torch.ones(16, dtype=torch.bool), {}
    for name in NAMES:
        method = small(name)
        if name == "moco":
            method.queue.copy_(queue)
        found[name] = group_mean(method.pair_loss(queries, keys[itself(keys)]), kept)
    theirs = NTXentLoss(temperature=METHODS["moco"].Config().temperature, memory_bank_size=(32, 4))
    theirs.memory_bank.bank = queue.clone()
    theirs.memory_bank.bank_ptr = torch.zeros(1, dtype=torch.long)
    assert found["moco"].item() == pytest.approx(theirs(queries, keys).item(), rel=1e-9)
    cosine = NegativeCosineSimilarity()(queries, keys).item()
    assert found["simsiam"].item() == pytest.approx(cosine, rel=1e-9)
    assert found["byol"].item() == pytest.approx(2 * cosine, rel=1e-9)
