"""The model card (README.md) for the Hub: description, scores and usage."""

import html
import re
from collections.abc import Mapping

import yaml

from connr import __version__, runs
from connr.errors import InputError
from connr.recipe import Recipe
from connr.run_folder import RunFolder

METADATA = {
    "library_name": "connr",
    "pipeline_tag": "image-feature-extraction",
    "tags": ["clustering", "connr", "deep-clustering", "image-clustering", "model_hub_mixin", "pytorch_model_hub_mixin"],
}
CARD = """---
{metadata}---

# {clusters} clusters of images, found without labels

A network and {clusters} centroids, fitted by ConNR (NeurIPS 2023) with `connr` {version}.
{description}

Clusters have numbers, not names: look at some images of each before giving them a meaning. They follow what the images it was
fitted on have in common, which need not be what you are after.

## Use

```python
from connr import ConNR

model = ConNR.load("FOLDER")  # this folder, as downloaded
clusters = model.predict("{data}")
```

```python
import torch
from connr.export.model_repository import HubModel

model = HubModel.from_pretrained("FOLDER")  # or USER/NAME
{given}
features, cluster, distance = model(images)
```

## How it scored

{scores}

## Recipe

{fence}yaml
{recipe}{fence}
"""


def model_card(r: Recipe, folder: RunFolder) -> str:
    """Markdown with the Hub's metadata, and with scores if the images of the run have labels."""
    recipe = r.to_yaml()
    return CARD.format(
        metadata=yaml.safe_dump(METADATA, sort_keys=False),
        version=__version__,
        clusters=r.clusters,
        description=f"The recipe is for: {_as_text(r.description)}." if r.description else "",
        data="features.npz" if r.takes_features else "pictures/",
        given=_given(r),
        scores=_scored(folder),
        recipe=recipe,
        fence=_fence(recipe),
    )


def _as_text(description: str) -> str:
    """On one line, without what Markdown or HTML would take for their own: a recipe may come from anybody."""
    line = html.escape(" ".join(description.split()), quote=False)
    return re.sub(r"([\\`*_\[\]!|])", r"\\\1", line)


def _fence(code: str) -> str:
    """Backticks, more of them than there are anywhere in the code."""
    return "`" * max(3, 1 + max(map(len, re.findall("`+", code)), default=0))


def _given(r: Recipe) -> str:
    """What the model is given, as a line of Python."""
    if r.takes_features:
        return f"images = torch.zeros(1, {r.data.features})  # n d, rows of features"
    size, channels = r.data.size, r.data.channels
    return f"images = torch.zeros(1, {size}, {size}, {channels}, dtype=torch.uint8)  # n h w c"


def _scored(folder: RunFolder) -> str:
    try:
        scores: Mapping[str, float] = runs.evaluate(folder)
    except InputError:  # no labels, or saved without its run
        return "The images it was fitted on had no labels to score it against."
    return (
        f"On the {scores['n']:,} labelled images it was fitted on (labels used for the scores only):\n\n"
        "| ACC | NMI | ARI |\n|---|---|---|\n"
        f"| {scores['acc']:.4f} | {scores['nmi']:.4f} | {scores['ari']:.4f} |"
    )
