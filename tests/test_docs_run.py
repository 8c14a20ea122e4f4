"""Every block of code in README.md and docs/*.md: Python is run, a `connr` line is run or at least read by the real command.

A block that is neither Python, nor commands, nor one of the kinds in PROSE fails, and so does a command that nobody knows.
"""

import ast
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torchvision
import typer.main
from typer.testing import CliRunner

from connr.cli import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROSE = ("text", "toml", "{")  # what was printed; part of a pyproject.toml; and Sphinx's own, which `make docs` checks
ELSEWHERE = {"CONTRIBUTING.md": "tests/test_docs.py", "README.md": "tests/test_readme.py"}  # where their Python is run

# Shorter than as written, for the test: (as it is in the page, as it is run). Each must occur.
SHORTER = {
    "choosing-k.md": [
        ("epochs=30", "epochs=1"),
        ("(2, 4, 6, 8, 9, 10, 11, 12, 14, 16, 20)", "(2, 5)"),
        ("range(5)", "range(2)"),
    ],
    "index.md": [('recipe="digits")', 'recipe="digits", epochs=2)')],
}
ONLY_READ = ["demo", "reproduce"]  # hours or the paper's data; tests/test_reproduce.py and test_cli.py run them small


class Block(NamedTuple):
    page: str
    line: int
    kind: str
    text: str


