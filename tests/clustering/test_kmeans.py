import last_bits
import numpy as np
import oracles
import pytest
import torch
from conftest import tied_features, unit_rows
from hypothesis import given
from hypothesis import strategies as st
from processes import run_in_processes
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, make_blobs

import connr.clustering.kmeans as kmeans_module
from connr.clustering.kmeans import assignment, exact, kmeans, lloyd, start
from connr.clustering.kmeans.assignment import Assignment, nearest_two
from connr.clustering.kmeans.exact import on_grid
from connr.clustering.kmeans.lloyd import Lloyd
from connr.clustering.kmeans.start import plus_plus
from connr.distributed import ProcessGroup


def datasets():
    """20 data sets: blobs that touch and that do not, the digits, uniform noise, points on the sphere."""
    for index in range(20):
        rng = np.random.default_rng(index)
        if index % 4 == 0:
            x, k = make_blobs(600, 2 + index, centers=8, cluster_std=0.5 + index / 4, random_state=index)[0], 8
        elif index % 4 == 1:
            x, k = load_digits().data[rng.permutation(1797)[:700]], 10
        elif index % 4 == 2:
            x, k = rng.random((500, 2 + index)), 5
        else:
            x, k = unit_rows(600, 4 + index, index).numpy(), 12
        yield pytest.param(x, k, id=f"{index}")


@pytest.mark.parametrize(("x", "k"), list(datasets()))
def test_inertia_is_within_a_hundredth_of_scikit_learn(x, k):
    theirs = KMeans(k, n_init=10, random_state=0).fit(x)
    ours = kmeans(torch.from_numpy(x).float(), k)
    assert ours.inertia <= theirs.inertia_ * 1.01
    distances = ((x[:, None] - ours.centroids.numpy()[None]) ** 2).sum(axis=2)
    assert ours.inertia == pytest.approx(distances.min(axis=1).sum(), rel=1e-4)
    assert (distances[np.arange(len(x)), ours.assignments] <= distances.min(axis=1) * (1 + 1e-4) + 1e-5).all()


def iterate(points, centroids, **options):
    return Lloyd(on_grid(points.clone(), len(points)), "euclidean", **options).step(centroids, torch.arange(len(centroids)))


def check_nearest(points, centroids, assignments):
    """No centroid is nearer than the assigned one, up to what rounding can do to a squared distance."""
    points, centroids, eps = points.double(), centroids.double(), torch.finfo(points.dtype).eps
    squared = (points.unsqueeze(1) - centroids).square().sum(dim=2)
    lengths = (points.norm(dim=1, keepdim=True) + centroids.norm(dim=1)).amax(dim=1)
    own = squared.gather(1, assignments.unsqueeze(1)).squeeze(1)
    assert (own <= squared.amin(dim=1) + 2 * (points.shape[1] + 4) * eps * lengths.square()).all()


def distance_to(points, i, centroids, assignments):
    return oracles.squared(points[i].tolist(), centroids[assignments[i]].tolist())


@given(tied_features(smallest=2, largest=15), st.data())
def test_an_iteration_is_the_oracle(points, data):
    k = data.draw(st.integers(1, min(4, len(points))))
    starts = [data.draw(st.lists(st.integers(0, len(points) - 1), min_size=k, max_size=k)) for _ in range(2)]
    centroids = points[torch.tensor(starts)] + torch.arange(k).view(1, k, 1) * 2**-6  # exact, and no two the same
    new, (assignments, _, _) = iterate(points, centroids), nearest_two(points, centroids, points.square().sum(dim=1))
    for restart in range(2):
        check_nearest(points, centroids[restart], assignments[restart])
        expected_assignments = assignments[restart].tolist()
        expected = oracles.lloyd(points.tolist(), centroids[restart].tolist(), expected_assignments)
        filled = torch.tensor([c in expected_assignments for c in range(k)])
        assert torch.allclose(new[restart][filled], torch.tensor(expected, dtype=torch.float64)[filled])
        far = sorted(
            (distance_to(points, i, centroids[restart], expected_assignments) for i in range(len(points))), reverse=True
        )
        for distance, cluster in zip(far, (~filled).nonzero().flatten().tolist(), strict=False):
            at = new[restart, cluster].tolist()  # of equally far points, any
            taken = [
                distance_to(points, i, centroids[restart], expected_assignments)
                for i in range(len(points))
                if points[i].tolist() == at
            ]
            assert distance in taken if distance > 0 else at == centroids[restart, cluster].tolist()


def test_empty_clusters_are_reseeded_at_the_farthest_points():
    points = torch.tensor([[0.0], [0.01], [0.02], [0.5], [0.9]])
    centroids = torch.tensor([[[0.01], [10.0], [20.0]]])
    assert iterate(points, centroids).flatten().tolist() == pytest.approx([0.286, 0.9, 0.5])


