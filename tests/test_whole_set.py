"""The sparse neighbourhoods of a whole data set against the dense ones of a batch."""

import sys
from importlib import import_module

import numpy as np
import pytest
import scipy.sparse
import torch
from conftest import tied_features, unit_rows
from hypothesis import assume, given
from hypothesis import strategies as st

from connr.errors import InputError
from connr.neighbours import blockwise, contextual, local, sparse
from connr.neighbours.approximate import nearest_approximately
from connr.neighbours.blockwise import nearest_blockwise
from connr.neighbours.nearest import nearest, similarities

pytestmark = pytest.mark.usefixtures("either_products")


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    """Blocks so small that a few dozen images need many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blockwise, "GROUP", 4)
        patch.setattr(blockwise, "BLOCK", 16)
        patch.setattr(sparse, "PRODUCTS", 500)
        yield


@st.composite
def data_sets(draw, single=False):
    """Unit rows, some of them copies of others. On a grid of 2^-11 in single precision, so that products are exact."""
    n, d, seed = draw(st.integers(1, 70)), draw(st.integers(1, 12)), draw(st.integers(0, 10**6))
    rows = unit_rows(n, d, seed)
    copied = draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=12))
    for to, of in copied:
        rows[to] = rows[of]
    return (rows * 2**11).round_().div_(2**11).float() if single else rows


def exact_cosines(features):
    """In double precision, the same for rows with the same numbers."""
    rows = features.double().numpy()
    _, first, group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return np.einsum("id,jd->ij", rows[first], rows[first])[np.ix_(group.ravel(), group.ravel())]


def check_same(found, expected, values, tolerance):
    """Equal up to ties: each row its anchor first, no index twice, and at each place nearly the value that is expected."""
    found, expected = np.asarray(found), np.asarray(expected)
    n, m = found.shape
    assert (found[:, 0] == np.arange(n)).all()
    assert all(len(set(row)) == m for row in found.tolist())
    here = np.arange(n)[:, None]
    np.testing.assert_allclose(values[here, found], values[here, expected], rtol=0, atol=tolerance)


def check_copies(features, found):
    """Of rows with the same numbers, the anchor aside, the first ones are found, in order of index."""
    group = np.unique(features.numpy(), axis=0, return_inverse=True)[1].ravel()
    for i, row in enumerate(found.tolist()):
        for one in set(group[row[1:]].tolist()):
            copies = [j for j in (group == one).nonzero()[0].tolist() if j != i]
            there = [j for j in row[1:] if group[j] == one]
            assert there == copies[: len(there)]


TOLERANCE = {torch.float32: 2**-19, torch.float64: 2**-39}  # similarities are rounded to half of that


@given(st.one_of(data_sets(), data_sets(single=True), tied_features(largest=60)), st.data())
def test_blockwise_is_the_whole_matrix_ranked(features, data):
    m = data.draw(st.integers(1, len(features)))
    found, exact, tolerance = nearest_blockwise(features, m), exact_cosines(features), TOLERANCE[features.dtype]
    dense = nearest(similarities(features), m)
    check_same(found.indices, dense, exact, tolerance)
    check_copies(features, found.indices)
    check_copies(features, dense)
    np.fill_diagonal(exact, 1)
    by_index = np.take_along_axis(exact, found.indices.numpy(), axis=1)
    np.testing.assert_allclose(found.similarities.numpy(), by_index, rtol=0, atol=tolerance)


@given(st.integers(0, 10**6), st.integers(1, 9), st.sampled_from([torch.float32, torch.float64]))
def test_copies_of_rows_tie_by_index_whatever_the_products(seed, different, precision):
    """Also rows of length 0, that are not their own nearest, and so many copies that a row is not among the first of them."""
    generator = torch.Generator().manual_seed(seed)
    rows = unit_rows(different, 5, seed).to(precision)
    rows[0] *= seed % 2
    features = rows[torch.randint(different, (50,), generator=generator)]
    m = int(torch.randint(1, 51, (), generator=generator))
    dense, found = nearest(similarities(features), m), nearest_blockwise(features, m).indices
    check_copies(features, dense)
    check_copies(features, found)
    check_same(found, dense, exact_cosines(features), TOLERANCE[precision])


@pytest.mark.parametrize("falling", [False, True])
def test_an_order_that_is_the_worst_for_blocks(falling):
    """Each block has nearer rows than those before it."""
    angles = torch.linspace(0, 3, 90, dtype=torch.float64)
    features = torch.stack([angles.cos(), angles.sin()], dim=1)
    features = features.flip(0) if falling else features
    found, dense = nearest_blockwise(features, 20).indices, nearest(similarities(features), 20)
    check_same(found, dense, exact_cosines(features), TOLERANCE[torch.float64])


def test_all_the_same():
    features = torch.full((70, 4), 0.5, dtype=torch.float64)
    assert nearest_blockwise(features, 5).indices[[0, 3, 69]].tolist() == [[0, 1, 2, 3, 4], [3, 0, 1, 2, 4], [69, 0, 1, 2, 3]]
    assert contextual(features, 5, sparse=True).tolist() == contextual(features, 5, sparse=False).tolist()


@given(st.one_of(data_sets(), tied_features(largest=60)), st.data())
def test_sparse_contextual_is_the_dense_one(features, data):
    k, k1, k2 = (data.draw(st.integers(1, len(features)), label=name) for name in ("k", "k1", "k2"))
    k1, k2 = min(k1, data.draw(st.sampled_from([3, 70]))), min(k2, data.draw(st.sampled_from([1, 3, 70])))
    alpha, layers = data.draw(st.sampled_from([0.0, 1.0, 1.5, 2.0, 3.0])), data.draw(st.integers(0, 3))
    cosines = exact_cosines(features)
    order = by_rank(cosines)
    # With negative weights a node can cancel out to nothing but rounding, which no similarity ranks.
    assume(alpha != int(alpha) or alpha % 2 == 0 or (np.take_along_axis(cosines, order[:, :k2], axis=1) >= 0).all())
    scores = scores_of(cosines, order, k1, k2, alpha, layers)
    expected = by_rank(scores + np.where(scores < 1e-10, cosines - 2, 0))[:, :k]
    for sparse_form in (False, True):
        found = contextual(features, k, k1, k2, alpha, layers, sparse=sparse_form)
        check_same(found, expected, scores, 1e-9)
        check_same(found, expected, np.where(scores < 1e-10, cosines, 0), 1e-9)


def by_rank(similarity):
    """All columns of each row, the row itself first, then by falling similarity to 11 digits, ties by index."""
    rounded = similarity.round(11)
    np.fill_diagonal(rounded, np.inf)
    return np.argsort(-rounded, axis=1, kind="stable")


def scores_of(cosines, order, k1, k2, alpha, layers):
    """H H^T of Eqs. 3-7 in double precision, with whole matrices."""
    n = len(cosines)
    relations, edges = np.zeros((n, n)), np.zeros((n, n))
    np.put_along_axis(relations, order[:, :k1], 1.0, axis=1)
    weights = np.take_along_axis(cosines.round(11).clip(0 if alpha != int(alpha) else None), order[:, :k2], axis=1) ** alpha
    weights[:, 0] = 1
    np.put_along_axis(edges, order[:, :k2], weights, axis=1)
    nodes = (relations + relations.T) / 2
    for _ in range(layers):
        nodes = edges @ (nodes + nodes.T)
        nodes /= np.linalg.norm(nodes, axis=1, keepdims=True)
    return nodes @ nodes.T


@pytest.mark.parametrize("layers", [0, 2])
def test_in_single_precision_only_near_ties_may_differ(layers):
    features = unit_rows(300, 16, 0).float()
    dense, found = (contextual(features, 10, layers=layers, sparse=way) for way in (False, True))
    assert (dense.sort().values == found.sort().values).all(dim=1).float().mean() > 0.99


def test_sparse_is_taken_where_it_is_sooner(monkeypatch):
    module, taken = import_module("connr.neighbours.contextual"), []
    real = module.refine
    monkeypatch.setattr(module, "refine", lambda found, *rest: taken.append(len(found)) or real(found, *rest))
    for n in (256, 899, 901):
        contextual(unit_rows(n, 4, 0))
    assert taken == [901]
    contextual(unit_rows(1000, 4, 0), layers=3)
    assert taken == [901]
    monkeypatch.setattr(module, "DENSE_TO", 999)
    contextual(unit_rows(1000, 4, 0), layers=3)
    assert taken == [901, 1000]


def test_local_of_many_is_local_of_few(monkeypatch):
    features = unit_rows(70, 8, 0)
    dense = local(features, 7)
    monkeypatch.setattr(import_module("connr.neighbours.local"), "BLOCK", 10)
    check_same(local(features, 7), dense, exact_cosines(features), TOLERANCE[torch.float64])


def scores(rows):
    return scipy.sparse.csr_array(np.array(rows, dtype=float))


def by_index(columns):
    """Unrelated images as they come if all have the same cosine."""
    return lambda _, others, count: np.setdiff1d(np.arange(columns), others)[:count]


def test_scores_below_zero_come_after_those_that_are_not_stored():
    rows = scores([[1, -0.5, 0, 0.25, -0.25, 0]])
    found = sparse.best(rows, 6, np.array([0]), np.arange(6), 20, by_index(6))
    assert found.tolist() == [[0, 3, 2, 5, 4, 1]]


def test_a_score_that_rounds_to_zero_ties_with_those_that_are_not_stored():
    found = sparse.best(scores([[1, 0, 2**-30, 0.5]]), 4, np.array([0]), np.arange(4), 20, by_index(4))
    assert found.tolist() == [[0, 3, 1, 2]]


def test_ties_go_by_name_whatever_the_order_of_columns():
    found = sparse.best(scores([[0.5, 0.5, 1, 0.5]]), 3, np.array([7]), np.array([9, 4, 7, 2]), 20, by_index(4))
    assert found.tolist() == [[7, 2, 4]]


def test_an_approximate_search_finds_nearly_all():
    pytest.importorskip("faiss")
    features = unit_rows(500, 8, 0).float()
    features[:4] = features[0]  # copies: each its own first all the same
    found, exact = nearest_approximately(features, 10), nearest_blockwise(features, 10)
    assert torch.equal(found.indices[:, 0], torch.arange(500))
    assert (found.similarities[:, 0] == 1).all()
    right = [len(set(a) & set(b)) for a, b in zip(found.indices.tolist(), exact.indices.tolist(), strict=True)]
    assert sum(right) / 5000 > 0.95
    whole = contextual(features, 5, sparse=True, search=nearest_approximately)
    assert (whole.sort().values == contextual(features, 5).sort().values).all(dim=1).float().mean() > 0.8
    few = nearest_approximately(features[:3], 3)
    assert few.indices.sort().values.tolist() == [[0, 1, 2]] * 3


def test_without_faiss_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match=r'pip install "connr\[ann\]"'):
        nearest_approximately(unit_rows(5, 3, 0), 2)
