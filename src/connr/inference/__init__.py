"""Inference: predictions, features and neighbours of new images."""

from connr.inference.rows import PredictionChunk, assign, score
from connr.inference.tables import COLUMNS, CsvTable, check_place, skipped_beside, write, write_file

__all__ = ["COLUMNS", "CsvTable", "PredictionChunk", "assign", "check_place", "score", "skipped_beside", "write", "write_file"]
