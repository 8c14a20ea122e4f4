"""The directive {connr-commands}: every command of `connr` with its arguments and options, read from the command itself."""

import re

import typer.main
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from connr.cli import app


class Commands(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes("\n".join(pages(typer.main.get_command(app), "connr")), allow_section_headings=True)


def pages(command, name):
    """Markdown: a heading, a line of use, a table of options for each command and what is below it."""
    below = getattr(command, "commands", {})
    if not below:
        arguments = [title(p) for p in command.params if is_argument(p)]
        yield from (
            "",
            f"## {name}",
            "",
            _options_as_code(command.help or ""),
            "",
            "```text",
            " ".join([name, *arguments, "[OPTIONS]"]),
            "```",
            "",
        )
        parameters = [parameter for parameter in command.params if parameter.name != "help"]
        yield from ("| | what | default |", "|---|---|---|") if parameters else ()
        for parameter in parameters:
            shown = "" if parameter.default in (None, (), False) or parameter.required else f"`{parameter.default}`"
            yield f"| `{title(parameter)}` | {_options_as_code(parameter.help or '')} | {shown} |"
        yield ""
    for part, found in below.items():
        yield from pages(found, f"{name} {part}")


def is_argument(parameter):
    return parameter.param_type_name == "argument"


def title(parameter):
    if is_argument(parameter):
        return parameter.metavar or parameter.name.upper()
    return ", ".join(parameter.opts)


def _options_as_code(text):
    return re.sub(r"(?<!`)(--[a-z-]+)", r"`\1`", text)


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_directive("connr-commands", Commands)
    return {"version": "1", "parallel_read_safe": True}
