"""The header of a checkpoint: the position in training and the fingerprint of the images."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from connr.errors import InputError
from connr.schema.record import EpochNumber, NonNegative, Record, Text, faults

FORMAT = "connr-checkpoint-3"


class CheckpointHeader(Record):
    """The header of a checkpoint.

    Attributes:
        format: of the file.
        data: the fingerprint of the images.
        epoch: number of finished epochs.
        step: number of finished steps of the next epoch.
        seconds: duration of those steps.
        inertia: of the clusters; None without clusters.
        digest: of the tensors.
    """

    format: Literal["connr-checkpoint-3"] = "connr-checkpoint-3"
    data: Text
    epoch: EpochNumber
    step: Annotated[int, Field(ge=0, lt=2**40)]
    seconds: NonNegative
    inertia: NonNegative | None
    digest: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


def check_header(content: dict[str, Any], name: str) -> CheckpointHeader:
    """Validates a header; `name` is that of its file, for the message.

    Raises:
        InputError: it is of another format, or not as a run writes it.
    """
    if content.get("format") != FORMAT:
        raise InputError(
            f"checkpoint {name} has format {str(content.get('format'))[:40]}, should be {FORMAT}: it is of another version of "
            "connr. Go on with that version, or start anew with another --out."
        )
    try:
        return CheckpointHeader.model_validate(content)
    except ValidationError as fault:
        raise InputError(
            f"checkpoint {name} is not as a run writes it: {faults(fault)}; remove it to go on from the one before."
        ) from fault