def blocks():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in re.finditer(r"^```(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE):
            yield Block(page.name, text[: found.start()].count("\n") + 1, found[1].strip(), found[2])


BLOCKS = list(blocks())
PYTHON = [block for block in BLOCKS if block.kind.split(" ")[0] == "python"]
SHELL = [block for block in BLOCKS if block.kind in ("", "sh") and not block.text.startswith("src/connr/")]


def lines(block):
    """The commands of a block: comments left out, `a | b` written out as alternatives of the last word or words."""
    for line in block.text.splitlines():
        words = shlex.split(line, comments=True)
        if "|" not in words:
            if words:
                yield words
            continue
        head = words[: words.index("|") - 1]
        rest = " ".join(words[len(head) :]).split(" | ")
        yield from ([*head, *shlex.split(choice)] for choice in rest)


COMMANDS = [(block, words) for block in SHELL for words in lines(block)]
NAMED = [f"{block.page}:{block.line}: {' '.join(words)}" for block, words in COMMANDS]


def without_plugin(words):
    """The words from the name of the command on: `--plugin FILE` comes before it."""
    return list(words[2:] if words[0] == "--plugin" else words)


def read_by_typer(words):
    """The innermost command and its context; raises what the command raises at an unknown option or value."""
    command, name = typer.main.get_command(app), "connr"
    rest = without_plugin(words)
    while hasattr(command, "commands"):
        name = rest.pop(0)
        assert name in command.commands, f"connr has no command {name!r}: {' '.join(words)}"
        command = command.commands[name]
    return command.make_context(name, rest)


def test_every_block_is_of_a_kind_that_is_checked():
    assert len(PYTHON) > 10
    assert len(COMMANDS) > 30
    strange = [
        block
        for block in BLOCKS
        if block not in PYTHON + SHELL and not block.kind.startswith(PROSE) and "src/connr/" not in block.text
    ]
    assert strange == []
    tree = [block for block in BLOCKS if block.text.startswith("src/connr/")]
    assert [block.page for block in tree] == ["README.md"]  # its map; tests/test_readme.py


@pytest.mark.parametrize("words", [words for _, words in COMMANDS], ids=NAMED)
def test_every_command_is_known(words):
    program, *rest = words
    if program == "connr":
        read_by_typer(rest)
    elif program == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif program == "pip":
        assert rest[0] == "install"
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        named = re.fullmatch(r"\.|connr(?:\[(.+)\])?", rest[1])
        assert named, rest
        assert not named[1] or set(named[1].split(",")) <= set(extras)
    elif program == "python":
        runpy.run_path(str(ROOT / rest[0]))["parser"]().parse_args(rest[1:])
    else:
        pytest.fail(f"{program} is no command that this test knows")


@pytest.mark.parametrize("wrong", [["ft", "photos/"], ["fit", "photos/", "--cluster-count", "3"], ["fit"], ["recipes", "lst"]])
def test_a_stale_command_would_be_noticed(wrong):
    with pytest.raises(BaseException) as noticed:  # noqa: PT011 - click's own UsageError, or the assertion above
        read_by_typer(wrong)
    assert isinstance(noticed.value, AssertionError) or "UsageError" in [kind.__name__ for kind in type(noticed.value).__mro__]


@pytest.fixture
def workspace(pictures, tmp_path, monkeypatch):
    """A folder with the data that the pages name, tiny."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    monkeypatch.chdir(folder)
    shutil.copytree(pictures, "photos")
    for new in ("more", "new"):
        shutil.copytree(pictures, new)
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (32, 32, 32, 3), dtype=np.uint8), np.arange(32) % 10
    for name in ("images", "cifar10"):
        np.savez(f"{name}.npz", images=images, labels=labels)
    shutil.copytree(ROOT / "examples", "examples")
    torch.save(torchvision.models.resnet18().state_dict(), "resnet18.pth")
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("page", sorted({block.page for block in SHELL}))
def test_the_commands_of_a_page_run_one_after_the_other(page):
    """As written but one epoch long, with values for `DATA`, `NAME` and `FILE`."""
    stands_for = {"DATA": "digits", "NAME": "digits", "FILE": "copy.yaml", "FILE.md": "table.md"}
    for block, words in COMMANDS:
        if block.page != page or words[0] != "connr" or words[1] in ONLY_READ:
            continue
        given = [stands_for.get(word, word) for word in words[1:]]
        if without_plugin(given)[0] == "fit" and "--resume" not in given:
            given += ["--set", "train.epochs=1", "--set", "train.batch_size=16"]
        if given[0] == "--plugin":  # registers a method for the whole process, so in one of its own
            ended = subprocess.run([sys.executable, "-m", "connr", *given], capture_output=True, text=True, check=False)
            assert ended.returncode == 0, f"{page}:{block.line}: {' '.join(given)}\n{ended.stdout}{ended.stderr}"
            continue
        done = CliRunner().invoke(app, given)
        assert done.exit_code == 0, f"{page}:{block.line}: {' '.join(given)}\n{done.output}{done.exception!r}"


@pytest.mark.parametrize("page", sorted({block.page for block in PYTHON} - set(ELSEWHERE)))
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names, shorter = {}, list(SHORTER.get(page, []))
    for block in (block for block in PYTHON if block.page == page):
        text = block.text
        for written, run in list(shorter):
            if written in text:
                text = text.replace(written, run)
                shorter.remove((written, run))
        if block.kind.startswith("python no-run: "):
            ast.parse(text)
            continue
        assert block.kind == "python"
        exec(compile("\n" * block.line + text, page, "exec"), names)
    assert shorter == [], "what SHORTER says is not in the page"


def test_no_more_is_left_unrun_than_is_said():
    assert [block.page for block in PYTHON if "no-run" in block.kind] == ["plug-ins.md"]
    assert all((ROOT / place).is_file() for place in ELSEWHERE.values())


def test_the_lines_that_a_page_marks_are_those_that_are_added():
    text = (ROOT / "docs" / "plug-ins.md").read_text(encoding="utf-8")
    start, end, marked = re.search(r':start-at: "(.+)"\n:end-before: "(.+)"\n:emphasize-lines: (.+)', text).groups()
    example = (ROOT / "examples" / "lightly_byol.py").read_text(encoding="utf-8")
    shown = example[example.index(start) : example.index(end)].splitlines()
    numbers = [int(n) for part in marked.split(",") for n in range(int(part.split("-")[0]), int(part.split("-")[-1]) + 1)]
    added = [n for n, line in enumerate(shown, start=1) if "# ConNR" in line or "if connr" in line or "*more" in line]
    assert numbers == added
