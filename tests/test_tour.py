"""The notebook of the documentation runs from top to bottom, and is committed without outputs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOUR = Path(__file__).parent.parent / "docs" / "tour.ipynb"
CODE = """
import sys, nbformat
from nbclient import NotebookClient
book = nbformat.read(sys.argv[1], 4)
nbformat.validate(book)
NotebookClient(book, timeout=600, resources={"metadata": {"path": sys.argv[2]}}).execute()
print(*("".join(out.get("text", "")) for cell in book.cells for out in cell.get("outputs", [])))
"""


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    line = [sys.executable, "-c", CODE, str(TOUR), str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("accuracy 0.") == 2
    assert "contextual: 0." in done.stdout


def test_it_is_committed_without_outputs():
    cells = [cell for cell in json.loads(TOUR.read_text())["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 4
    assert [cell["outputs"] for cell in cells] == [[] for _ in cells]
