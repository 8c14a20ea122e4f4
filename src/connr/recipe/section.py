"""`Section`, the base class of config sections, and number types with ranges."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MAX_CLUSTERS = 100_000
MAX_EPOCHS = 1_000_000
MOST = 1e6  # bound of numbers without a unit: single precision may overflow above it

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=10**9)]
ClusterCount = Annotated[int, Field(ge=1, le=MAX_CLUSTERS)]
EpochCount = Annotated[int, Field(ge=1, le=MAX_EPOCHS)]
Layers = Annotated[int, Field(ge=0, le=100)]
Name = Annotated[str, Field(max_length=4096)]
Width = Annotated[int, Field(ge=1, le=65536)]
Positive = Annotated[float, Field(gt=0, le=MOST)]
NonNegative = Annotated[float, Field(ge=0, le=MOST)]
Fraction = Annotated[float, Field(gt=0, le=1)]


class Section(BaseModel):
    """A section of a recipe: immutable, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
