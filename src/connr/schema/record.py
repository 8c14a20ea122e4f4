"""Base classes of file schemas: strict types, bounded numbers and bounded text."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from connr.recipe.section import MAX_CLUSTERS, MAX_EPOCHS

LARGEST = 3.5e38  # about the largest number in single precision
LONGEST_TEXT = 4096  # characters: as long as a path may be
SHOWN = 80  # characters of a wrong value


def _text(value: Any) -> str:
    """Text; bytes of file names that are not UTF-8 are surrogates."""
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
    """A record of a file: strict and immutable. Unknown keys, of later versions, are ignored."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)


def faults(found: ValidationError) -> str:
    """The first three faults in one sentence: the key, what is expected, and the value."""
    messages = []
    for fault in found.errors(include_url=False)[:3]:
        where = ".".join(str(part) for part in fault["loc"])
        what = fault["msg"].removeprefix("Value error, ")
        value = "" if fault["type"] in ("missing", "value_error") else f", is {shown(fault['input'])}"
        messages.append(f"{where}: {what}{value}" if where else what)
    return "; ".join(messages)


def shown(value: object) -> str:
    """The beginning of the repr of a value."""
    try:
        text = ascii(value)
    except (ValueError, RecursionError, MemoryError):  # a huge number, or deeply nested lists
        return f"a {type(value).__name__} that is too large to show"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
