"""A picture of the clusters with a row of images of each."""

from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray

from connr.clustering.assigners import Assigned
from connr.data import Rows

GROUND = 255


def spread_out(assigned: Assigned, cluster: int, count: int) -> list[int]:
    """Up to `count` images of a cluster, from the most central to the farthest, at equal steps of rank."""
    members = (assigned.clusters == cluster).nonzero().flatten()
    by_distance = members[assigned.distances[members].argsort(stable=True)]
    communicator = torch.linspace(0, len(members) - 1, min(count, len(members))).round().long()
    return by_distance[communicator].tolist()


def gap_between(size: int) -> int:
    """Pixels between images of `size` pixels."""
    return max(1, size // 16)


def mosaic(images: Rows, rows: list[list[int]], columns: int) -> NDArray[np.uint8]:
    """The images (n c h w) of each row side by side, on white."""
    _, c, h, w = images.shape
    gap = gap_between(h)
    canvas = np.full((len(rows) * (h + gap) - gap, columns * (w + gap) - gap, c), GROUND, dtype=np.uint8)
    for row, indices in enumerate(rows):
        for column, index in enumerate(indices):
            top, left = row * (h + gap), column * (w + gap)
            canvas[top : top + h, left : left + w] = images[index].permute(1, 2, 0).numpy()
    return canvas


def cluster_sheet(images: Rows, assigned: Assigned, n_clusters: int, per_cluster: int = 10) -> bytes:
    """A PNG with a row for each cluster: its number, its size, images from the most central to the farthest.

    Args:
        images: (n c h w).
        assigned: their assignments.
        n_clusters: number of rows; the row of an empty cluster is empty.
        per_cluster: images per row.
    """
    from matplotlib.figure import Figure

    rows = [spread_out(assigned, cluster, per_cluster) for cluster in range(n_clusters)]
    canvas = mosaic(images, rows, per_cluster)
    height, width = canvas.shape[:2]
    figure = Figure(figsize=(7.5, 6.2 * height / width + 0.5), dpi=160, layout="constrained")
    axes = figure.subplots()
    axes.imshow(canvas.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    sizes = torch.bincount(assigned.clusters, minlength=n_clusters).tolist()
    gap = gap_between(images.shape[2])
    step = images.shape[2] + gap
    axes.set_yticks(
        [step * row + (step - gap) / 2 for row in range(n_clusters)],
        [f"cluster {row} · {size:,}" for row, size in enumerate(sizes)],
        fontsize=8,
    )
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("most central  →  farthest from its centroid", fontsize=8, color="#555555")
    png = BytesIO()
    figure.savefig(png, format="png", bbox_inches="tight", pad_inches=0.1)
    return png.getvalue()
