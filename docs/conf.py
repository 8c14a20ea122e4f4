"""The site: `make docs`. Pages are Markdown; the API comes from docstrings, the command line from the command itself."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import connr

project = "connr"
copyright = "the connr authors, Apache-2.0"  # noqa: A001 - Sphinx's name for it
release = connr.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "command_line"]
exclude_patterns = ["_ext"]

smartquotes = False  # --set is an option, not a dash

html_theme = "furo"
html_title = f"connr {release}"
html_copy_source = html_show_sourcelink = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # shapes are in the docstrings, and shorter there
napoleon_use_ivar = True
