"""Warnings about a run: collapse, empty or tiny clusters, skipped files, and messages of the run."""

import math
from collections import Counter

import torch

from connr.engine.health import COLLAPSED, CROWDED
from connr.report.reading import RunRecord, shown

TINY = 0.1  # of n / K


def diagnostics(account: RunRecord) -> list[str]:
    """Warnings of one sentence each, the most serious first."""
    return [*_collapse(account), *_sizes(account), *_earlier_warnings(account), *_skipped(account)]


def latest_sizes(account: RunRecord) -> list[int]:
    """Sizes of the clusters: from assignments.csv, or of the last k-means of an unfinished run; empty before the first."""
    if account.rows:
        return torch.bincount(account.rows.assigned.clusters, minlength=account.n_clusters).tolist()
    found: list[list[int]] = [record["cluster_sizes"] for record in account.records if record.get("cluster_sizes")]
    return found[-1] if found else []


def _collapse(account: RunRecord) -> list[str]:
    spreads = [record["feature_std"] for record in account.records if record.get("feature_std") is not None]
    sizes, said = latest_sizes(account), []
    if spreads and (not math.isfinite(spreads[-1]) or spreads[-1] < COLLAPSED):
        said.append(
            f"The features have collapsed: their spread is {spreads[-1]:.3f}, where 1 fills the sphere and 0 is a single "
            "point. The clusters mean nothing; try a lower train.base_lr, more images, or another seed."
        )
    if sum(sizes) and max(sizes) > CROWDED * sum(sizes):
        share = max(sizes) / sum(sizes)
        said.append(
            f"Cluster {sizes.index(max(sizes))} holds {share:.0%} of the images: the others are hardly informative. "
            "The network may have collapsed, or one kind of picture outnumbers all others."
        )
    return said


def _sizes(account: RunRecord) -> list[str]:
    sizes = latest_sizes(account)
    empty = [number for number, size in enumerate(sizes) if size == 0]
    tiny = [number for number, size in enumerate(sizes) if 0 < size < TINY * sum(sizes) / len(sizes)]
    said = []
    if empty:
        said.append(f"{_listed(empty)} empty: the images may have fewer kinds than {len(sizes)}; try fewer clusters.")
    if tiny:
        counts = ", ".join(f"{sizes[number]:,}" for number in tiny)
        said.append(f"{_listed(tiny)} tiny ({counts} images, less than a tenth of the mean): outliers, or a cluster too many.")
    return said


def _earlier_warnings(account: RunRecord) -> list[str]:
    """Warnings of earlier epochs, each once, without those that the other checks repeat."""
    epochs: dict[str, list[int]] = {}
    for record in account.records:
        for sentence in record.get("warnings") or []:
            epochs.setdefault(str(sentence), []).append(int(record["epoch"]))
    last = account.records[-1]["epoch"] if account.records else 0
    return [
        f"In epoch {at[0]}: {sentence}" if len(at) == 1 else f"In {len(at)} epochs, {at[0]} to {at[-1]}: {sentence}"
        for sentence, at in epochs.items()
        if at[-1] < last
    ]


def _skipped(account: RunRecord) -> list[str]:
    """The number of unreadable files and the reasons; the page lists them."""
    if not account.skipped:
        return []
    kinds = Counter(shown(file.reason).partition(":")[0] for file in account.skipped)
    reasons = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(5))
    n = len(account.skipped)
    some = "1 file could not be read and is" if n == 1 else f"{n:,} files could not be read and are"
    return [f"{some} skipped ({reasons}); the list is at the end of this page."]


def _listed(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"Cluster {numbers[0]} is"
    some = ", ".join(str(number) for number in numbers[:12]) + (", …" if len(numbers) > 12 else "")
    return f"{len(numbers)} clusters ({some}) are"
