"""What every record of a file is made of: strict types, bounded numbers, text that can be printed and written again."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from connr.recipe.section import MAX_CLUSTERS, MAX_EPOCHS

LARGEST = 3.5e38  # about the largest number of single precision, which features, losses and weights are in
LONGEST_TEXT = 4096  # characters: as long as a path may be
SHOWN = 80  # characters of a wrong value


def _text(value: Any) -> str:
    """Text, also of file names that are not UTF-8, which have their bytes as surrogates."""
    if not isinstance(value, str):
        raise ValueError("should be text")
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"should have at most {LONGEST_TEXT:,} characters")
    try:
        value.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        raise ValueError("should be text that UTF-8 can hold") from None
    if "\0" in value:
        raise ValueError("should hold no zero byte")
    return value


Text = Annotated[str, PlainValidator(_text)]
Real = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
NonNegative = Annotated[float, Field(ge=0, le=LARGEST)]
Share = Annotated[float, Field(ge=0, le=1)]
ClusterSizes = Annotated[list[Annotated[int, Field(ge=0, lt=2**53)]], Field(max_length=MAX_CLUSTERS)]
EpochNumber = Annotated[int, Field(ge=0, le=MAX_EPOCHS)]


class Record(BaseModel):
    """A part of a file: no value is converted, none changes once it is read. Keys of later versions are left out."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)


def faults(found: ValidationError) -> str:
    """The first three faults in one sentence: where, what should be there, and what is."""
    told = []
    for fault in found.errors(include_url=False)[:3]:
        where = ".".join(str(part) for part in fault["loc"])
        what = fault["msg"].removeprefix("Value error, ")
        value = "" if fault["type"] in ("missing", "value_error") else f", is {shown(fault['input'])}"
        told.append(f"{where}: {what}{value}" if where else what)
    return "; ".join(told)


def shown(value: object) -> str:
    """The beginning of a value, whatever it is."""
    try:
        text = ascii(value)
    except (ValueError, RecursionError, MemoryError):  # a number of very many digits, or lists in lists in lists
        return f"a {type(value).__name__} that is too large to show"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
