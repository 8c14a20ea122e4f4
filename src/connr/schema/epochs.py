"""events.jsonl: one JSON object per line, one line per epoch."""

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
        epoch: number of finished epochs, >= 1.
        stage: name of the phase.
        loss: mean over the steps.
        kept: mean share of anchors kept.
        gradient: mean norm of the gradient; other metrics of the method are extra keys.
        lr: learning rate at the last step.
        seconds: of training and of the pass over all images.
        inertia: of k-means.
        cluster_sizes: number of images of each cluster.
        feature_std: spread of the features; NaN if they are not finite.
        acc: accuracy against the labels.
        nmi: normalised mutual information with the labels.
        ari: adjusted Rand index with the labels.
        n: number of labelled images.
        warnings: messages.
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
    feature_std: Annotated[float, Field(allow_inf_nan=True)] | None = None
    inertia: NonNegative | None = None
    cluster_sizes: ClusterSizes | None = None
    acc: Share | None = None
    nmi: Real | None = None
    ari: Real | None = None
    n: Annotated[int, Field(ge=0, lt=2**53)] | None = None
    warnings: Annotated[tuple[Text, ...], Field(max_length=100, strict=False)] = ()


def read_epochs(path: Path) -> list[dict[str, Any]]:
    """The records of the finished epochs in order; empty without a file. An incomplete last line is ignored.

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
    """Appends a line and flushes it to the disk."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
        file.flush()
        os.fsync(file.fileno())


def write_epochs(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes the whole file."""
    write_text(path, "".join(json.dumps(record) + "\n" for record in records))
