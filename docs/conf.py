"""The site: `make docs`. Pages are Markdown; the API comes from docstrings, the command line from the command itself."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import connr

project = "connr"
copyright = "the connr authors, Apache-2.0"  # noqa: A001 - Sphinx's name for it
release = connr.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "command_line"]
exclude_patterns = ["_ext"]

highlight_language = "sh"  # of a block that says none

html_theme = "furo"
html_title = f"connr {release}"
html_copy_source = html_show_sourcelink = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # shapes are in the docstrings, and shorter there
default_role = "code"  # `name` in a docstring

SHAPE_OR_LETTER = re.compile(r"^(\s*(?:[\w, ]+: )?)(\(\w\)|\w\.(?=\s|$))")
NORM = re.compile(r"(?<!\\)\|")


def keep_shapes(app, what, name, obj, options, lines):  # noqa: ARG001 - Sphinx's signature
    """A line that begins with the shape (n), or is the letter d., is not an item of a list; |x| is a norm."""
    lines[:] = [NORM.sub(r"\\|", SHAPE_OR_LETTER.sub(r"\1\\\2", line)) for line in lines]


def setup(app):
    app.connect("autodoc-process-docstring", keep_shapes, priority=400)  # before napoleon
