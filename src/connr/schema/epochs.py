"""events.jsonl: one JSON object a line, one line an epoch."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError

from connr.errors import InputError
from connr.recipe.section import MAX_EPOCHS
from connr.run_folder import write_text
from connr.schema.json_text import parse_json, read_text
from connr.schema.record import ClusterSizes, NonNegative, Real, Record, Share, Text, faults

MOST_BYTES = 2**27


class EpochRecord(Record):
    """One finished epoch. Values that an epoch does not have are left out.

    Attributes:
        epoch: how many are finished, from 1. stage: its name.
        loss, kept, gradient: means over its steps of the loss, the share of anchors kept, the norm of the gradient.
        lr, target_momentum: at its last step. seconds: of training and k-means.
        inertia, cluster_sizes, feature_std: of the k-means after it; feature_std is NaN where features are not finite.
        acc, nmi, ari, n: scores against the labels, of n images.
        warnings: sentences.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, bool | int | float | str]

    epoch: Annotated[int, Field(ge=1, le=MAX_EPOCHS)]
    stage: Annotated[Text, Field()]
    seconds: NonNegative
    loss: Real | None = None
    kept: Share | None = None
    gradient: NonNegative | None = None
    lr: NonNegative | None = None
    target_momentum: Share | None = None
    feature_std: Annotated[float, Field(allow_inf_nan=True)] | None = None
    inertia: NonNegative | None = None
    cluster_sizes: ClusterSizes | None = None
    acc: Share | None = None
    nmi: Real | None = None
    ari: Real | None = None
    n: Annotated[int, Field(ge=0, lt=2**53)] | None = None
    warnings: Annotated[tuple[Text, ...], Field(max_length=100, strict=False)] = ()


def read_epochs(path: Path) -> list[dict[str, Any]]:
    """The records of the epochs so far, in order; none where there is no file. A last line that was cut off is left out.

    Raises:
        InputError: the file cannot be read, a line is not what a run writes, or the epochs are out of order.
    """
    if not path.exists():
        return []
    records = list[dict[str, Any]]()
    for number, line in enumerate(read_text(path, MOST_BYTES).split("\n")[:-1], start=1):
        name = f"{path}, line {number},"
        content = parse_json(line, name)
        try:
            record = EpochRecord.model_validate(content)
        except ValidationError as fault:
            raise InputError(f"{name} is not as a run writes it: {faults(fault)}; remove that line.") from fault
        if records and record.epoch <= records[-1]["epoch"]:
            raise InputError(f"{name} is not as a run writes it: epoch {record.epoch} comes after {records[-1]['epoch']}.")
        records.append(content)
    return records


def append_epoch(path: Path, record: Mapping[str, Any]) -> None:
    """One more line, on the disk when this returns."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
        file.flush()
        os.fsync(file.fileno())


def write_epochs(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """The whole file anew."""
    write_text(path, "".join(json.dumps(record) + "\n" for record in records))
