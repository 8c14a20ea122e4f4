"""A whole recipe.

Times are shares of `train.epochs`, so that `--set train.epochs=50` alone shortens a run in proportion.
"""

from typing import Annotated, Literal

import yaml
from pydantic import Field

from connr.recipe.augmentation import AugmentConfig, FeatureViewsConfig
from connr.recipe.photograph import Photograph
from connr.recipe.plugins import BackboneConfig, MethodConfig
from connr.recipe.section import MAX_EPOCHS, ClusterCount, Count, EpochCount, Name, NonNegative, Positive, Section, Share
from connr.recipe.square import Square
from connr.registry import BACKBONES, METHODS, Plugged


class DataConfig(Section):
    """Images are converted to size x size pixels and 1 or 3 channels. `images`: number of images, for estimates.

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
        """The format of whole pictures; None if views are cropped from the square."""
        return Photograph(self.square, round(self.stored * self.size)) if self.stored and self.size else None

    @property
    def square(self) -> Square:
        """The size and channels of the images."""
        return Square(self.size, self.channels, self.interpolation)


class TrainConfig(Section):
    """lr = base_lr · batch_size / reference_batch, warmed up over the share `warmup` of all epochs, then a cosine to 0.

    `reference_batch: null` leaves base_lr as it is. `optimizer`, `momentum` and `weight_decay`: of phases that have no
    optimiser of their own.
    `cosine_reaches_zero: false` stretches the cosine over the warm-up too, so that it ends early.
    `evaluate_every`: epochs of stage 1 between two k-means, for the log only; 0 for none.
    `precision`: of the networks. `64-true` keeps weights, features and k-means in double precision, about half as fast on a
    CPU: an exact check that a run does not depend on the number of processes.
    `keep_checkpoints`: the latest so many; 0 keeps all.
    `batch_norm`: over the batch of all ranks, or of each `rank` by itself (the released program's; scores then depend on
    the number of ranks). `compile`: networks and colours go through torch.compile. `deterministic`: slower, on a GPU, but a
    run repeats there too.
    """

    epochs: EpochCount = 1000
    batch_size: Annotated[int, Field(ge=2, le=2**20)] = 256
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop", "lars"] = "sgd"
    base_lr: Positive = 0.05
    reference_batch: Count | None = 256
    warmup: Share = 0.05
    cosine_reaches_zero: bool = True
    momentum: Share = 0.9
    weight_decay: NonNegative = 5e-4
    precision: Literal["32-true", "bf16-mixed", "64-true"] = "32-true"
    evaluate_every: Annotated[int, Field(ge=0, le=MAX_EPOCHS)] = 0
    keep_checkpoints: Annotated[int, Field(ge=0, le=MAX_EPOCHS)] = 2
    batch_norm: Literal["synchronised", "rank"] = "synchronised"
    compile: bool = False
    deterministic: bool = False


class PreferIfCached(Section):
    """A recipe to run instead with the first of these backbones whose weights are on this machine."""

    recipe: Name
    models: Annotated[tuple[Name, ...], Field(max_length=100)]


class KMeansConfig(Section):
    """K-means of every epoch from t0 on and of the end."""

    restarts: Annotated[int, Field(ge=1, le=10_000)] = 10
    max_iterations: Annotated[int, Field(ge=1, le=10**6)] = 300
    reseed_empty: bool = True


class Recipe(Section):
    """The configuration of a run. `clusters` may be set on the command line.

    `augment` are the strengths of random views; methods that ask for a weak and a strong view draw them by `weak` (by default
    the geometry of `augment` alone) and `strong` (by default `augment`).
    `log`: where the numbers of every epoch go besides events.jsonl: nowhere, or into RUN/log for TensorBoard or as CSV.
    """

    description: Name = ""
    clusters: ClusterCount | None = None
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    data: DataConfig = DataConfig()
    backbone: Annotated[BackboneConfig, Plugged(BACKBONES)]
    method: Annotated[MethodConfig, Plugged(METHODS)]
    augment: AugmentConfig = AugmentConfig()
    weak: AugmentConfig | None = None
    strong: AugmentConfig | None = None
    feature_views: FeatureViewsConfig = FeatureViewsConfig()
    train: TrainConfig = TrainConfig()
    kmeans: KMeansConfig = KMeansConfig()
    log: Literal["none", "tensorboard", "csv"] = "none"
    prefer_if_cached: PreferIfCached | None = None

    @property
    def takes_features(self) -> bool:
        """Whether the input is rows of features, not images."""
        return self.backbone.takes_features

    @property
    def frozen(self) -> bool:
        """Whether only heads are trained, on cached features of a backbone."""
        return self.backbone.is_frozen

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
