"""A recipe: every number of a run, checked as a whole before anything starts.

Times are shares of `train.epochs`, so that `--set train.epochs=50` alone shortens a run in proportion.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from connr.errors import InputError

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, le=1)]


class RecipeError(InputError):
    """A recipe that cannot be run; the message lists every fault."""


class Section(BaseModel):
    """A part of a recipe: unknown keys refused, values fixed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(Section):
    """Images are brought to size x size pixels and 1 or 3 channels."""

    size: Annotated[int, Field(ge=8, le=1024)] = 32
    channels: Literal[1, 3] = 3


class ResNet(Section):
    """torchvision's ResNet; `small_images` = 3x3 stem of stride 1 and no max-pool."""

    name: Literal["resnet18", "resnet34"]
    small_images: bool = False


class SmallResNet(Section):
    """A ResNet for CPUs: `stages` sizes of `blocks` blocks, the first `width` wide, doubling."""

    name: Literal["small"]
    width: Count = 32
    stages: Annotated[int, Field(ge=1, le=5)] = 3
    blocks: Count = 1


class BYOL(Section):
    """Widths of projector and predictor, and the target momentum at the start (it rises to `final_momentum`)."""

    name: Literal["byol"]
    hidden: Count = 4096
    out: Count = 256
    predictor_std: Positive | None = 0.01
    target_momentum: Share = 0.996
    final_momentum: Share = 1.0


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
    """Eqs. 9-13: `fraction` of the anchors kept at t0, rising to `final` at the share `until` of all epochs (Eq. 12)."""

    name: Literal["boundary"]
    fraction: Fraction = 0.8
    final: Fraction = 1.0
    until: Share = 1.0


