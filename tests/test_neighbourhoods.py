from itertools import pairwise

import oracles
import pytest
import torch
from conftest import tied_features, unit_rows
from hypothesis import assume, given
from hypothesis import strategies as st

from connr.neighbours import contextual, itself, local

pytestmark = pytest.mark.usefixtures("either_products")


def check_retrieval(found, scores, similarity, k):
    """Each row starts with its anchor and holds k indices with the scores of the oracle, and its cosines where these are 0."""
    for i, row in enumerate(found.tolist()):
        assert row[0] == i
        assert len(set(row)) == k == len(row)
        by_oracle = oracles.contextual_ranking(scores, similarity, i)[:k]
        assert [scores[i][j] for j in row] == pytest.approx([scores[i][j] for j in by_oracle], abs=1e-9)
        cosines = [[similarity[i][j] for j in one if abs(scores[i][j]) < 1e-10] for one in (row, by_oracle)]
        assert cosines[0] == pytest.approx(cosines[1], abs=1e-9)


def test_itself_is_the_anchor_alone():
    assert itself(torch.randn(5, 3)).tolist() == [[0], [1], [2], [3], [4]]


@given(tied_features(), st.data())
def test_local_is_the_oracle_with_ties(features, data):
    k = data.draw(st.integers(1, len(features)))
    assert local(features, k).tolist() == oracles.local(features.tolist(), k)


@pytest.mark.parametrize("seed", range(5))
def test_local_is_the_oracle_on_random_features(seed):
    features = unit_rows(30, 8, seed)
    assert local(features, 7).tolist() == oracles.local(features.tolist(), 7)


@given(tied_features(), st.data())
def test_contextual_is_the_oracle_with_ties(features, data):
    k, k1, k2 = (data.draw(st.integers(1, len(features)), label=name) for name in ("k", "k1", "k2"))
    alpha, layers = data.draw(st.sampled_from([0.0, 1.0, 2.0, 3.0])), data.draw(st.integers(0, 3))
    # With negative weights a node can cancel out to nothing, which no similarity ranks: look at the sensible half.
    similarity = oracles.cosines(features.tolist())
    for i in range(len(features)):
        for j in oracles.ranking(similarity, i)[:k2]:
            assume(similarity[i][j] >= 0 or alpha % 2 == 0)
    scores = oracles.contextual_similarity(features.tolist(), k1, k2, alpha, layers)
    check_retrieval(contextual(features, k, k1, k2, alpha, layers), scores, similarity, k)


@pytest.mark.parametrize(("k", "k1", "k2", "alpha", "layers"), [(10, 10, 2, 2.0, 2), (20, 30, 10, 2.0, 2), (4, 5, 3, 1.5, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_contextual_is_the_oracle_on_random_features(seed, k, k1, k2, alpha, layers):
    features = (unit_rows(40, 3, seed) + 1).div_(3)
    features = torch.nn.functional.normalize(features, dim=1)
    scores = oracles.contextual_similarity(features.tolist(), k1, k2, alpha, layers)
    found = contextual(features, k, k1, k2, alpha, layers)
    check_retrieval(found, scores, oracles.cosines(features.tolist()), k)
    single = contextual(features.float(), k, k1, k2, alpha, layers)
    assert (single.sort().values == found.sort().values).all(dim=1).float().mean() > 0.9  # float32 may swap near ties


def test_equal_images_find_themselves_first():
    features = torch.ones(6, 1, dtype=torch.float64)
    assert contextual(features, 2, 2, 2)[:, 0].tolist() == list(range(6))
    assert local(features, 3).tolist() == [[0, 1, 2], [1, 0, 2], [2, 0, 1], [3, 0, 1], [4, 0, 1], [5, 0, 1]]


def test_a_fractional_power_of_a_negative_cosine_weighs_nothing():
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    assert contextual(opposite, 2, 1, 2, alpha=1.5).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("name", ["k", "k1", "k2"])
@pytest.mark.parametrize("size", [0, 9])
def test_a_size_outside_the_batch_is_refused(name, size):
    with pytest.raises(ValueError, match=rf"^{name}={size} should be between 1 and .* 8\.$"):
        contextual(unit_rows(8, 4, 0), **{"k": 2, "k1": 2, "k2": 2, name: size})
    with pytest.raises(ValueError, match="k=9"):
        local(unit_rows(8, 4, 0), 9)


@pytest.mark.parametrize("neighbourhood", [lambda x: local(x, k=3), lambda x: contextual(x, k=3, k1=5, k2=2)])
def test_keys_may_have_a_gradient(neighbourhood):
    keys = unit_rows(20, 4, 0).float()
    assert torch.equal(neighbourhood(keys.clone().requires_grad_()), neighbourhood(keys))


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_unrelated_images_come_by_cosine(sparse, precision):
    """With k1 = 3 an image is related to about ten: the others have a score of 0, and the nearest of them come first."""
    features = unit_rows(60, 6, 0)
    found = contextual(features.to(precision), 40, 3, 2, sparse=sparse)
    similarity = oracles.cosines(features.tolist())
    scores = oracles.contextual_similarity(features.tolist(), 3, 2, 2.0, 2)
    assert sum(scores[i][j] == 0 for i, row in enumerate(found.tolist()) for j in row) > 60
    if precision == torch.float64:
        check_retrieval(found, scores, similarity, 40)
    for i, row in enumerate(found.tolist()):
        unrelated = [similarity[i][j] for j in row if scores[i][j] == 0]
        assert all(one >= other - 1e-6 for one, other in pairwise(unrelated))
        left_out = [similarity[i][j] for j in range(60) if j not in row and scores[i][j] == 0]
        assert min(unrelated, default=1.0) >= max(left_out, default=-1.0) - 1e-6