def test_the_sums_follow_the_points_that_change_their_cluster():
    points = on_grid(unit_rows(200, 3, 0), 200)
    iteration, restart = Lloyd(points, "euclidean"), torch.tensor([0])
    centroids = points[:5].unsqueeze(0)
    for _ in range(10):
        after = iteration.step(centroids, restart)
        assert torch.equal(after, iterate(points, centroids))
        centroids = after


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("k", "step"), [(1, 0.1), (2, 0.3), (9, 1e-3), (9, 0.05), (9, 2.0)])
def test_bounds_rule_out_no_centroid_that_is_nearest(k, step, dtype, monkeypatch):
    """Centroids that move a little, a lot, onto each other, and some restarts not at all: each point has its nearest."""
    generator, looked_at = torch.Generator().manual_seed(k), []
    points = torch.randn(400, 5, generator=generator, dtype=dtype).round(decimals=1)  # some as near to one as to another
    centroids = torch.randn(3, k, 5, generator=generator, dtype=dtype).round(decimals=1)
    assign = Assignment(points)
    monkeypatch.setattr(assignment, "nearest_two", lambda x, *others: looked_at.append(len(x)) or nearest_two(x, *others))
    for turn in range(12):
        which = torch.arange(3) if turn % 3 == 0 else torch.tensor([2, 0])
        for restart, members in zip(which.tolist(), assign(centroids[which], which), strict=True):
            check_nearest(points, centroids[restart], members)
        shift = step * torch.randn(3, k, 5, generator=generator, dtype=dtype)
        centroids = torch.where(torch.rand(3, k, 1, generator=generator) < 0.5, centroids + shift, centroids)
        if turn == 6 and k > 1:
            centroids[:, 1] = centroids[:, 0]
    if step == 1e-3:
        assert sum(looked_at[1:]) < 11 * 400 / 2  # though of two centroids in one place, each point there is looked at


def test_sums_without_doubles_are_made_anew(monkeypatch):
    """As on MPS; also when some restarts have ended."""
    points = unit_rows(300, 4, 0).float()
    expected = kmeans(points, 6)
    for module in (lloyd, kmeans_module, exact, start):
        if hasattr(module, "precise"):
            monkeypatch.setattr(module, "precise", lambda _: torch.float32)
    assert kmeans(points, 6).inertia == pytest.approx(expected.inertia, rel=1e-4)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("k", [1, 2, 3])
def test_small_problems_are_solved_exactly(seed, k):
    points = torch.randn(7, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert kmeans(points, k, restarts=100).inertia == pytest.approx(oracles.best_inertia(points.tolist(), k))


@given(tied_features(smallest=1, largest=8))
def test_as_many_clusters_as_points_leave_nothing_over(points):
    found = kmeans(points, len(points))
    assert found.inertia == pytest.approx(0, abs=1e-12)
    assert torch.allclose(found.centroids[found.assignments], points)


def test_cosine_centroids_are_on_the_sphere_and_ignore_length():
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    lengths = torch.rand(60, 1, generator=torch.Generator().manual_seed(0)) * 9 + 1
    points = directions.repeat(20, 1) * lengths
    found = kmeans(points, 3, metric="cosine")
    assert torch.allclose(found.centroids.norm(dim=1), torch.ones(3))
    assert found.inertia == pytest.approx(0, abs=1e-4)
    assert (found.assignments.view(20, 3) == found.assignments[:3]).all()


def test_starts_prefer_the_far_away():
    """k-means++: with two tight groups, the second centre is in the other group."""
    points = torch.cat([torch.randn(50, 2) * 1e-3, torch.randn(50, 2) * 1e-3 + 10])
    starts = plus_plus(points, 2, 20, torch.Generator().manual_seed(0))
    assert ((starts > 5).all(dim=2).sum(dim=1) == 1).all()


def test_equal_calls_give_equal_answers_and_leave_the_global_generator_alone():
    points, before = torch.randn(300, 8), torch.get_rng_state()
    one, two = kmeans(points, 7), kmeans(points, 7)
    assert torch.equal(one.centroids, two.centroids)
    assert torch.equal(before, torch.get_rng_state())
    other = kmeans(points, 7, restarts=1, generator=torch.Generator().manual_seed(5))
    assert not torch.equal(one.centroids, other.centroids)


def test_far_from_the_origin_nothing_is_lost():
    points = torch.randn(200, 3)
    assert kmeans(points + 1000, 5).inertia == pytest.approx(kmeans(points, 5).inertia, rel=1e-3)


@pytest.mark.parametrize("scale", [1e18, 1e-18])
def test_the_scale_of_the_features_does_not_matter(scale):
    points = unit_rows(100, 4, 0).float()
    plain, scaled = kmeans(points, 5), kmeans(points * scale, 5)
    assert torch.equal(plain.assignments, scaled.assignments)
    assert scaled.inertia == pytest.approx(plain.inertia * scale**2, rel=1e-3)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="metric='foo' should be"):
        kmeans.__wrapped__(torch.randn(3, 2), 2, metric="foo")  # beyond the annotation, which the tests check
    with pytest.raises(ValueError, match="restarts=0 should be"):
        kmeans(torch.randn(3, 2), 2, restarts=0)
    with pytest.raises(ValueError, match=r"n_samples=3 should be >= n_clusters=4"):
        kmeans(torch.randn(3, 2), 4)
    with pytest.raises(ValueError, match="NaN or infinity"):
        kmeans(torch.tensor([[0.0], [float("nan")]]), 1)


