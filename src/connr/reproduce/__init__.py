"""`connr reproduce`: the paper's tables as runs, mean ± std over seeds beside the paper's numbers."""

from connr.reproduce.runner import cells, count, measure, reproduce
from connr.reproduce.tables import TABLES, Row, Table

__all__ = ["TABLES", "Row", "Table", "cells", "count", "measure", "reproduce"]
