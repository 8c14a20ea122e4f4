"""`ImageSet`, the result of every data source."""

import hashlib
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from connr.data.rows import Rows, parts

UNLABELLED = -1
AT_A_TIME = 4096  # images processed together


class Skipped(NamedTuple):
    """A file that was skipped, and the reason."""

    path: str
    reason: str


@dataclass(frozen=True)
class ImageSet:
    """n images, in memory or in a file.

    Attributes:
        images: (n c h w) uint8, c = 1 or 3.
        names: n paths, or indices as text where there are no files.
        labels: (n) int64, -1 where unlabelled. Only for metrics: training never sees them.
        class_names: names of labels 0, 1, ..., or empty.
        skipped: files that could not be read.
        photographs: (n m) uint8, rows from which views are cropped and whose central squares are `images`; see
            `connr.recipe.photograph`. None if views are cropped from `images`.
        clustered: k-means and scores use only the first `clustered` images, as for STL-10; the others are used in training
            and assigned to the nearest centroid. None for all.
        source: an absolute path or a name of DATA, to open the data again; "" for arrays in memory.
    """

    images: Rows
    names: list[str]
    labels: Int[Tensor, " n"]
    class_names: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    source: str = ""
    clustered: int | None = None
    photographs: Rows | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def labelled(self) -> bool:
        """Whether any image has a label."""
        return bool((self.labels >= 0).any())

    def fingerprint(self) -> str:
        """A hash of the pixels and names; independent of the labels."""
        digest = hashlib.blake2b("\0".join(self.names).encode(errors="surrogateescape"), digest_size=16)
        for part in parts(self.images, AT_A_TIME):
            digest.update(part.contiguous().numpy().data)
        return digest.hexdigest()

    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation per channel, for pixels in [0, 1]; each std is at least 1/255."""
        n, c, h, w = self.images.shape
        counts = torch.zeros(c, 256, dtype=torch.int64)
        for part in parts(self.images, AT_A_TIME):
            counts += torch.stack([torch.bincount(part[:, channel].flatten(), minlength=256) for channel in range(c)])
        share = counts.double() / (n * h * w)
        levels = torch.arange(256, dtype=torch.float64) / 255
        means = (share * levels).sum(dim=1)
        deviations = (share * (levels - means.unsqueeze(1)) ** 2).sum(dim=1).sqrt().clamp(min=1 / 255)
        return means.tolist(), deviations.tolist()
