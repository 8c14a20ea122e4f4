"""The header of a checkpoint: how far the run had come, and on which images."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from connr.errors import InputError
from connr.schema.record import EpochNumber, NonNegative, Record, Text, faults

FORMAT = "connr-checkpoint-2"


class CheckpointHeader(Record):
    """What the header of a checkpoint holds.

    Attributes:
        format: of the file.
        data: the fingerprint of the images.
        epoch: how many epochs were finished.
        step: how many steps of the next one were finished.
        seconds: that those steps took.
        inertia: of the clusters, None where there are none.
        digest: of the tensors.
    """

    format: Literal["connr-checkpoint-2"] = "connr-checkpoint-2"
    data: Text
    epoch: EpochNumber
    step: Annotated[int, Field(ge=0, lt=2**40)]
    seconds: NonNegative
    inertia: NonNegative | None
    digest: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


def check_header(content: dict[str, Any], name: str) -> CheckpointHeader:
    """The header that a JSON object describes; `name` of its file, for the message.

    Raises:
        InputError: it is of another format, or not as a run writes it.
    """
    if content.get("format") != FORMAT:
        raise InputError(f"checkpoint {name} has format {str(content.get('format'))[:40]}, should be {FORMAT}.")
    try:
        return CheckpointHeader.model_validate(content)
    except ValidationError as fault:
        raise InputError(
            f"checkpoint {name} is not as a run writes it: {faults(fault)}; remove it to go on from the one before."
        ) from fault
