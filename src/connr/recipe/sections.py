"""The parts of a recipe and the range of every number.

Times are shares of `train.epochs`, so that `--set train.epochs=50` alone shortens a run in proportion.
"""

from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, model_validator

from connr.recipe.section import Count, Fraction, NonNegative, Positive, Section, Share, Width
from connr.recipe.side import Side


def _odd(number: int) -> int:
    if number % 2 == 0:
        raise ValueError("should be odd")
    return number


class Data(Section):
    """Images are brought to size x size pixels and 1 or 3 channels. `images`: how many the data set has, for estimates.

    `size: 0` is that which a pretrained backbone was made for. `features`: the width of rows of features; a fit fills it in.
    `labels_from_folders`: the name of a picture's folder is its label, for the scores. `resident_gib`: images that take more
    than so many GiB, in the memory of the machine or of its GPU, are read from a file a batch at a time; nothing else changes.
    `unreadable_at_most`: the share of the pictures that may be left out because they cannot be read.
    """

    images: Count | None = None
    size: Literal[0] | Annotated[int, Field(ge=8, le=1024)] = 32
    channels: Literal[1, 3] = 3
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    features: Count | None = None
    labels_from_folders: bool = False
    unreadable_at_most: Share = 0.1
    resident_gib: NonNegative = 4.0

    @property
    def side(self) -> Side:
        """`size` with the interpolation that leads to it."""
        return Side(self.size, self.interpolation)


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
    model: str
    weights: str | None = None
    frozen: bool = True
    views: Count = 4
    first_layers: Fraction = 0.1


class MLP(Section):
    """For rows of features: a layer for each of `widths`, with BatchNorm and ReLU; none leaves the rows to the heads."""

    name: Literal["mlp"]
    widths: tuple[Width, ...] = ()


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
    layers: Annotated[int, Field(ge=2)] = 3

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
    queue: Count = 65536
    temperature: Positive = 0.2
    target_momentum: Share = 0.999
    final_momentum: Share = 0.999


class Itself(Section):
    """N(i) = {i}, Eq. 1."""

    name: Literal["itself"]


class Local(Section):
    """The k nearest by cosine, Eq. 2."""

    name: Literal["local"]
    k: Count = 10


class Contextual(Section):
    """Eqs. 3-7."""

    name: Literal["contextual"]
    k: Count = 10
    k1: Count = 10
    k2: Count = 2
    alpha: NonNegative = 2.0
    layers: Annotated[int, Field(ge=0)] = 2


class Everyone(Section):
    """All images are anchors."""

    name: Literal["all"]


class Boundary(Section):
    """Eqs. 9-13: `fraction` of the anchors kept at t0, rising to `final` at the share `until` of all epochs (Eq. 12).

    `sigma_too: false` drops the image at the threshold as well.
    """

    name: Literal["boundary"]
    fraction: Fraction = 0.8
    final: Fraction = 1.0
    until: Share = 1.0
    sigma_too: bool = True


NAMED_STRENGTHS: dict[str, dict[str, Any]] = {  # of the papers, for photos; what a recipe says beside the name goes before it
    "own": {},
    "simclr": {
        "crop_scale": (0.08, 1.0),
        "flip": 0.5,
        "jitter": (0.8, 0.8, 0.8, 0.2),
        "grey_probability": 0.2,
        "blur_probability": 0.5,
    },
    "byol": {  # the means of its two sets of strengths: blur always and 0.1, solarised never and 0.2
        "crop_scale": (0.08, 1.0),
        "flip": 0.5,
        "jitter": (0.4, 0.4, 0.2, 0.1),
        "grey_probability": 0.2,
        "blur_probability": 0.55,
        "solarise_probability": 0.1,
    },
    "moco": {
        "crop_scale": (0.2, 1.0),
        "flip": 0.5,
        "jitter": (0.4, 0.4, 0.4, 0.1),
        "grey_probability": 0.2,
        "blur_probability": 0.5,
    },
}