def test_empty_clusters_can_be_left_where_they_are():
    points, centroids = torch.tensor([[0.0], [1.0]]), torch.tensor([[[0.5], [1000.0]]])
    assert iterate(points, centroids, reseed_empty=False).flatten().tolist() == [0.5, 1000.0]


def shards():
    """Name, points, K, options: what k-means meets, on ranks with many rows, fewer than K, and none."""
    lumps = torch.tensor([[0.0, 0.0], [0.0, 1.0], [3.0, 0.0], [3.0, 3.0]])
    yield "digits", torch.from_numpy(load_digits().data[:601]).float(), 10, {"restarts": 4}
    yield "doubles", torch.from_numpy(make_blobs(203, 3, centers=6, random_state=0)[0]), 6, {"restarts": 3}
    yield "sphere", unit_rows(50, 6, 1).float(), 15, {"metric": "cosine"}  # fewer rows than K on each of 4
    yield "duplicates", lumps.repeat(9, 1), 7, {}  # 4 points for 7 clusters: some stay empty
    near = torch.randn(40, 2, generator=torch.Generator().manual_seed(2))
    yield "far out", torch.cat([near, 1e3 * lumps]).double(), 12, {}  # too far for single precision to draw the same centres
    yield "few", lumps[:3], 2, {}  # with 4 ranks, one has none
    yield "one", lumps[1:2], 1, {}


def clustered():
    """This rank's part of the clusters of all `shards`."""
    ranks = ProcessGroup()
    return [kmeans(x[ranks.share(len(x))], k, communicator=ranks, **options) for _, x, k, options in shards()]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_ranks_find_together_what_one_process_finds(count):
    parts = run_in_processes(count, clustered)
    for at, (name, x, k, options) in enumerate(shards()):
        alone, found = kmeans(x, k, **options), [part[at] for part in parts]
        check_nearest(x.float(), alone.centroids, torch.cat([each.assignments for each in found]))
        for each in found:
            assert torch.equal(each.centroids, found[0].centroids), name
            assert each.inertia == found[0].inertia == pytest.approx(alone.inertia, rel=1e-6, abs=1e-5), name
        assert torch.allclose(found[0].centroids, alone.centroids, rtol=1e-5, atol=1e-6), name


def reseeded():
    ranks = ProcessGroup()
    points = torch.tensor([[0.0], [0.01], [0.5], [0.02], [0.9], [0.5]])[[slice(0, 1), slice(1, 1), slice(1, 6)][ranks.rank]]
    return Lloyd(on_grid(points, 6), "euclidean", communicator=ranks).step(
        torch.tensor([[[0.01], [10.0], [20.0]]]), torch.tensor([0])
    )


def test_an_empty_cluster_is_reseeded_at_the_farthest_point_of_any_rank():
    for means in run_in_processes(3, reseeded):
        assert means.flatten().tolist() == pytest.approx([1.93 / 6, 0.9, 0.5])


def refused():
    ranks, says = ProcessGroup(), []
    for x, k in ((torch.zeros(2, 2), 5), (torch.full((3, 2), torch.nan if ranks.rank else 0.0), 2)):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the caller looks
            kmeans(x, k, communicator=ranks)
        says.append(str(caught.value))
    return says


def test_bad_input_of_one_rank_is_refused_on_all():
    for says in run_in_processes(2, refused):
        assert "n_samples=4" in says[0]
        assert "NaN or infinity" in says[1]


def test_equally_good_restarts_give_the_first_and_copies_are_no_new_places():
    """With other last bits in every product the clusters have the same numbers, and empty ones stay where they are."""
    blobs = torch.from_numpy(make_blobs(203, 3, centers=6, random_state=0)[0]).float()
    copies = torch.tensor([[0.1, 0.3], [0.7, 1.1], [3.3, 0.9], [2.1, 3.7]]).repeat(9, 1)
    for points, k in ((blobs, 6), (copies, 7)):
        found = kmeans(points, k)
        with last_bits.moved() as products:
            other = kmeans(points, k)
        assert products.count
        assert torch.allclose(found.centroids, other.centroids, atol=1e-5)
        check_nearest(points, found.centroids, other.assignments)