class Augment(Section):
    """Strengths of the random views; see `connr.augment.Augment`. None or 0 switches a part off."""

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
    `evaluate_every`: epochs of stage 1 between two k-means, for the log only; 0 for none.
    `keep_checkpoints`: the latest so many; 0 keeps all.
    """

    epochs: Count = 1000
    group_from: Share = 0.8
    batch_size: Annotated[int, Field(ge=2)] = 256
    base_lr: Positive = 0.05
    warmup: Share = 0.05
    momentum: Share = 0.9
    weight_decay: NonNegative = 5e-4
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    evaluate_every: Annotated[int, Field(ge=0)] = 0
    keep_checkpoints: Annotated[int, Field(ge=0)] = 2


class KMeans(Section):
    """Of every epoch from t0 on and of the end."""

    restarts: Count = 10
    max_iterations: Count = 300


class Recipe(Section):
    """A whole run. `clusters` may be left to the command line."""

    description: str = ""
    clusters: Annotated[int, Field(ge=2)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    data: Data = Data()
    backbone: Annotated[ResNet | SmallResNet, Field(discriminator="name")]
    framework: BYOL
    augment: Augment = Augment()
    instance: Stage = Stage()
    group: GroupStage = GroupStage()
    train: Train = Train()
    kmeans: KMeans = KMeans()

    @property
    def t0(self) -> int:
        """The first epoch of group concordance (Eq. 15)."""
        return round(self.train.group_from * self.train.epochs)

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(f.name.removesuffix(".yaml") for f in _shelf().iterdir() if f.name.endswith(".yaml"))


def text(name: str) -> str:
    """The YAML of a recipe by name, or of a file by path.

    Raises:
        RecipeError: there is neither.
    """
    if name in names():
        return (_shelf() / f"{name}.yaml").read_text(encoding="utf-8")
    path = Path(name)
    if path.suffix in {".yaml", ".yml"} and path.is_file():
        return path.read_text(encoding="utf-8")
    raise RecipeError(f"recipe {name!r} is neither a YAML file nor one of: {', '.join(names())}.{_nearest(name, names())}")


def load(name: str, settings: Iterable[str] = (), **changes: Any) -> Recipe:
    """A recipe by name or file, with top-level changes and then `a.b=value` settings laid over it.

    Raises:
        RecipeError: with every fault of the result, one a line.
    """
    try:
        content = yaml.safe_load(text(name))
    except yaml.YAMLError as fault:
        raise RecipeError(f"recipe {name!r} is not YAML: {fault}") from fault
    if not isinstance(content, dict):
        raise RecipeError(f"recipe {name!r} should be a mapping of sections, not {type(content).__name__}.")
    content = check({**content, **{key: value for key, value in changes.items() if value is not None}}, name).model_dump()
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"--set {setting!r} should read a.b=value, e.g. train.epochs=50.")
        try:
            content = _laid_over(content, key.strip().split("."), yaml.safe_load(value))
        except yaml.YAMLError as fault:
            raise RecipeError(f"--set {setting!r}: the value is not YAML: {fault}") from fault
    return check(content, name)


def check(content: Mapping[str, Any], name: str = "recipe") -> Recipe:
    """The recipe that `content` describes.

    Raises:
        RecipeError: with every fault, one a line; an unknown key with the nearest right one.
    """
    lines: list[str] = []
    recipe = None
    try:
        recipe = Recipe.model_validate(content)
        content = recipe.model_dump()
    except ValidationError as faults:
        lines += _explain(faults)
    lines += _misfits(content)
    if recipe is None or lines:
        head = f"recipe {name!r} has {len(lines)} fault{'s' if len(lines) > 1 else ''}: "
        raise RecipeError(head + ("\n  " if len(lines) > 1 else "") + "\n  ".join(lines))
    return recipe


def _misfits(content: Mapping[str, Any]) -> Iterator[str]:
    """Values that do not fit together, wherever both are there to be compared."""

    def at(*place: str) -> Any:
        value: Any = content
        for key in place:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    batch = at("train", "batch_size")
    for stage in ("instance", "group"):
        for size in ("k", "k1", "k2"):
            value = at(stage, "neighbourhood", size)
            if isinstance(value, int) and isinstance(batch, int) and value > batch:
                yield f"{stage}.neighbourhood.{size}={value} should be at most train.batch_size={batch}."
    for place in (("augment", "crop_scale"), ("augment", "zoom"), ("instance", "crop_scale"), ("group", "crop_scale")):
        bounds = at(*place)
        if isinstance(bounds, list | tuple) and len(bounds) == 2 and bounds[0] > bounds[1]:
            yield f"{'.'.join(place)}={list(bounds)} should rise."


SOCKETS = ("backbone", "framework", "neighbourhood", "anchors")  # pydantic adds the chosen part's name after these


def _explain(faults: ValidationError) -> Iterator[str]:
    """One line a fault: where, what was found, what should be there."""
    for fault in faults.errors(include_url=False):
        place = [str(part) for part in fault["loc"]]
        key = ".".join(part for before, part in zip(["", *place], place, strict=False) if before not in SOCKETS)
        if fault["type"] == "extra_forbidden":
            yield f"{key} is not a key.{_nearest(key, keys())}"
        elif fault["type"] == "missing":
            yield f"{key} is missing."
        elif not key:
            yield fault["msg"].removeprefix("Value error, ") + "."
        else:
            yield f"{key}={fault['input']!r}: {fault['msg']}."


def keys(section: type[Section] = Recipe, prefix: str = "") -> list[str]:
    """Every key that a recipe may have, dotted: `train.epochs`, `group.neighbourhood.k`."""
    found = []
    for name, field in section.model_fields.items():
        parts = [part for part in (field.annotation, *get_args(field.annotation)) if isinstance(part, type)]
        sections = [part for part in parts if issubclass(part, Section)]
        found += [key for part in sections for key in keys(part, f"{prefix}{name}.")] or [prefix + name]
    return list(dict.fromkeys(found))


def _nearest(word: str, known: list[str]) -> str:
    """' Did you mean ...?', or nothing. A right key in a wrong section counts as near."""
    last = word.rpartition(".")[2]
    near = [k for k in known if k.rpartition(".")[2] == last] or difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def _laid_over(content: Any, path: list[str], value: Any) -> dict[str, Any]:
    """`content` with the value at `path` replaced; a new part by name starts from that part's own defaults."""
    branch = dict(content) if isinstance(content, Mapping) else {}
    key, *rest = path
    branch[key] = _laid_over(branch.get(key), rest, value) if rest else value
    if key == "name":
        branch = {"name": value}
    return branch


def _shelf() -> Traversable:
    return resources.files("connr") / "recipes"
