"""torchvision's ResNets without weights, and a small one of the same family for CPUs."""

from typing import Annotated, Literal

from pydantic import Field
from torch import nn
from torchvision.models import resnet18, resnet34
from torchvision.models.resnet import BasicBlock

from connr.networks.pointwise import StridedPointwise, without_strided_pointwise
from connr.recipe.plugins import BackboneConfig
from connr.registry import BACKBONES

RESNETS = {"resnet18": resnet18, "resnet34": resnet34}


@BACKBONES.register("resnet18")
@BACKBONES.register("resnet34")
class ResNetConfig(BackboneConfig):
    """torchvision's ResNet; `small_images` = 3x3 stem of stride 1 and no max-pool."""

    name: Literal["resnet18", "resnet34"]
    small_images: bool = False

    def build(self, channels: int) -> nn.Module:
        return resnet(self.name, channels, self.small_images)


@BACKBONES.register("small")
class SmallResNetConfig(BackboneConfig):
    """A ResNet for CPUs: `stages` sizes of `blocks` blocks, the first `width` wide, doubling; stem_stride 2 halves first."""

    name: Literal["small"] = "small"
    width: Annotated[int, Field(ge=1, le=2048)] = 32
    stages: Annotated[int, Field(ge=1, le=5)] = 3
    blocks: Annotated[int, Field(ge=1, le=100)] = 1
    stem_stride: Literal[1, 2] = 1

    def build(self, channels: int) -> nn.Module:
        return small_resnet(channels, self.width, self.stages, self.blocks, self.stem_stride)


def resnet(name: str, channels: int = 3, small_images: bool = False) -> nn.Module:
    """torchvision's ResNet without its classifier; f = 512.

    Args:
        name: `resnet18` or `resnet34`.
        channels: of the images, 1 or 3.
        small_images: for 32 px, a first convolution of 3x3 and stride 1 and no max-pool.
    """
    network: nn.Module = RESNETS[name]()
    if small_images:
        network.conv1 = nn.Conv2d(channels, 64, kernel_size=3, stride=1, padding=1, bias=False)
        network.maxpool = nn.Identity()
    elif channels != 3:
        network.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    network.fc = nn.Identity()
    return without_strided_pointwise(network)


def small_resnet(channels: int = 3, width: int = 32, stages: int = 3, blocks: int = 1, stem_stride: int = 1) -> nn.Sequential:
    """The ResNet of small images (He et al. 2016, section 4.2) from torchvision's blocks; f = width * 2^(stages-1).

    Args:
        channels: of the images, 1 or 3.
        width: of the first stage; each later stage is twice as wide and half the size.
        stages: number of sizes.
        blocks: residual blocks a stage.
        stem_stride: 2 halves the image before the first stage, for images of 64 px and more.
    """
    stem = nn.Conv2d(channels, width, 3, stem_stride, padding=1, bias=False)
    layers: list[nn.Module] = [stem, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    before = width
    for stage in range(stages):
        after, stride = width * 2**stage, 1 if stage == 0 else 2
        for block in range(blocks):
            shortcut = None
            if block == 0 and (stride, before) != (1, after):
                shortcut = nn.Sequential(StridedPointwise(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
            layers.append(BasicBlock(before, after, stride if block == 0 else 1, shortcut))
            before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
