"""The config of a pretrained backbone, which `connr.networks.by_name` opens."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from connr.recipe.plugins import BackboneConfig
from connr.recipe.section import Fraction, Name
from connr.registry import BACKBONES


@BACKBONES.register("pretrained")
class Pretrained(BackboneConfig):
    """A pretrained network: `model` is `torchvision:NAME[:WEIGHTS]`, `timm:NAME`, `hub:FOLDER or USER/NAME`, `run:FOLDER`.

    `weights`: a file of them; `random` for none; null for the network's own.
    `frozen`: it runs once over `views` views of every image, and only the heads train, on what it gave. Not frozen, it trains
    too: its first layers at `first_layers` times the learning rate of its last, those between at equal steps of ratio.
    """

    pretrained: ClassVar[bool] = True

    name: Literal["pretrained"] = "pretrained"
    model: Name
    weights: Name | None = None
    frozen: bool = True
    views: Annotated[int, Field(ge=1, le=10_000)] = 4
    first_layers: Fraction = 0.1

    @property
    def is_frozen(self) -> bool:
        return self.frozen
