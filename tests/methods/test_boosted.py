import pytest
import torch
from losses import oracles

from connr.clustering.kmeans import Clusters
from connr.clustering.reliable import ReliableAnchors, reliable
from connr.engine import Timeline
from connr.methods.boosted import two_of
from methods.steps import B, K, N, batch, built, check_short_run, context


def by_loops(features, clusters, most):
    """kept and k, from the definition."""
    n, best = len(features), (-1, 0, [])
    for k in range(1, min(most, n - 1) + 1):
        kept = []
        for i in range(n):
            order = sorted((j for j in range(n) if j != i), key=lambda j: (-oracles.dot(features[i], features[j]), j))
            kept.append(all(clusters[j] == clusters[i] for j in order[:k]))
        if k * sum(kept) > best[0]:
            best = k * sum(kept), k, kept
    return best[2], best[1]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("most", [1, 4, 50])
def test_reliable_images_are_those_of_the_definition(seed, most):
    generator = torch.Generator().manual_seed(seed)
    clusters = torch.randint(2, (15,), generator=generator)
    features = torch.randn(15, 3, generator=generator, dtype=torch.float64) + 2 * clusters.unsqueeze(1)
    features = torch.nn.functional.normalize(features, dim=1)
    found = reliable(features, clusters, most)
    kept, k = by_loops(features.tolist(), clusters.tolist(), most)
    assert (found.kept.tolist(), int(found.k)) == (kept, k)
    anchors = ReliableAnchors(most=most).build(Clusters(features[:2], clusters, 0.0), 0, 0, 1)
    assert torch.equal(anchors(features, torch.arange(15)), found.kept)


def known():
    clusters = torch.arange(N) % K
    corners = torch.eye(4, dtype=torch.float64)
    features = torch.nn.functional.normalize(corners[clusters] + 0.3 * torch.randn(N, 4, dtype=torch.float64), dim=1)
    return {"features": features, "clusters": Clusters(features[:K], clusters, 0.0)}


def test_a_step_is_that_of_the_method_and_the_term():
    """The embeddings are those of the online network, with gradient; the base finds its own phase."""
    method = built("boosted", base={"name": "byol", "hidden": 5, "out": 4}, weight=0.5).eval()
    given, here = batch("one", "other"), context("instance+boost", **known())
    with torch.no_grad():
        method.before_epoch(here)
    indices, kept = given.indices.tolist(), method.kept.tolist()
    assert 0 < sum(kept) <= N
    z, other = (method.base.online(given.views[name]).tolist() for name in ("one", "other"))
    term = oracles.boost_loss(z, other, [i % K for i in indices], [kept[i] for i in indices], K)
    plain = float(method.base(given, context("instance")).loss.detach())
    output = method(given, here)
    assert float(output.loss.detach()) == pytest.approx(plain + 0.5 * term, rel=1e-9)
    output.loss.backward()
    assert all(parameter.grad is not None for parameter in method.base.online.parameters())
    assert float(output.metrics["reliable"]) == pytest.approx(sum(kept[i] for i in indices) / B)


def test_the_phases_of_the_method_stay_where_they_are():
    base = {"name": "connr", "base": {"name": "byol", "hidden": 5, "out": 4}, "start": 0.5}
    segments = Timeline(built("boosted", base=base).phases(), 10, N, B).segments
    places = [(each.phase.name, each.first_epoch, each.end_epoch) for each in segments]
    assert places == [("instance", 0, 5), ("group", 5, 8), ("group+boost", 8, 10)]
    assert (segments[1].phase.needs.features, segments[2].phase.needs.features) == (False, True)


def test_a_method_of_one_view_gets_another():
    method = built("boosted", base={"name": "idfd", "out": 4})
    phase = method.phases()[1]
    assert list(phase.views) == ["one", "boost_one"]
    assert two_of(method.base.phases()[0]) == ("one", "boost_one")
    output = method(batch("one", "boost_one"), context("discriminate+boost", **known()))
    assert bool(output.loss.isfinite())


@pytest.mark.parametrize("base", ["{name: byol, hidden: 16, out: 8}", "{name: iic, over_clusters: 12}"])
def test_a_short_run(tmp_path, base):
    run = check_short_run(tmp_path, "boosted", f"method.base={base}", "method.start=0.4")
    assert [record["stage"].endswith("+boost") for record in run.history] == [False, True, True]
    assert "reliable" in run.history[-1]
