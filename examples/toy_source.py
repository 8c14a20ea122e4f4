"""A data source of one's own, in a file outside the package: images of random bars, as many as DATA says.

connr --plugin examples/toy_source.py fit bars:400 --clusters 2 --out runs/bars
"""

import numpy as np
import torch

from connr.data.image_set import ImageSet
from connr.data.source import Source, register


@register("bars")
class Bars(Source):
    form = "bars:N"

    def recognises(self, data):
        return isinstance(data, str) and data.startswith("bars:")

    def open(self, data, reading):
        n = int(data.removeprefix("bars:"))
        rng, (size, channels, _) = np.random.default_rng(0), reading.square
        images = torch.zeros(n, channels, size, size, dtype=torch.uint8)
        labels = torch.from_numpy(rng.integers(0, 2, n))  # for scores only
        for image, upright, at in zip(images, labels.tolist(), rng.integers(0, size, n).tolist(), strict=True):
            image[:, :, at] = 255 if upright else image[:, :, at]
            image[:, at] = image[:, at] if upright else 255
        return ImageSet(images, [str(i) for i in range(n)], labels, ["lying", "upright"])
