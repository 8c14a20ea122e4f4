"""What every part of a recipe is made of: a section, and kinds of numbers with their ranges."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MAX_CLUSTERS = 100_000
MAX_EPOCHS = 1_000_000
MOST = 1e6  # of a number without a unit of its own: beyond it single precision overflows somewhere

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
    """A part of a recipe: unknown keys refused, values fixed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
