"""Backbones and frameworks: which there are, and their numbers."""

from typing import Annotated, Literal

from pydantic import Field

from connr.recipe.section import Fraction, Name, Positive, Section, Share, Width


class ResNet(Section):
    """torchvision's ResNet; `small_images` = 3x3 stem of stride 1 and no max-pool."""

    name: Literal["resnet18", "resnet34"]
    small_images: bool = False


class SmallResNet(Section):
    """A ResNet for CPUs: `stages` sizes of `blocks` blocks, the first `width` wide, doubling; stem_stride 2 halves first."""

    name: Literal["small"]
    width: Annotated[int, Field(ge=1, le=2048)] = 32
    stages: Annotated[int, Field(ge=1, le=5)] = 3
    blocks: Annotated[int, Field(ge=1, le=100)] = 1
    stem_stride: Literal[1, 2] = 1


class Pretrained(Section):
    """A network from elsewhere: `model` is `torchvision:NAME[:WEIGHTS]`, `timm:NAME`, `hub:FOLDER or USER/NAME`, `run:FOLDER`.

    `weights`: a file of them; `random` for none; null for the network's own.
    `frozen`: it runs once over `views` views of every image, and only the heads train, on what it gave. Not frozen, it trains
    too: its first layers at `first_layers` times the learning rate of its last, those between at equal steps of ratio.
    """

    name: Literal["pretrained"]
    model: Name
    weights: Name | None = None
    frozen: bool = True
    views: Annotated[int, Field(ge=1, le=10_000)] = 4
    first_layers: Fraction = 0.1


class MLP(Section):
    """For rows of features: a layer for each of `widths`, with BatchNorm and ReLU; none leaves the rows to the heads."""

    name: Literal["mlp"]
    widths: Annotated[tuple[Width, ...], Field(max_length=100)] = ()


class BYOL(Section):
    """Widths of projector and predictor, and the target momentum at the start (it rises to `final_momentum`)."""

    name: Literal["byol"]
    hidden: Width = 4096
    out: Width = 256
    predictor_std: Positive | None = 0.01
    target_momentum: Share = 0.996
    final_momentum: Share = 1.0


class SimSiam(Section):
    """Widths of projector and predictor; the predictor is `bottleneck` wide inside. There is no target to have a momentum."""

    name: Literal["simsiam"]
    hidden: Width = 2048
    out: Width = 2048
    bottleneck: Width = 512
    layers: Annotated[int, Field(ge=2, le=100)] = 3

    @property
    def target_momentum(self) -> float:
        return 1.0

    @property
    def final_momentum(self) -> float:
        return 1.0


class MoCo(Section):
    """MoCo v2: projector, queue of negatives, temperature, target momentum."""

    name: Literal["moco"]
    hidden: Width = 512
    out: Width = 128
    queue: Annotated[int, Field(ge=1, le=10**8)] = 65536
    temperature: Positive = 0.2
    target_momentum: Share = 0.999
    final_momentum: Share = 0.999
