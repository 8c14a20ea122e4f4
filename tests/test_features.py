"""Ready-made features as data: reading them, their views, fits on them and what is done with those."""

import numpy as np
import oracles
import pytest
import torch

from connr import recipe, runs
from connr.data.feature_rows import holds_features, open_features, scaling
from connr.data.neighbouring import WithNeighbours, nearest_rows
from connr.engine import Callback
from connr.errors import InputError
from connr.runs.inputs import build_inputs
from connr.views import FeatureViews


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)


# Reading


def test_arrays_and_every_kind_of_file_give_the_same_rows(rows, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    labels, names = np.arange(30) % 3 - 1, [f"x{i}" for i in range(30)]
    np.save(tmp_path / "x.npy", rows)
    np.savez(tmp_path / "x.npz", features=rows.astype(np.float64), labels=labels, names=names)
    for kind, path in (("list", "x.parquet"), ("fixed", "y.parquet")):
        of = pyarrow.list_(pyarrow.float32(), 5) if kind == "fixed" else pyarrow.list_(pyarrow.float16())
        column = pyarrow.array(list(rows.astype(np.float16) if kind == "list" else rows), of)
        table = pyarrow.table({"features": column, "label": [str(label) for label in labels], "name": names})
        parquet.write_table(table, tmp_path / path)
    assert torch.equal(open_features(rows).images, torch.from_numpy(rows))
    assert torch.equal(open_features(tmp_path / "x.npy").images, torch.from_numpy(rows))
    found = open_features(str(tmp_path / "x.npz"))
    assert torch.equal(found.images, torch.from_numpy(rows))
    assert (found.names, found.labels.tolist(), found.source) == (names, labels.tolist(), str(tmp_path / "x.npz"))
    for path in ("x.parquet", "y.parquet"):
        table = open_features(tmp_path / path)
        assert torch.allclose(table.images, torch.from_numpy(rows), atol=2e-3)
        assert table.class_names == ["-1", "0", "1"]
        assert (table.names, table.labels.tolist()) == (names, (labels + 1).tolist())
    assert all(holds_features(tmp_path / name) for name in ("x.npy", "x.npz", "x.parquet"))
    np.savez(tmp_path / "images.npz", images=np.zeros((2, 8, 8), np.uint8), features=rows[:2])
    assert not holds_features(tmp_path / "images.npz")
    assert not holds_features("digits")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"feature": np.zeros((3, 2))}, "has no `features`; it holds: feature"),
        ({"features": np.zeros(3)}, r"have shape \[3\], should be \[n,d\]"),
        ({"features": np.zeros((0, 3))}, r"have shape \[0, 3\]"),
        ({"features": np.zeros((3, 2), complex)}, "are complex128, should be real numbers"),
        ({"features": np.array([[0, 1], [np.nan, 1], [2, np.inf]])}, "2 rows are not finite in float32, the first is row 1"),
        ({"features": np.array([[1e300]])}, "1 rows are not finite"),
        ({"features": np.zeros((3, 2)), "labels": np.zeros(2, int)}, r"labels .* have shape \[2\], should be \[3\]"),
        ({"features": np.zeros((3, 2)), "names": ["a", "a", "b"]}, "names .* all different"),
        ({"features": np.zeros((1, 2)), "labels": [2], "class_names": ["a"]}, "one for each label"),
        ({"features": np.array([[object()]])}, "cannot be read as plain arrays"),
    ],
)
def test_tables_that_are_none_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(InputError, match=message):
        open_features(tmp_path / "x.npz")


