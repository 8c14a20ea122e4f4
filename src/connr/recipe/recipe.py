"""A whole recipe.

Times are shares of `train.epochs`, so that `--set train.epochs=50` alone shortens a run in proportion.
"""

from typing import Annotated, Literal

import yaml
from pydantic import Field

from connr.recipe.augmentation import Augment, FeatureViews
from connr.recipe.networks import BYOL, MLP, MoCo, Pretrained, ResNet, SimSiam, SmallResNet
from connr.recipe.photograph import Photograph
from connr.recipe.section import MAX_EPOCHS, ClusterCount, Count, EpochCount, Name, NonNegative, Positive, Section, Share
from connr.recipe.square import Square
from connr.recipe.stages import GroupStage, Stage


class Data(Section):
    """Images are brought to size x size pixels and 1 or 3 channels. `images`: how many the data set has, for estimates.

    `size: 0` is that which a pretrained backbone was made for. `features`: the width of rows of features; a fit fills it in.
    `labels_from_folders`: the name of a picture's folder is its label, for the scores. `resident_gib`: images that take more
    than so many GiB, in the memory of the machine or of its GPU, are read from a file a batch at a time; nothing else changes.
    `unreadable_at_most`: the share of the pictures that may be left out because they cannot be read.
    `stored`: views are cut from the whole picture, whose shorter side is kept at so many times `size`; null: from the central
    square at `size`, which is what is evaluated in either case. Arrays, CIFAR and STL-10 have that square only.
    """

    images: Count | None = None
    size: Literal[0] | Annotated[int, Field(ge=8, le=1024)] = 32
    channels: Literal[1, 3] = 3
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    features: Count | None = None
    labels_from_folders: bool = False
    unreadable_at_most: Share = 0.1
    resident_gib: NonNegative = 4.0
    stored: Annotated[float, Field(ge=1, le=2)] | None = None

    @property
    def photograph(self) -> Photograph | None:
        """How the whole picture is stored; None where views are cut from the square."""
        return Photograph(self.square, round(self.stored * self.size)) if self.stored and self.size else None

    @property
    def square(self) -> Square:
        """What images are brought to."""
        return Square(self.size, self.channels, self.interpolation)


class Train(Section):
    """lr = base_lr · batch_size / 256, warmed up over the share `warmup` of all epochs, then a cosine to 0.

    `group_from` is t0 / T: the share of the epochs before Eq. 14 takes over from Eq. 1; 1 leaves out stage 2.
    `cosine_reaches_zero: false` stretches the cosine over the warm-up too, so that it ends early.
    `loss_mean` is taken over the `kept` anchors (Eq. 14), or over `all` with the dropped ones as zeros.
    `evaluate_every`: epochs of stage 1 between two k-means, for the log only; 0 for none.
    `precision`: of the networks. `64-true` keeps weights, features and k-means in double precision, about half as fast on a
    CPU: an exact check that a run does not depend on the number of processes.
    `keep_checkpoints`: the latest so many; 0 keeps all.
    `batch_norm`: over the batch of all ranks, or of each `rank` by itself (the released program's; scores then depend on
    the number of ranks). `compile`: networks and colours go through torch.compile. `deterministic`: slower, on a GPU, but a
    run repeats there too.
    """

    epochs: EpochCount = 1000
    group_from: Share = 0.8
    batch_size: Annotated[int, Field(ge=2, le=2**20)] = 256
    base_lr: Positive = 0.05
    warmup: Share = 0.05
    cosine_reaches_zero: bool = True
    loss_mean: Literal["kept", "all"] = "kept"
    momentum: Share = 0.9
    weight_decay: NonNegative = 5e-4
    precision: Literal["32-true", "bf16-mixed", "64-true"] = "32-true"
    evaluate_every: Annotated[int, Field(ge=0, le=MAX_EPOCHS)] = 0
    keep_checkpoints: Annotated[int, Field(ge=0, le=MAX_EPOCHS)] = 2
    batch_norm: Literal["synchronised", "rank"] = "synchronised"
    compile: bool = False
    deterministic: bool = False


class PreferIfCached(Section):
    """What is run instead, where the weights of one of these backbones are on the machine: that recipe, on the first one."""

    recipe: Name
    models: Annotated[tuple[Name, ...], Field(max_length=100)]


class KMeans(Section):
    """Of every epoch from t0 on and of the end."""

    restarts: Annotated[int, Field(ge=1, le=10_000)] = 10
    max_iterations: Annotated[int, Field(ge=1, le=10**6)] = 300
    reseed_empty: bool = True


class Recipe(Section):
    """A whole run. `clusters` may be left to the command line.

    `log`: where the numbers of every epoch go besides events.jsonl: nowhere, or into RUN/log for TensorBoard or as CSV.
    """

    description: Name = ""
    clusters: ClusterCount | None = None
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    data: Data = Data()
    backbone: Annotated[ResNet | SmallResNet | Pretrained | MLP, Field(discriminator="name")]
    framework: Annotated[BYOL | SimSiam | MoCo, Field(discriminator="name")]
    augment: Augment = Augment()
    feature_views: FeatureViews = FeatureViews()
    instance: Stage = Stage()
    group: GroupStage = GroupStage()
    train: Train = Train()
    kmeans: KMeans = KMeans()
    log: Literal["none", "tensorboard", "csv"] = "none"
    prefer_if_cached: PreferIfCached | None = None

    @property
    def t0(self) -> int:
        """The first epoch of group concordance (Eq. 15)."""
        return round(self.train.group_from * self.train.epochs)

    @property
    def takes_features(self) -> bool:
        """Whether it is for ready-made rows of features, not for images."""
        return isinstance(self.backbone, MLP)

    @property
    def frozen(self) -> bool:
        """Whether heads alone are trained, on what a backbone gives once for all."""
        return isinstance(self.backbone, Pretrained) and self.backbone.frozen

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
