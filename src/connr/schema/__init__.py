"""Schemas of the files that connr reads and writes.

Nothing in such a file is believed: types, ranges, sizes and nesting are checked, and what does not hold is one `InputError`.
"""

from connr.schema.assignments import AssignmentRow, read_assignments, write_assignments
from connr.schema.checkpoint_header import FORMAT, CheckpointHeader, check_header
from connr.schema.epochs import EpochRecord, append_epoch, read_epochs, write_epochs
from connr.schema.json_text import parse_json, read_json
from connr.schema.model_config import ModelConfig, check_model_config, read_model_config, write_model_config
from connr.schema.tables import read_csv, read_skipped, write_csv, write_skipped
from connr.schema.timm_config import TimmConfig, check_timm_config

__all__ = [
    "FORMAT",
    "AssignmentRow",
    "CheckpointHeader",
    "EpochRecord",
    "ModelConfig",
    "TimmConfig",
    "append_epoch",
    "check_header",
    "check_model_config",
    "check_timm_config",
    "parse_json",
    "read_assignments",
    "read_csv",
    "read_epochs",
    "read_json",
    "read_model_config",
    "read_skipped",
    "write_assignments",
    "write_csv",
    "write_epochs",
    "write_model_config",
    "write_skipped",
]