def test_places_that_hold_no_features_are_refused(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    for name in ("x.npz", "x.npy", "x.parquet"):
        (tmp_path / name).write_bytes(b"nothing")
        with pytest.raises(InputError, match="cannot be read"):
            open_features(tmp_path / name)
    parquet.write_table(pyarrow.table({"features": [[1.0], [1.0, 2.0]]}), tmp_path / "ragged.parquet")
    with pytest.raises(InputError, match="not all of one length"):
        open_features(tmp_path / "ragged.parquet")
    with pytest.raises(InputError, match="does not exist"):
        open_features(tmp_path / "nowhere.npz")
    with pytest.raises(InputError, match="is not a file of features"):
        open_features(tmp_path)


def test_columns_are_scaled_together_or_each_by_itself():
    rows = torch.tensor([[0.0, 10.0, 5.0], [2.0, 30.0, 5.0]])
    mean, std = scaling(rows, by_column=True)
    assert mean == [1, 20, 5]
    assert std[:2] == [1, 10]
    assert 0 < std[2] < 0.1
    assert scaling(rows, by_column=False)[1] == pytest.approx([(101 / 3) ** 0.5] * 3)
    assert scaling(torch.ones(4, 2), by_column=False) == ([1, 1], [1, 1])


# Neighbours


def test_nearest_rows_are_those_of_a_loop(rows):
    table = torch.from_numpy(rows)
    found = nearest_rows(table, 4)
    for i in range(30):
        by_distance = sorted((j for j in range(30) if j != i), key=lambda j: ((rows[i] - rows[j]).astype(float) ** 2).sum())
        assert found[i].tolist() == by_distance[:4]
    doubled = nearest_rows(torch.zeros(6, 2), 3)
    assert not (doubled == torch.arange(6).unsqueeze(1)).any()


@pytest.mark.parametrize("views", [0, 2])
def test_a_row_comes_with_its_views_and_its_neighbours(rows, views):
    table = torch.from_numpy(rows)
    cached = torch.stack([table + 10 * view for view in range(1 + views)], dim=1)
    source = WithNeighbours(cached if views else table, table, near := nearest_rows(table, 3))
    assert source.shape == (30, 1 + views + 3, 5)
    for index in (torch.tensor([7, 0, 7]), slice(3, 9)):
        numbers = torch.arange(30)[index].tolist()
        for at, row in zip(numbers, source[index], strict=True):
            assert torch.equal(row[: 1 + views], cached[at])
            assert torch.equal(row[1 + views :], table[near[at]])


@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("neighbourhood", ["euclidean", "local", "contextual"])
def test_a_row_is_mixed_with_the_neighbours_that_the_recipe_names(rows, neighbourhood, by_column):
    """By loops over the normalised rows; those on the sphere are from the centre of all rows, not from 0."""
    scale = "columns" if by_column else "all"
    views = [f"{key}={value}" for key, value in {"neighbours": 4, "k1": 6, "k2": 3, "alpha": 3, "scale": scale}.items()]
    settings = [f"feature_views.{setting}" for setting in (*views, f"neighbourhood={neighbourhood}")]
    r, table = recipe.load("features", settings, clusters=3), open_features(7 + 2 * rows)
    found = build_inputs(r, table, "", None, torch.device("cpu"), Callback()).images.images
    assert isinstance(found, WithNeighbours)
    mean, std = (torch.tensor(one, dtype=torch.float64) for one in scaling(table.images, by_column=by_column))
    normal = ((table.images.double() - mean) / std).numpy()
    sphere = normal / np.linalg.norm(normal, axis=1, keepdims=True)
    if neighbourhood == "euclidean":
        similarity = -np.square(normal[:, None] - normal).sum(axis=2)
    elif neighbourhood == "local":
        similarity = oracles.cosines(sphere)
    else:
        similarity = oracles.contextual_similarity(sphere, 6, 3, 3, 2)
    for i, near in enumerate(found.neighbours.tolist()):
        by_oracle = sorted((j for j in range(30) if j != i), key=lambda j: (-round(similarity[i][j], 5), j))
        assert near == by_oracle[:4]


@pytest.mark.parametrize(
    ("n", "share", "found"), [(1797, 0.2, 35), (200, 0.2, 4), (12, 0.2, 1), (200, None, 35), (12, None, 11)]
)
def test_no_more_neighbours_than_a_share_of_a_cluster(n, share, found):
    r = recipe.load("features", ["feature_views.neighbours=35"], clusters=10)
    r = recipe.check({**r.model_dump(), "feature_views": {**r.feature_views.model_dump(), "cluster_share": share}}, "here")
    views = runs.clamp_to_data(r, n).feature_views
    assert (views.neighbours, views.k1, views.k2) == (found, min(n, r.feature_views.k1), r.feature_views.k2)
    off = recipe.load("features", ["feature_views.neighbours=0"], clusters=10)
    assert runs.clamp_to_data(off, n).feature_views.neighbours == 0


# Views


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_without_strengths_a_view_is_the_standardised_row():
    views = FeatureViews([1.0, 2.0], [2.0, 4.0])
    rows = torch.tensor([[3.0, 2.0], [1.0, 6.0]])
    assert views.normalise(rows).tolist() == [[1, 0], [0, 1]]
    assert views.normalise(rows.unsqueeze(1).half()).tolist() == [[1, 0], [0, 1]]
    assert torch.equal(views.apply(rows, views.draw(2, (2,), generator())), views.normalise(rows))


def test_a_view_is_what_was_drawn_for_it():
    """Each part against a loop over rows, from the drawn parameters; and a share of the draw is the share of the views."""
    rows = torch.randn(8, 1 + 2 + 3, 4, generator=generator())
    mean, std = [0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0]
    views = FeatureViews(mean, std, views=2, neighbours=3, mix=(0.25, 0.75), noise=0.5, dropout=0.3)
    drawn = views.draw(8, rows.shape[1:], generator(1))
    found = views.apply(rows, drawn)
    for i in range(8):
        for c in range(4):
            start = (rows[i, 1 + int(drawn.views[i]), c] - mean[c]) / std[c]
            other = (rows[i, 3 + int(drawn.neighbours[i]), c] - mean[c]) / std[c]
            value = start + drawn.amounts[i] * (other - start) + 0.5 * drawn.noise[i, c]
            assert float(found[i, c]) == pytest.approx(float(value / 0.7 if drawn.kept[i, c] else 0), abs=1e-5)
    assert torch.allclose(views.apply(rows[2:5], drawn.rows(slice(2, 5))), found[2:5])


def test_draws_have_the_distributions_that_are_asked_for():
    views = FeatureViews([0.0] * 50, [1.0] * 50, views=3, neighbours=4, mix=(0.2, 0.6), noise=1.0, dropout=0.25)
    drawn = views.draw(4000, (8, 50), generator())
    assert torch.bincount(drawn.views).tolist() == pytest.approx([4000 / 3] * 3, rel=0.1)
    assert torch.bincount(drawn.neighbours).tolist() == pytest.approx([1000] * 4, rel=0.1)
    assert (float(drawn.amounts.min()), float(drawn.amounts.max())) == pytest.approx((0.2, 0.6), abs=0.01)
    assert float(drawn.noise.std()) == pytest.approx(1, abs=0.01)
    assert float(drawn.kept.float().mean()) == pytest.approx(0.75, abs=0.01)
    again = views.draw(4000, (8, 50), generator())
    assert all(torch.equal(one, other) for one, other in zip(drawn, again, strict=True))


def parquet(path, **columns):
    pq = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    pq.write_table(pyarrow.table(columns), path)
    return path


def test_rows_of_unequal_length_are_refused_though_their_sum_fits(tmp_path):
    ragged = [[1.0, 2.0], [3.0], [4.0, 5.0, 6.0]]
    with pytest.raises(InputError, match="not all of one length"):
        open_features(parquet(tmp_path / "x.parquet", features=ragged))
    import pyarrow

    empty = parquet(tmp_path / "y.parquet", features=pyarrow.array([], pyarrow.list_(pyarrow.float32())))
    with pytest.raises(InputError, match="it has no rows"):
        open_features(empty)


def test_a_missing_label_is_no_class(tmp_path):
    rows = [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    found = open_features(parquet(tmp_path / "x.parquet", features=rows, label=[7, None, 9]))
    assert (found.labels.tolist(), found.class_names) == ([0, -1, 1], ["7", "9"])
    np.savez(tmp_path / "x.npz", features=np.array(rows), labels=np.array([2.0, np.nan, 1.0]))
    found = open_features(tmp_path / "x.npz")
    assert (found.labels.tolist(), found.class_names) == ([1, -1, 0], ["1", "2"])


def test_class_names_are_a_list(tmp_path):
    np.savez(tmp_path / "x.npz", features=np.zeros((3, 2)), labels=np.zeros(3, int), class_names=np.array("abc"))
    with pytest.raises(InputError, match=r"class_names of .* have shape \[\]"):
        open_features(tmp_path / "x.npz")
