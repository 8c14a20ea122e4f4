"""The paper's figures. 2, 4 and 5 show the end of stage 1 of the last row of table 2: the state that stage 2 starts from."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from connr import experiment, metrics, runs
from connr.clustering.anchors import Boundary
from connr.clustering.boundary import boundary_ratio, keep
from connr.clustering.kmeans import Clusters, kmeans
from connr.data import ImageSet, batches
from connr.engine import checkpoint, extract
from connr.losses import normalize_rows
from connr.methods.connr import ConNRConfig, GroupPhase
from connr.neighbours import contextual, local
from connr.neighbours.contextual import ContextualConfig
from connr.randomness import stream
from connr.recipe import Recipe
from connr.reproduce.plan import Cell
from connr.reproduce.steps import first_group_epoch
from connr.reproduce.tables import WHOLE
from connr.views import Augment

KINDS = {  # the same colours in every figure
    "local": "#4477aa",
    "contextual": "#ee6677",
    "local, off the boundary": "#99bbdd",
    "contextual, off the boundary": "#aa3377",
    "contextual, k1 = 10, k2 = 2": "#ccbb44",
}
PAPER_K1, PAPER_K2 = 10, 2  # of all but ImageNet-Dogs
SIZES = (2, 3, 5, 10, 15, 20, 30)  # k of figure 2
FRACTION, K1_K2 = "fr0 = ", "k1, k2 = "  # how the rows of figure 3 begin
WRONG, HARD = "#cc3311", "#009944"  # frames of figure 5


class Moment(NamedTuple):
    """Features (n d) of all images and their clusters at the end of stage 1."""

    recipe: Recipe
    features: Float[Tensor, "n d"]
    clusters: Clusters


def end_of_stage_1(cell: Cell, images: ImageSet) -> Moment:
    """The network as it was when stage 2 began, on the CPU."""
    r = cell.recipe
    method, t0 = experiment.build(r, n_images=len(images)), first_group_epoch(r)
    checkpoint.load(checkpoint.after(cell.folder.checkpoints, t0), method, images.fingerprint())
    normalise = Augment(*images.statistics()).normalise
    features = normalize_rows(extract(method.features().eval(), images.images, normalise, torch.device("cpu")))
    clusters = kmeans(features, r.clusters or 2, restarts=r.kmeans.restarts, generator=stream(r.seed, "kmeans", t0))
    return Moment(r, features, clusters)


def neighbourhoods(moment: Moment, rows: Int[Tensor, " b"], k: int) -> dict[str, Int[Tensor, "b k"]]:
    """Both neighbourhoods of a batch, with the recipe's own k1 and k2."""
    section = group_of(moment.recipe).neighbourhood.model_copy(update={"k": k})  # contextual, in the last row of table 2
    features = moment.features[rows]
    return {"local": local(features, k), "contextual": section.build()(features)}


def group_of(r: Recipe) -> GroupPhase:
    """The second phase of a recipe of ConNR."""
    assert isinstance(r.method, ConNRConfig)  # as all rows of table 2
    return r.method.group


def off_boundary(moment: Moment, rows: Int[Tensor, " b"]) -> Bool[Tensor, " b"]:
    """The images of a batch that the boundary filter keeps at the start of stage 2, by the recipe's fraction."""
    anchors = group_of(moment.recipe).anchors
    assert isinstance(anchors, Boundary)  # the last row of table 2
    ratios = boundary_ratio(moment.features[rows], moment.clusters.centroids, moment.clusters.assignments[rows])
    return keep(ratios, anchors.fraction)


def purities(moment: Moment, labels: Int[Tensor, " n"]) -> dict[str, dict[int, float]]:
    """Figure 2: mean purity of the k nearest in a batch, by kind and k, over one epoch's batches; the anchor not counted."""
    r = moment.recipe
    found: dict[str, dict[int, list[float]]] = {kind: {} for kind in KINDS}
    for rows in batches(len(labels), r.train.batch_size, r.seed, epoch=first_group_epoch(r)):
        kept = off_boundary(moment, rows)
        for k in (size for size in SIZES if size <= len(rows)):
            for kind, neighbours in neighbourhoods(moment, rows, k).items():
                for name, anchors in ((kind, None), (f"{kind}, off the boundary", kept)):
                    found[name].setdefault(k, []).append(metrics.purity(labels[rows], neighbours, anchors))
            papers = contextual(moment.features[rows], k, PAPER_K1, PAPER_K2)
            found["contextual, k1 = 10, k2 = 2"].setdefault(k, []).append(metrics.purity(labels[rows], papers))
    return {kind: {k: float(np.mean(values)) for k, values in sizes.items()} for kind, sizes in found.items()}


