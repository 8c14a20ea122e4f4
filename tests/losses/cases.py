"""One row a loss: how to call it, and its oracle. A loss without a row fails `test_every_loss_has_a_case`."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from connr import losses
from losses import oracles

SIZES = [(1, 1, 1), (1, 4, 3), (2, 3, 4), (6, 1, 3), (9, 4, 5), (14, 5, 8)]  # b images, K clusters, d features
KINDS = ["random", "equal rows", "one kept", "none kept"]


class Draw:
    """Random inputs of one size. `logits` and `rows` are float64; `equal` makes all rows the same."""

    def __init__(self, size, seed, kind="random", scale=1.0):
        self.b, self.K, self.d = size
        self.kind, self.scale = kind, scale
        self.generator = torch.Generator().manual_seed(seed)

    def rows(self, *shape):
        values = torch.randn(*shape, generator=self.generator, dtype=torch.float64)
        return values[:1].expand(shape).clone() if self.kind == "equal rows" else values

    def logits(self, *shape):
        return 2 * self.scale * self.rows(*shape)

    def labels(self):
        """Of K clusters, the last of which is empty where there are two or more."""
        return torch.randint(0, max(1, self.K - 1), (self.b,), generator=self.generator)

    def some(self, *shape):
        return torch.rand(*shape, generator=self.generator) < 0.5

    def kept(self):
        mask = self.some(self.b)
        if self.kind in ("one kept", "none kept"):
            mask = torch.arange(self.b) == (0 if self.kind == "one kept" else self.b)
        return mask

    def pairs(self):
        """Symmetric, True on the diagonal; all True where all rows are the same."""
        mask = self.some(self.b, self.b)
        return mask | mask.T | torch.eye(self.b, dtype=torch.bool) | (self.kind == "equal rows")


class Case(NamedTuple):
    """inputs: Draw -> arguments by name; those in `logits` go through a softmax before the loss sees them."""

    loss: Callable
    oracle: Callable
    inputs: Callable
    logits: tuple = ()
    rows: tuple = ()
    oracle_arguments: Callable = lambda arguments: arguments
    differentiable: bool = True

    @property
    def name(self):
        return self.oracle.__name__


def case(name, inputs, logits=(), rows=(), **more):
    return Case(getattr(losses, name), getattr(oracles, name), inputs, logits, rows, **more)


def two_assignments(n):
    return {"first": n.logits(n.b, n.K), "second": n.logits(n.b, n.K)}


def anchor_and_neighbour(n):
    return {"assignments": n.logits(n.b, n.K), "neighbours": n.logits(n.b, n.K)}


def ratio(arguments):
    found = dict(arguments)
    del found["ratio"]
    return found | {"ratio_numerator": 1, "ratio_denominator": 2}


def posterior(n):
    return torch.softmax(n.logits(n.b, n.K), dim=1)


def unit_memory(n):
    return torch.nn.functional.normalize(n.rows(n.b + 3, n.d), dim=1)


def boosted(n):
    """Images that are not kept have a label too, which must not count; or none, where one image is kept."""
    kept, labels = n.kept(), n.labels()
    return {
        "first": n.rows(n.b, n.d),
        "second": n.rows(n.b, n.d),
        "labels": torch.where(kept, labels, -1) if n.kind == "one kept" else labels,
        "kept": kept,
    }


CASES = [
    case("normalize_rows", lambda n: {"rows": n.rows(n.b, n.d)}, rows=("rows",)),
    case(
        "negative_cosine",
        lambda n: {"queries": n.rows(n.b, n.d), "positives": n.rows(n.b, n.K, n.d), "weight": 2.0},
        rows=("queries", "positives"),
    ),
    case(
        "info_nce",
        lambda n: {
            "queries": n.rows(n.b, n.d),
            "positives": n.rows(n.b, n.K, n.d),
            "negatives": n.rows(7, n.d),
            "temperature": 0.2,
        },
        rows=("queries", "positives", "negatives"),
    ),
    case("group_mean", lambda n: {"pairs": n.rows(n.b, n.K), "kept": n.kept()}, rows=("pairs",)),
    case(
        "nt_xent",
        lambda n: {
            "first": n.rows(n.b, n.d),
            "second": n.rows(n.b, n.d),
            "temperature": 0.5,
            "ignored": None if n.kind == "one kept" else n.pairs(),
        },
        rows=("first", "second"),
    ),
    case("same_label", lambda n: {"labels": torch.where(n.kept(), n.labels(), -1)}, differentiable=False),
    case(
        "graph_contrast",
        lambda n: {
            "anchors": n.rows(n.b, n.d),
            "candidates": n.rows(n.b + 2, n.d),
            "weights": torch.rand(n.b, n.b + 2, generator=n.generator, dtype=torch.float64)
            * n.some(n.b, n.b + 2)
            * (n.kept()[:, None] | (n.kind == "random")),
            "temperature": 0.1,
            "compared": None if n.kind == "one kept" else n.some(n.b, n.b + 2),
        },
        rows=("anchors", "candidates"),
    ),
    case("column_nt_xent", lambda n: two_assignments(n) | {"temperature": 0.5}, logits=("first", "second")),
    case("column_cross_entropy", two_assignments, logits=("first", "second")),
    case("mean_entropy", lambda n: {"assignments": n.logits(n.b, n.K)}, logits=("assignments",)),
    case("kl_to_uniform", lambda n: {"assignments": n.logits(n.b, n.K)}, logits=("assignments",)),
    case("negative_mutual_information", lambda n: two_assignments(n) | {"weight": 1.3}, logits=("first", "second")),
    case("neighbour_consistency", anchor_and_neighbour, logits=("assignments", "neighbours")),
    case("neighbour_matching", anchor_and_neighbour, logits=("assignments", "neighbours")),
    case(
        "balanced_cross_entropy",
        lambda n: {
            "logits": n.logits(n.b, n.K),
            "labels": torch.where(kept := n.kept(), n.labels(), 10_000),
            "kept": kept,
        },
        rows=("logits",),
    ),
    case(
        "confident_cross_entropy",
        lambda n: {
            "strong_logits": n.logits(n.b, n.K),
            "weak_assignments": posterior(n),
            "threshold": 0.999 if n.kind == "none kept" else 0.6,
        },
        rows=("strong_logits",),
    ),
    case(
        "top_per_cluster",
        lambda n: {"assignments": n.logits(n.b, n.K), "ratio": 0.5, "threshold": 0.4},
        logits=("assignments",),
        oracle_arguments=ratio,
        differentiable=False,
    ),
    case(
        "batch_prototypes",
        lambda n: {"embeddings": n.rows(n.b, n.d), "labels": n.labels(), "n_clusters": n.K},
        rows=("embeddings",),
    ),
    case(
        "prototype_scattering",
        lambda n: {
            "online": n.rows(n.b, n.d),
            "target": n.rows(n.b, n.d),
            "labels": torch.where(n.kept(), n.labels(), -1),
            "n_clusters": n.K,
            "temperature": 0.5,
        },
        rows=("online", "target"),
    ),
    case(
        "sampled_positive",
        lambda n: {"embeddings": n.rows(n.b, n.d), "noise": n.rows(n.b, n.d), "sigma": 0.01},
        rows=("embeddings", "noise"),
    ),
    case(
        "gate_log_probabilities",
        lambda n: {"gates": n.rows(n.b, n.d), "gate_vectors": n.rows(n.K, n.d), "temperature": 0.7},
        rows=("gates", "gate_vectors"),
    ),
    case(
        "expert_log_probabilities",
        lambda n: {
            "students": n.rows(n.b, n.K, n.d),
            "teachers": n.rows(n.b, n.K, n.d),
            "prototypes": n.rows(n.K, n.d),
            "queue": n.rows(6, n.K, n.d),
            "temperature": 0.7,
        },
        rows=("students", "teachers", "prototypes", "queue"),
    ),
    case(
        "mixture_posterior",
        lambda n: {"log_gates": -n.rows(n.b, n.K).abs(), "log_experts": -n.rows(n.b, n.K).abs()},
        rows=("log_gates", "log_experts"),
        differentiable=False,
    ),
    case(
        "mixture_loss",
        lambda n: {
            "log_gates": -n.logits(n.b, n.K).abs(),
            "log_experts": -n.logits(n.b, n.K).abs(),
            "posterior": posterior(n),
        },
        rows=("log_gates", "log_experts"),
    ),
    case(
        "feature_decorrelation",
        lambda n: {"embeddings": n.rows(n.b, n.d), "temperature": 2.0},
        rows=("embeddings",),
    ),
    case(
        "instance_discrimination",
        lambda n: {
            "embeddings": n.rows(n.b, n.d),
            "memory": unit_memory(n),
            "indices": torch.randint(0, n.b + 3, (n.b,), generator=n.generator),
            "temperature": 0.5,
        },
        rows=("embeddings",),
    ),
    case(
        "confident_pairs",
        lambda n: {"assignments": n.logits(n.b, n.K), "threshold": 0.9},
        logits=("assignments",),
        differentiable=False,
    ),
    case("pair_cross_entropy", lambda n: two_assignments(n) | {"similar": n.pairs()}, logits=("first", "second")),
    case(
        "label_cross_entropy",
        lambda n: {
            "predictions": n.logits(n.b, n.K),
            "references": posterior(n),
            "threshold": 0.999 if n.kind == "none kept" else 0.6,
        },
        logits=("predictions",),
    ),
    case(
        "jensen_shannon",
        lambda n: {
            "scores": n.logits(n.b, n.K),
            "positive": n.some(n.b, n.K) & n.kept()[:, None],
        },
        rows=("scores",),
    ),
    case("clustering_similarities", lambda n: {"assignments": n.logits(3, n.b, n.K)}, logits=("assignments",)),
    case(
        "diversity_penalty",
        lambda n: {"assignments": n.logits(1 if n.kind == "one kept" else 3, n.b, n.K), "threshold": 0.4},
        logits=("assignments",),
    ),
    case(
        "cluster_embeddings",
        lambda n: {"assignments": n.logits(n.b, n.K), "embeddings": n.rows(n.b, n.d)},
        logits=("assignments",),
        rows=("embeddings",),
    ),
    case(
        "cluster_contrast",
        lambda n: {
            "first": n.rows(n.K, n.d),
            "second": n.rows(n.K, n.d),
            "queue": n.rows(0 if n.kind == "none kept" else 5, n.d),
            "temperature": 0.5,
        },
        rows=("first", "second", "queue"),
    ),
    case(
        "relaxed_assignment",
        lambda n: {"assignments": n.logits(n.b, n.K), "gumbel": n.rows(n.b, n.K), "temperature": 0.8},
        logits=("assignments",),
        rows=("gumbel",),
    ),
    case(
        "in_context",
        lambda n: {"embeddings": n.rows(n.b, n.d), "contexts": n.rows(n.b, n.d)},
        rows=("embeddings", "contexts"),
    ),
    case("assignment_divergence", two_assignments, logits=("first", "second")),
    case("pull_together", boosted, rows=("first", "second")),
    case(
        "push_apart",
        lambda n: (
            {"embeddings": (whole := boosted(n))["first"], "labels": whole["labels"], "kept": whole["kept"]}
            | {"n_clusters": n.K}
        ),
        rows=("embeddings",),
    ),
    case("boost_loss", lambda n: boosted(n) | {"n_clusters": n.K}, rows=("first", "second")),
    case(
        "pair_weights",
        lambda n: {"teachers": n.logits(3, n.b, n.K), "neighbours": n.logits(3, n.b, n.K)},
        logits=("teachers", "neighbours"),
        differentiable=False,
    ),
    case(
        "weighted_pointwise_information",
        lambda n: {
            "students": n.logits(n.b, n.K),
            "teachers": posterior(n),
            "marginal": posterior(n).mean(dim=0),
            "weights": torch.rand(n.b, generator=n.generator, dtype=torch.float64),
            "beta": 0.6,
        },
        logits=("students",),
    ),
]
