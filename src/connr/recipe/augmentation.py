"""Configuration of random views of images and of rows of features."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from connr.recipe.section import Count, Fraction, NonNegative, Positive, Section, Share


def _odd(number: int) -> int:
    if number % 2 == 0:
        raise ValueError("should be odd")
    return number


NAMED_STRENGTHS: dict[str, dict[str, Any]] = {  # of the papers, for photos; other keys of the recipe override them
    "own": {},
    "simclr": {
        "crop_scale": (0.08, 1.0),
        "flip": 0.5,
        "jitter": (0.8, 0.8, 0.8, 0.2),
        "grey_probability": 0.2,
        "blur_probability": 0.5,
    },
    "byol": {  # means of its two sets: blur probability 1 and 0.1, solarise probability 0 and 0.2
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


class AugmentConfig(Section):
    """Strengths of the random views; see `connr.views.AugmentConfig`. None or 0 disables a part.

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
    warp_knots: Annotated[int, Field(ge=2, le=1024)] = 3
    jitter: tuple[NonNegative, NonNegative, NonNegative, Annotated[float, Field(ge=0, le=0.5)]] | None = None
    jitter_probability: Share = 0.8
    grey_probability: Share = 0.0
    blur_probability: Share = 0.0
    blur_kernel: Annotated[int, Field(ge=3, le=2047), AfterValidator(_odd)] | None = None
    blur_sigma: tuple[Positive, Positive] = (0.1, 2.0)
    solarise_probability: Share = 0.0

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        known = isinstance(given, dict) and isinstance(given.get("name"), str)
        return {**NAMED_STRENGTHS.get(given["name"], {}), **given} if known else given


class FeatureViewsConfig(Section):
    """Random views of rows of features; see `connr.views.FeatureViewsConfig`. 0 disables a part.

    `mix`: from how much to how much a row moves towards one of its `neighbours` nearest rows of the whole data, by Euclid; or,
    with the normalised rows on the sphere, `local` by cosine (Eq. 2) or `contextual` (Eqs. 3-7, with k1, k2 and alpha).
    `cluster_share`: there are at most so many of them for each row of a cluster of mean size, n / clusters.
    `scale`: rows are centred, then divided by one number for all columns, as features of one network have the same unit, or
    by one for each of the `columns`, which may have units of their own.
    """

    noise: NonNegative = 0.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    mix: tuple[Share, Share] = (0.0, 0.0)
    neighbours: Annotated[int, Field(ge=0, le=10**9)] = 0
    cluster_share: Fraction | None = None
    neighbourhood: Literal["euclidean", "local", "contextual"] = "euclidean"
    k1: Count = 20
    k2: Count = 5
    alpha: NonNegative = 2.0
    scale: Literal["all", "columns"] = "all"
