"""config.json of a network of timm, in the format of the Hugging Face Hub."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError

from connr.errors import InputError
from connr.schema.record import Real, Record, Text, faults

Pixels = Annotated[int, Field(ge=1, le=4096)]
Deviation = Annotated[float, Field(ge=1e-6, le=1e6)]
Names = Text | Annotated[tuple[Text, ...], Field(max_length=16, strict=False)]


class TimmInput(Record):
    """The keys of a `pretrained_cfg` that connr reads; None or missing means timm's default."""

    model_config = ConfigDict(strict=False)

    input_size: tuple[Annotated[int, Field(ge=1, le=64)], Pixels, Pixels] | None = None
    mean: Annotated[tuple[Real, ...], Field(min_length=1, max_length=64)] | None = None
    std: Annotated[tuple[Deviation, ...], Field(min_length=1, max_length=64)] | None = None
    interpolation: Text | None = None
    crop_pct: Annotated[float, Field(gt=0, le=10)] | None = None
    classifier: Names | None = None
    first_conv: Names | None = None
    num_classes: Annotated[int, Field(ge=0, le=10**6)] | None = None
    fixed_input_size: bool | None = None


class TimmConfig(Record):
    """The keys of the file that connr reads.

    Attributes:
        architecture: the name of the network.
        num_classes: of the weights.
        model_args: arguments of the network.
        input: `pretrained_cfg`, which older files have on the top level.
    """

    architecture: Text
    num_classes: Annotated[int, Field(ge=0, le=10**6)] | None = None
    model_args: Annotated[dict[str, Any], Field(max_length=100, default_factory=dict)]
    input: TimmInput

    @property
    def settings(self) -> dict[str, Any]:
        """As timm's `pretrained_cfg`, without missing keys."""
        given = {key: value for key, value in self.input.model_dump().items() if value is not None}
        return given if self.num_classes is None else {**given, "num_classes": self.num_classes}


def check_timm_config(content: Mapping[str, Any], name: str) -> TimmConfig:
    """Validates the content of the file; `name` is that of its source, for the message.

    Raises:
        InputError: a value is missing, or not as timm writes it.
    """
    whole = {**content, "input": content.get("pretrained_cfg") or content}
    try:
        found = TimmConfig.model_validate({key: value for key, value in whole.items() if value is not None})
    except ValidationError as fault:
        raise InputError(f"{name} is not as timm writes it: {faults(fault)}.") from fault
    channels = (found.input.input_size or (3,))[0]
    for numbers in (found.input.mean, found.input.std):
        if numbers and len(numbers) != channels:
            raise InputError(f"{name} is not as timm writes it: mean and std should have {channels} numbers each.")
    return found
