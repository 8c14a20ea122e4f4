"""config.json of a fitted model: recipe, normalisation, and the config of its pretrained backbone."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from connr import __version__, recipe
from connr.errors import InputError
from connr.recipe import Recipe
from connr.run_folder import write_text
from connr.schema.json_text import read_json
from connr.schema.record import Real, Record, Text, faults

SMALLEST_STD = 1e-6  # of pixels in [0, 1]; a fit writes at least 1/255
SMALLEST_FEATURE_STD = 1.2e-38  # the smallest with a finite inverse in single precision


class TorchvisionBackbone(Record):
    """A network of torchvision, by name."""

    kind: Literal["torchvision"]
    name: Text


class TimmBackbone(Record):
    """A network of timm, by name, with its arguments."""

    kind: Literal["timm"]
    name: Text
    arguments: Annotated[dict[str, Any], Field(max_length=100)]


class OwnBackbone(Record):
    """A network of connr, by its section of a recipe."""

    kind: Literal["connr"]
    backbone: dict[str, Any]
    channels: Literal[1, 3]

    @field_validator("backbone")
    @classmethod
    def _from_scratch(cls, content: dict[str, Any]) -> dict[str, Any]:
        section = recipe.backbone(content)
        if section.takes_features or section.pretrained:
            raise ValueError("should be a network for images that is trained from scratch")
        return content


class ModuleBackbone(Record):
    """A user's module, which must be passed in Python."""

    kind: Literal["module"]
    name: Text


class ModelConfig(Record):
    """The content of config.json.

    Attributes:
        connr: the version that wrote it.
        data: source of the images; empty for arrays and in exported models.
        recipe: of the run, complete: with the number of clusters and the size of the images.
        mean: per channel, for pixels in [0, 1]; per column for rows of features.
        std: per channel or column, > 0.
        backbone: config of the pretrained backbone; None if the network was trained from scratch.
    """

    connr: Text = ""
    data: Text = ""
    recipe: Recipe
    mean: Annotated[list[Real], Field(min_length=1)]
    std: Annotated[list[Real], Field(min_length=1)]
    backbone: (
        Annotated[TorchvisionBackbone | TimmBackbone | OwnBackbone | ModuleBackbone, Field(discriminator="kind")] | None
    ) = None

    @model_validator(mode="after")
    def _complete(self) -> "ModelConfig":
        r = self.recipe
        if r.clusters is None:
            raise ValueError("its recipe has no number of clusters")
        if (r.takes_features or r.frozen) and not r.data.features:
            raise ValueError("its recipe has no data.features, the width of the rows that its heads are given")
        if not r.takes_features and not r.data.size:
            raise ValueError("its recipe has no data.size")
        width = r.data.features if r.takes_features else r.data.channels
        if not len(self.mean) == len(self.std) == width:
            raise ValueError(f"mean and std should have {width} numbers each, have {len(self.mean)} and {len(self.std)}")
        smallest = SMALLEST_FEATURE_STD if r.takes_features else SMALLEST_STD
        if min(self.std) < smallest:
            raise ValueError(f"std should be at least {smallest:g}, is {min(self.std):g}")
        if r.backbone.pretrained != (self.backbone is not None):
            raise ValueError("a pretrained backbone should be both in its recipe and under `backbone`, or in neither")
        return self

    @property
    def clusters(self) -> int:
        """The number of clusters."""
        assert self.recipe.clusters is not None  # as validated
        return self.recipe.clusters

    @property
    def backbone_config(self) -> dict[str, Any] | None:
        """The config of the pretrained backbone, see `connr.networks.Backbone`."""
        return self.backbone.model_dump() if self.backbone else None


def read_model_config(path: Path) -> ModelConfig:
    """Reads config.json of a finished run or an exported model, of this version or of 0.1.

    Raises:
        InputError: it is not there, cannot be read, or is not as a run writes it.
    """
    return check_model_config(read_json(path), str(path))


def check_model_config(content: Mapping[str, Any], name: str) -> ModelConfig:
    """Validates the content of config.json; `name` is that of the file, for the message.

    Raises:
        InputError: a key is missing, or a value is not as a run writes it.
    """
    if not isinstance(content.get("recipe"), Recipe | Mapping):
        raise InputError(f"{name} is not as a run writes it: it has no recipe.")
    r = recipe.check(content["recipe"], name)
    try:
        return ModelConfig.model_validate({**content, "recipe": r})
    except ValidationError as fault:
        raise InputError(f"{name} is not as a run writes it: {faults(fault)}.") from fault


def write_model_config(
    path: Path,
    r: Recipe,
    mean: list[float],
    std: list[float],
    *,
    data: str = "",
    backbone_config: dict[str, Any] | None = None,
) -> None:
    """Writes config.json.

    Args:
        path: of the file.
        r: the recipe, complete.
        mean: per channel, or per column of rows of features.
        std: per channel, or per column of rows of features.
        data: source of the images.
        made: of a pretrained backbone, `Backbone.made`.
    """
    config = {"connr": __version__, "data": data, "recipe": r.model_dump(mode="json"), "mean": mean, "std": std}
    if backbone_config:
        config["backbone"] = backbone_config
    write_text(path, json.dumps(config, indent=2) + "\n")
