"""Commands whose reader, terminal or user goes away: what was to be kept is kept, nothing half done is left, no traceback."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY
from typer.testing import CliRunner

from connr import stops
from connr.cli import app
from connr.cli.screen import Screen
from connr.printable import printable

FAST = [part for setting in TINY for part in ("--set", setting)]
ESCAPE = "\x1b[31m"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def connr(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def started(*arguments, code="from connr.__main__ import main; main()", **named):
    line = [sys.executable, "-c", f"import sys\n{code}", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": ENVIRONMENT}
    return subprocess.Popen(line, **{**pipes, **named})


def left_over(folder):
    return sorted(path.name for path in folder.rglob("*.tmp"))


def test_a_fit_whose_reader_ends_goes_on_to_its_end(tmp_path):
    """As `connr fit ... | head -1`."""
    with started("fit", "digits", "--out", tmp_path / "run", *FAST) as process:
        assert process.stdout.readline().startswith(b"1,797 images")
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 0, said
    assert said == b""
    assert (tmp_path / "run" / "report.html").is_file()


def test_another_command_whose_reader_ends_is_quiet():
    code = "import os\nfrom connr.__main__ import main\nos.close(int(sys.argv.pop()))\nmain()"  # nobody can read any more
    reader, writer = os.pipe()
    process = started("recipes", "show", "digits", reader, code=code, stdout=writer, pass_fds=(reader,))
    os.close(reader)
    os.close(writer)
    _, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (1, b"")


def test_a_screen_falls_silent_where_the_disk_is_full():
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    code = (
        "from connr.cli.screen import Screen\nscreen = Screen()\n"
        "for _ in range(3): screen.print('x' * 10000)\nprint('went on', file=sys.stderr)"
    )
    with open(full, "w", encoding="utf-8") as stream:
        process = started(code=code, stdout=stream)
    _, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (0, b"went on\n")


@pytest.mark.skipif(stops.HANGUP is None, reason="needs SIGHUP")
def test_nohup_is_respected_and_a_hangup_stops():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stops.listening() as request, stops.at_once():
            signal.raise_signal(signal.SIGHUP)
        assert not request()
    finally:
        signal.signal(signal.SIGHUP, before)
    with stops.listening() as request:
        signal.raise_signal(signal.SIGHUP)
    assert request.signal == signal.SIGHUP


ENDS = {  # in each, SIGTERM comes while a file is half written
    "predict": ("from connr.inference.tables import CsvTable as owner", "add", ["predict", "RUN", "DATA", "--out", "OUT.csv"]),
    "sort": ("import connr.sort as owner", "_put", ["sort", "RUN", "OUT"]),
    "export": ("from connr import runs as owner", "save_model", ["export", "RUN", "--to", "safetensors", "--out", "OUT"]),
    "features": ("import numpy as owner", "savez", ["features", "DATA", "--backbone", "run:RUN", "--out", "OUT.npz"]),
}


@pytest.mark.parametrize("number", [signal.SIGTERM, *([stops.HANGUP] if stops.HANGUP else [])])
@pytest.mark.parametrize("command", ENDS)
def test_a_signal_leaves_nothing_half_written(coloured, coloured_run, tmp_path, command, number):
    imported, name, arguments = ENDS[command]
    code = (
        f"import signal\n{imported}\nreal = owner.{name}\n"
        f"def halfway(*a, **k):\n    real(*a, **k)\n    signal.raise_signal({int(number)})\n"
        f"owner.{name} = halfway\nfrom connr.__main__ import main\nmain()"
    )
    shutil.copytree(coloured_run, tmp_path / "RUN")
    words = {"DATA": str(coloured), "run:RUN": f"run:{tmp_path / 'RUN'}"}
    before = sorted(os.listdir(tmp_path))
    process = started(*(words.get(word, word) for word in arguments), code=code, cwd=tmp_path)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + number, said
    assert said.decode() == "\nStopped.\n"
    assert sorted(os.listdir(tmp_path)) == before
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("module", ["connr.cli", "torch"])
def test_ctrl_c_while_the_command_is_loaded_is_one_line(coloured_run, module):
    code = (
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Interrupting:\n    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}: signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\nfrom connr.__main__ import main\nmain()"
    )
    _, said = (process := started("report", coloured_run, code=code)).communicate(timeout=120)
    assert (process.returncode, said) == (130, b"\nStopped.\n")


def test_a_module_that_makes_something_else_of_ctrl_c_does_not_hide_it():
    def interrupted():
        with stops.at_once():
            try:
                signal.raise_signal(signal.SIGTERM)
            except KeyboardInterrupt:
                raise ImportError("half loaded") from None

    with pytest.raises(stops.Stopped):
        interrupted()


@pytest.mark.parametrize("closed", [0, 1])
def test_streams_that_are_closed(coloured, coloured_run, closed):
    close = {"preexec_fn": lambda: os.close(closed)}
    process = started("predict", coloured_run, coloured, **close)
    found, said = process.communicate(timeout=120)
    if closed == 0:
        assert process.returncode == 0, said
        assert len(found.splitlines()) == 61
        process = started("predict", coloured_run, "-", **close)
        _, said = process.communicate(timeout=120)
        assert said.startswith(b"connr: standard input is closed")
    else:
        assert said.startswith(b"connr: standard output is closed")
    assert process.returncode == 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("command", [["--help"], ["fit", "--help"], ["recipes", "list"], ["data", "list"]], ids=" ".join)
def test_any_encoding_of_the_output_will_do(command, encoding):
    process = started(*command, env={**ENVIRONMENT, "PYTHONIOENCODING": encoding})
    found, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (0, b"")
    assert len(found) > 200


def test_escape_sequences_in_names_do_not_reach_the_terminal(coloured, coloured_run, tmp_path):
    shutil.copytree(coloured, tmp_path / "data")
    name = f"a{ESCAPE}\u202e.png"
    (tmp_path / "data" / name).write_text("no picture")
    (tmp_path / "data" / "b\udcff.png").write_text("no picture")
    done = connr("predict", coloured_run, tmp_path / "data", "--out", tmp_path / "x.csv")
    assert done.exit_code == 0, done.output
    assert "  a\\x1b[31m\\u202e.png: " in done.stderr
    assert "  b\\xff.png: " in done.stderr
    assert ESCAPE not in done.output
    missing = connr("fit", tmp_path / ESCAPE, "--clusters", 2)
    assert missing.exit_code == 2
    assert ESCAPE not in missing.output


def test_what_is_printable_stays_as_it_is():
    for text in ("grüße 猫　の写真.jpg", "tab\tand\nline", "👩‍👩‍👧.png", "[brackets]"):
        assert printable(text) == text


def test_brackets_in_a_name_are_no_markup(capsys):
    Screen().print("[bold]x[/bold]")
    assert capsys.readouterr().out == "[bold]x[/bold]\n"


def test_a_left_over_variable_of_torchrun_means_nothing(tmp_path):
    """Of a shell that was started within a job, say."""
    process = started("fit", "digits", "--out", tmp_path / "run", *FAST, env={**ENVIRONMENT, "TORCHELASTIC_RUN_ID": "none"})
    found, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert b"Assignments: " in found
