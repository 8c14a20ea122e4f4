"""`connr reproduce`: runs the paper's tables; mean ± std over seeds, with the paper's numbers.

`plan` says what there is to do, without importing torch; `runner` does it.
"""

from connr.reproduce.plan import Cell, cells, count
from connr.reproduce.tables import TABLES, Row, Table

__all__ = ["TABLES", "Cell", "Row", "Table", "cells", "count"]
