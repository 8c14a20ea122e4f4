"""New images -> a table of clusters, in chunks: the model's answers, and the file or stream they are written to."""

from connr.inference.rows import Rows, assign, score
from connr.inference.tables import COLUMNS, CsvTable, check_place, skipped_beside, write, write_file

__all__ = ["COLUMNS", "CsvTable", "Rows", "assign", "check_place", "score", "skipped_beside", "write", "write_file"]