class Augment(Section):
    """Strengths of the random views; see `connr.augment.Augment`. None or 0 switches a part off.

    `name`: those of SimCLR, BYOL or MoCo v2, but for the keys that are given as well.
    """

    name: Literal["own", "simclr", "byol", "moco"] = "own"
    crop_scale: tuple[Fraction, Fraction] | None = None
    crop_ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    flip: Share = 0.0
    rotate: NonNegative = 0.0
    shift: NonNegative = 0.0
    zoom: tuple[Positive, Positive] = (1.0, 1.0)
    shear: NonNegative = 0.0
    warp: NonNegative = 0.0
    warp_knots: Annotated[int, Field(ge=2)] = 3
    jitter: tuple[NonNegative, NonNegative, NonNegative, Annotated[float, Field(ge=0, le=0.5)]] | None = None
    jitter_probability: Share = 0.8
    grey_probability: Share = 0.0
    blur_probability: Share = 0.0
    blur_kernel: Annotated[int, Field(ge=3), AfterValidator(_odd)] | None = None
    blur_sigma: tuple[Positive, Positive] = (0.1, 2.0)
    solarise_probability: Share = 0.0

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        known = isinstance(given, dict) and isinstance(given.get("name"), str)
        return {**NAMED_STRENGTHS.get(given["name"], {}), **given} if known else given


class FeatureViews(Section):
    """Random views of rows of features; see `connr.augment.FeatureViews`. 0 switches a part off.

    `mix`: from how much to how much a row moves towards one of its `neighbours` nearest rows of the whole data.
    `scale`: rows are centred, then divided by one number for all columns, as features of one network have the same unit, or
    by one for each of the `columns`, which may have units of their own.
    """

    noise: NonNegative = 0.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    mix: tuple[Share, Share] = (0.0, 0.0)
    neighbours: Annotated[int, Field(ge=0)] = 0
    scale: Literal["all", "columns"] = "all"


class LearningRateFactors(Section):
    """Factors on the learning rate of each group of parameters."""

    encoder: NonNegative = 1.0
    predictor: NonNegative = 1.0


NeighbourhoodSection = Annotated[Itself | Local | Contextual, Field(discriminator="name")]
AnchorsSection = Annotated[Everyone | Boundary, Field(discriminator="name")]


class Stage(Section):
    """What a stage plugs into the sockets, by default stage 1; `crop_scale` replaces that of `augment`."""

    neighbourhood: NeighbourhoodSection = Itself(name="itself")
    anchors: AnchorsSection = Everyone(name="all")
    crop_scale: tuple[Fraction, Fraction] | None = None
    lr_factors: LearningRateFactors = LearningRateFactors()


class GroupStage(Stage):
    """Stage 2."""

    neighbourhood: NeighbourhoodSection = Contextual(name="contextual")
    anchors: AnchorsSection = Boundary(name="boundary")


class Train(Section):
    """lr = base_lr · batch_size / 256, warmed up over the share `warmup` of all epochs, then a cosine to 0.

    `group_from` is t0 / T: the share of the epochs before Eq. 14 takes over from Eq. 1; 1 leaves out stage 2.
    `cosine_reaches_zero: false` stretches the cosine over the warm-up too, so that it ends early.
    `loss_mean` is taken over the `kept` anchors (Eq. 14), or over `all` with the dropped ones as zeros.
    `evaluate_every`: epochs of stage 1 between two k-means, for the log only; 0 for none.
    `keep_checkpoints`: the latest so many; 0 keeps all.
    `batch_norm`: over the batch of all ranks, or of each `rank` by itself (the released program's; scores then depend on
    the number of ranks). `compile`: networks and colours go through torch.compile. `deterministic`: slower, on a GPU, but a
    run repeats there too.
    """

    epochs: Count = 1000
    group_from: Share = 0.8
    batch_size: Annotated[int, Field(ge=2)] = 256
    base_lr: Positive = 0.05
    warmup: Share = 0.05
    cosine_reaches_zero: bool = True
    loss_mean: Literal["kept", "all"] = "kept"
    momentum: Share = 0.9
    weight_decay: NonNegative = 5e-4
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    evaluate_every: Annotated[int, Field(ge=0)] = 0
    keep_checkpoints: Annotated[int, Field(ge=0)] = 2
    batch_norm: Literal["synchronised", "rank"] = "synchronised"
    compile: bool = False
    deterministic: bool = False


class AtHand(Section):
    """What is run instead, where the weights of one of these backbones are on the machine: that recipe, on the first one."""

    recipe: str
    models: tuple[str, ...]


class KMeans(Section):
    """Of every epoch from t0 on and of the end."""

    restarts: Count = 10
    max_iterations: Count = 300
    reseed_empty: bool = True


class Recipe(Section):
    """A whole run. `clusters` may be left to the command line.

    `log`: where the numbers of every epoch go besides events.jsonl: nowhere, or into RUN/log for TensorBoard or as CSV.
    """

    description: str = ""
    clusters: Count | None = None
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
    at_hand: AtHand | None = None

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