def figure2(moments: Iterable[Moment], labels: Int[Tensor, " n"], place: Path) -> dict[str, Any]:
    """The curves of purity over k, mean and std over seeds; figure2.png."""
    from matplotlib.figure import Figure

    seeds = [purities(moment, labels) for moment in moments]
    figure = Figure(figsize=(6, 4), dpi=160, layout="constrained")
    axes = figure.subplots()
    result: dict[str, Any] = {}
    for kind, colour in KINDS.items():
        sizes = list(seeds[0][kind])
        values = 100 * np.array([[seed[kind][k] for k in sizes] for seed in seeds])
        mean, std = values.mean(axis=0), values.std(axis=0, ddof=1) if len(seeds) > 1 else np.zeros(len(sizes))
        axes.errorbar(sizes, mean, yerr=std, color=colour, marker="o", markersize=4, capsize=2, label=kind)
        result[kind] = {str(k): [float(m), float(s)] for k, m, s in zip(sizes, mean, std, strict=True)}
    axes.set(xlabel="k nearest, the anchor among them", ylabel="purity in %")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(place / "figure2.png")
    return result


def figure3(result: dict[str, Any], todo: list[Cell], place: Path) -> None:
    """ACC against fr0, against (k1, k2), and over epochs compared with BYOL alone; figure3.png.

    The paper shows the first on CIFAR-10 and the others on ImageNet-Dogs; on another data set all are of that set.

    Args:
        result: from `summary.summarise` of the sweeps.
        todo: their runs, whose histories hold the curves.
        place: the folder of the picture.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.8), dpi=160, layout="constrained")
    panels = figure.subplots(1, 3)
    for axes, prefix in zip(panels[:2], (FRACTION, K1_K2), strict=True):
        data_set = _data_set_of(prefix, todo)
        rows = {row["row"]: row["acc"] for row in result["rows"] if row["data"] == data_set}
        whole = next(group_of(cell.recipe) for cell in todo if cell.data_set == data_set and cell.row.name == WHOLE)
        found = {name.removeprefix(prefix): acc for name, acc in rows.items() if name.startswith(prefix)}
        if prefix == FRACTION and isinstance(whole.anchors, Boundary):
            found.setdefault(f"{whole.anchors.fraction}", rows[WHOLE])
        if prefix == K1_K2 and isinstance(whole.neighbourhood, ContextualConfig):
            found.setdefault(f"{whole.neighbourhood.k1}, {whole.neighbourhood.k2}", rows[WHOLE])
        names = sorted(found, key=lambda name: [float(part) for part in name.split(",")])
        mean, std = [found[name]["mean"] for name in names], [found[name]["std"] or 0 for name in names]
        axes.errorbar(range(len(names)), mean, yerr=std, marker="o", capsize=3, color=KINDS["contextual"])
        axes.axhline(rows["BYOL"]["mean"], color=KINDS["local"], linestyle="--", label="BYOL alone")
        axes.set_xticks(range(len(names)), names)
        axes.set(xlabel=prefix.removesuffix(" = "), ylabel="ACC in %", title=data_set)
        axes.legend(frameon=False)
    data_set = _data_set_of(K1_K2, todo)
    t0 = next(first_group_epoch(cell.recipe) for cell in todo if cell.data_set == data_set)
    for name, curve in curves([cell for cell in todo if cell.data_set == data_set]).items():
        colour = KINDS["contextual" if name == WHOLE else "local"]
        label = "ConNR" if name == WHOLE else "BYOL alone"
        panels[2].plot(list(curve), [np.mean(scores) for scores in curve.values()], label=label, color=colour, marker=".")
    panels[2].axvline(t0, color="#999999", linewidth=0.8)
    panels[2].set(xlabel="epoch (mean over seeds; the line is t0)", ylabel="ACC in %", title=data_set)
    panels[2].legend(frameon=False)
    figure.savefig(place / "figure3.png")


def _data_set_of(prefix: str, todo: list[Cell]) -> str:
    """The data set that a sweep is run on."""
    return next(cell.data_set for cell in todo if cell.row.name.startswith(prefix))


def curves(todo: list[Cell]) -> dict[str, dict[int, list[float]]]:
    """ACC in percent by epoch, of ConNR and of BYOL alone, at the epochs at which both have a score.

    Stage 2 is scored at every epoch, and stage 1 every `train.evaluate_every`: only epochs of both are compared. BYOL alone
    shares stage 1 with ConNR, and its own history may begin after it.

    Args:
        todo: the runs of figure 3 on one data set.

    Returns:
        Row name -> epoch -> ACC of every seed.
    """
    found: dict[str, dict[int, list[float]]] = {"BYOL": {}, WHOLE: {}}
    for seed in dict.fromkeys(cell.seed for cell in todo):
        of_row = {cell.row.name: runs.history(cell.folder) for cell in todo if cell.seed == seed and cell.row.name in found}
        began = min((record["epoch"] for record in of_row["BYOL"]), default=0)
        of_row["BYOL"] = [record for record in of_row[WHOLE] if record["epoch"] < began] + of_row["BYOL"]
        scored = {name: {r["epoch"]: 100 * r["acc"] for r in records if "acc" in r} for name, records in of_row.items()}
        for epoch in sorted(scored["BYOL"].keys() & scored[WHOLE].keys()):
            for name, scores in scored.items():
                found[name].setdefault(epoch, []).append(scores[epoch])
    return found


def figure4(moment: Moment, labels: Int[Tensor, " n"], place: Path, most: int = 3000) -> None:
    """t-SNE of the features, coloured by label; images near a cluster boundary as small dots; figure4.png."""
    from matplotlib.figure import Figure
    from sklearn.manifold import TSNE

    rows = torch.randperm(len(labels), generator=stream(moment.recipe.seed, "map"))[:most]
    points = TSNE(init="pca", random_state=moment.recipe.seed % 2**32).fit_transform(moment.features[rows].numpy())
    kept = off_boundary(moment, rows).numpy()
    figure = Figure(figsize=(9, 4.6), dpi=160, layout="constrained")
    for axes, shown, title in zip(
        figure.subplots(1, 2), (np.ones_like(kept), ~kept), ("all, near a boundary small", "near a boundary"), strict=True
    ):
        sizes = np.where(kept, 9, 1.5)
        axes.scatter(*points[shown].T, c=labels[rows].numpy()[shown], s=sizes[shown], cmap="tab10", linewidths=0)
        axes.set(title=title, xticks=[], yticks=[], xlim=axes.get_xlim(), ylim=axes.get_ylim())
        axes.spines[:].set_visible(False)
    figure.savefig(place / "figure4.png")


def figure5(moment: Moment, images: ImageSet, place: Path, anchors: int = 8, k: int = 11) -> None:
    """Top-10 neighbours, Euclidean and contextual, of the anchors of a batch where the two differ most; figure5.png.

    Wrong ones are framed red; green are right ones that only the contextual neighbourhood finds.
    """
    from matplotlib.figure import Figure

    rows = next(
        batches(len(images), moment.recipe.train.batch_size, moment.recipe.seed, epoch=first_group_epoch(moment.recipe))
    )
    euclidean = local(moment.features[rows], k)
    context = contextual(moment.features[rows], k, max(PAPER_K1, k - 1), PAPER_K2)  # a smaller k1 relates fewer than 10
    shared = (euclidean.unsqueeze(2) == context.unsqueeze(1)).any(dim=2).sum(dim=1)
    chosen = shared.argsort(stable=True)[:anchors].tolist()
    labels = images.labels[rows]

    figure = Figure(figsize=(12, 0.56 * anchors + 0.5), dpi=160)
    grid = figure.subplots(anchors, 2 * k + 1, gridspec_kw={"wspace": 0.06, "hspace": 0.06})
    for axes in grid[:, k]:  # the gap between the two sides
        axes.set_visible(False)
    for line, anchor in enumerate(chosen):
        for side, neighbours in enumerate((euclidean, context)):
            for column, neighbour in enumerate(neighbours[anchor].tolist()):
                axes = grid[line, side * (k + 1) + column]
                pixels = images.images[rows[neighbour]].permute(1, 2, 0).squeeze().numpy()
                axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
                axes.set(xticks=[], yticks=[])
                right = labels[neighbour] == labels[anchor]
                only_here = side == 1 and neighbour not in euclidean[anchor]
                colour = WRONG if not right else HARD if only_here else None
                axes.spines[:].set(visible=colour is not None, color=colour or "none", linewidth=2.5)
    for side, title in enumerate(("anchor, then its 10 nearest: Euclidean", "contextual")):
        grid[0, side * (k + 1)].set_title(title, fontsize=9, loc="left")
    figure.savefig(place / "figure5.png", bbox_inches="tight", pad_inches=0.1)
