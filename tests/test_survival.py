"""Runs that are killed, stopped, starved of disk or tampered with: nothing is lost, nothing hangs, and it is said."""

import csv
import errno
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import fuzz
import kill
import pytest
import torch
from conftest import TINY
from PIL import Image
from processes import HANGS
from safetensors.torch import load_file, save_file

from connr import recipe, runs, stops
from connr.clustering.kmeans import Clusters
from connr.data import open_images
from connr.distributed import SINGLE_PROCESS
from connr.engine import Callback, checkpoint, health, loop, whole_set
from connr.errors import Diverged, InputError, NotWritten, Stopped
from connr.run_folder import RunFolder
from connr.schema import read_epochs

SETTINGS = [*TINY, "kmeans.restarts=2"]


@pytest.fixture(scope="module")
def digits():
    return open_images("digits", 8, 1)


@pytest.fixture(scope="module")
def peace(tmp_path_factory, digits):
    """A run of 5 epochs of 28 steps that nothing befell."""
    folder = RunFolder(tmp_path_factory.mktemp("peace") / "run")
    runs.fit(recipe.load("digits", SETTINGS), digits, folder, device="cpu")
    return folder


def same(one, two):
    return kill.result(one.path) == kill.result(two.path)


def going_on(folder, digits, **named):
    return runs.fit(recipe.load("digits", SETTINGS), digits, folder, resume=folder.holds_a_run(), device="cpu", **named)


@pytest.mark.parametrize(
    "instant", [("half a checkpoint", 2, 0), ("after the rename", 3, 0), ("in k-means", 3, 0), ("in a step", 100, 0)]
)
def test_a_killed_run_goes_on_to_the_same_end(peace, digits, tmp_path, instant):
    folder = RunFolder(tmp_path / "run")
    assert kill.in_a_process(folder.path, SETTINGS, 1, False, instant) == -signal.SIGKILL
    assert not folder.assignments.exists()
    going_on(folder, digits)
    assert same(folder, peace)
    assert [record["epoch"] for record in read_epochs(folder.events)] == [1, 2, 3, 4, 5]
    assert not list(folder.path.rglob("*.tmp"))


class After(Callback):
    """Sends this process a signal after so many steps."""

    def __init__(self, steps, number):
        self.left, self.number = steps, number

    def on_step_end(self):
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(self.number)


@pytest.mark.parametrize(
    ("number", "steps", "epoch", "step"), [(signal.SIGTERM, 10, 0, 10), (signal.SIGINT, 95, 3, 11), (signal.SIGHUP, 30, 1, 2)]
)
def test_a_signal_finishes_the_step_and_saves(peace, digits, tmp_path, number, steps, epoch, step):
    folder, before = RunFolder(tmp_path / "run"), signal.getsignal(number)
    with pytest.raises(Stopped) as stop:
        going_on(folder, digits, callback=After(steps, number))
    assert stop.value.number == number
    assert signal.getsignal(number) == before
    assert checkpoint.checkpoints(folder.checkpoints)[-1] == checkpoint.at(folder.checkpoints, epoch, step)
    heard = Counting()
    going_on(folder, digits, callback=heard)
    assert heard.steps == 5 * 28 - steps
    assert same(folder, peace)
    timeless = [[{**record, "seconds": 0} for record in read_epochs(each.events)] for each in (folder, peace)]
    assert timeless[0] == timeless[1]
    assert all(checkpoint.position(path)[1] == 0 for path in checkpoint.checkpoints(folder.checkpoints))


def test_a_run_that_stops_in_its_first_epoch_with_clusters_goes_on(digits, tmp_path):
    """Its phase needs clusters from the start, which are of the network as it was made."""
    whole, folder = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "run")
    r = recipe.load("digits", [*SETTINGS, "method.start=0", "train.epochs=1"])
    runs.fit(r, digits, whole, device="cpu")
    with pytest.raises(Stopped):
        runs.fit(r, digits, folder, callback=After(4, signal.SIGTERM), device="cpu")
    runs.fit(r, digits, folder, resume=True, device="cpu")
    assert same(folder, whole)


class Counting(Callback):
    steps = 0

    def on_step_end(self):
        self.steps += 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_reading_is_no_broken_file(number):
    def read():
        with stops.at_once(), suppress(Exception):  # as readers of pictures and archives do
            signal.raise_signal(number)

    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stop:
        read()
    assert stop.value.number == number
    assert signal.getsignal(number) == before


@pytest.fixture
def ctrl_c():
    """SIGINT as in a terminal: a shell starts what runs in the background with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_without_a_folder_ctrl_c_is_what_it_always_was(digits):
    with pytest.raises(KeyboardInterrupt):
        runs.fit(recipe.load("digits", SETTINGS), digits, callback=After(3, signal.SIGINT), device="cpu")


def command(*arguments, **named):
    line = [sys.executable, "-m", "connr", *map(str, arguments)]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, **named}
    return subprocess.Popen(line, env={**os.environ, "OMP_NUM_THREADS": "1"}, **quiet)


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until(what, seconds=HANGS):
    """Waits for something to become true; None when it does not. The limit only ends what hangs."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.05)
    return None


# More epochs than any machine ends while it is watched.
LONG = [part for setting in (*SETTINGS, "train.epochs=100000") for part in ("--set", setting)]


def under_way(folder, epochs=1):
    return until(lambda: len(checkpoint.checkpoints(folder.checkpoints)) >= epochs)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_the_command_says_how_to_go_on(tmp_path, devices):
    folder = RunFolder(tmp_path / "run")
    process = command("fit", "digits", "--out", folder.path, "--devices", devices, *LONG)
    assert under_way(folder), process.communicate()
    taken = command("fit", "digits", "--out", folder.path, "--resume")
    assert "a run is going on in" in taken.communicate(timeout=HANGS)[0]
    assert taken.returncode == 2
    epochs = len(read_epochs(folder.events))
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=HANGS)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert f"is safe. To continue: connr fit digits --out {folder.path} --resume" in said
    last, _ = checkpoint.position(checkpoint.checkpoints(folder.checkpoints)[-1])
    assert epochs <= last  # nothing is lost; that the next step is the last is tested above, within one process
    assert "Traceback" not in said
    assert not folder.pixels.exists()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the ranks of a run in /proc")
def test_a_lost_rank_takes_the_run_down_and_is_named(tmp_path):
    folder = RunFolder(tmp_path / "run")
    process = command("fit", "digits", "--out", folder.path, "--devices", 2, *LONG)
    assert under_way(folder, 2), process.communicate()
    ranks = [pid for pid in children(process.pid) if b"multiprocessing.spawn" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    said, _ = process.communicate(timeout=HANGS)
    assert process.returncode == 1
    assert f"connr: rank 1 (process {ranks[1]}) was ended by SIGKILL." in said
    assert "To continue: connr fit digits" in said
    assert "Traceback" not in said
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)
    assert checkpoint.checkpoints(folder.checkpoints)


def test_a_full_disk_is_named_and_the_last_checkpoint_whole(peace, digits, tmp_path, monkeypatch):
    folder, real, written = RunFolder(tmp_path / "run"), checkpoint.save, []

    def save(*arguments):
        written.append(1)
        if len(written) < 3:
            return real(*arguments)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # no file may grow over 1,000 bytes
        try:
            return real(*arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save)
        with pytest.raises(NotWritten, match=r"File too large; all up to epoch-00002.safetensors is safe. Fix it"):
            going_on(folder, digits)
    assert not list(folder.path.rglob("*.tmp"))
    going_on(folder, digits)
    assert same(folder, peace)


def test_a_folder_that_goes_away_is_named(digits, tmp_path):
    folder = RunFolder(tmp_path / "run")

    class Vandal(Callback):
        def on_epoch_end(self, _):
            shutil.rmtree(folder.path)

    with pytest.raises(NotWritten, match=r"events.jsonl cannot be written: No such file .*; there is no checkpoint yet"):
        going_on(folder, digits, callback=Vandal())


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(digits, tmp_path, monkeypatch):
    def mkdir(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("pathlib.Path.mkdir", mkdir)  # root may write anywhere
    with pytest.raises(InputError, match=r"run cannot be written to: Read-only file system; choose another --out"):
        runs.fit(recipe.load("digits", SETTINGS), digits, RunFolder(tmp_path / "run"), device="cpu")


def test_checkpoints_that_were_tampered_with_are_refused(peace, digits, tmp_path):
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(peace.path, folder.path)
    last = checkpoint.checkpoints(folder.checkpoints)[-1]
    whole = last.read_bytes()
    flipped = bytearray(whole)
    flipped[-100] ^= 1
    last.write_bytes(flipped)
    with pytest.raises(InputError, match="has changed since it was written; remove it to go on from the one before"):
        going_on(folder, digits)
    last.write_bytes(whole[:-1])
    with pytest.raises(InputError, match=r"cannot be read: .*; remove it"):
        going_on(folder, digits)
    torch.save({"framework": Vandalism()}, last)
    with pytest.raises(InputError, match=r"cannot be read: .*; remove it"):
        going_on(folder, digits)
    last.write_bytes(pickle.dumps(Vandalism()))
    with pytest.raises(InputError, match=r"cannot be read: .*; remove it"):
        going_on(folder, digits)
    tensors = load_file(peace.model)
    save_file(tensors, last, {"run": '{"format": "connr-checkpoint-1"}'})
    with pytest.raises(InputError, match="has format connr-checkpoint-1, should be connr-checkpoint-3"):
        going_on(folder, digits)
    last.unlink()
    going_on(folder, digits)
    assert same(folder, peace)


class Vandalism:
    def __reduce__(self):
        return os._exit, (99,)


def test_another_recipe_is_shown_and_a_comment_in_it_is_none(peace, digits, tmp_path):
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(peace.path, folder.path)
    folder.recipe.write_text("# what I tried first\n" + folder.recipe.read_text())
    with pytest.raises(InputError, match=r"another recipe; omit what changes it(.|\n)*  - seed: 0\n  \+ seed: 7"):
        runs.fit(recipe.load("digits", SETTINGS, seed=7), digits, folder, resume=True, device="cpu")
    assert going_on(folder, digits)
    assert folder.recipe.read_text().startswith("# what I tried first\n")


def test_a_gradient_that_is_not_finite_is_told_by_step_and_not_saved(digits, tmp_path, monkeypatch):
    folder, real, calls = RunFolder(tmp_path / "run"), loop.update, []

    def update(*arguments, **named):
        calls.append(1)
        told = real(*arguments, **named)
        return {**told, "gradient": told["gradient"] * float("inf")} if len(calls) == 28 + 9 else told

    monkeypatch.setattr(loop, "update", update)
    said = r"norm of its gradient inf in step 9 of epoch 2; try a lower learning rate than train.base_lr=0.8"
    with pytest.raises(Diverged, match=said):
        going_on(folder, digits)
    assert checkpoint.checkpoints(folder.checkpoints) == [checkpoint.after(folder.checkpoints, 1)]


def test_collapse_and_lopsided_clusters_are_told():
    rows = torch.randn(100, 8, generator=torch.Generator().manual_seed(0))
    tight, wide = (torch.nn.functional.normalize(rows * width + 1, dim=1) for width in (1e-3, 100))
    std = whole_set.spread(tight, 100, SINGLE_PROCESS)
    assert std < health.COLLAPSED < whole_set.spread(wide, 100, SINGLE_PROCESS) < 1.1
    clusters = Clusters(torch.zeros(3, 8), torch.tensor([0] * 99 + [1]), 0.0)
    assert [said.split()[0] for said in health.warnings(clusters, std)] == ["the", "99.0%", "1"]
    assert health.warnings(clusters._replace(assignments=torch.arange(99) % 3), 0.9) == []


def test_a_collapsed_run_says_so_in_its_log(digits, tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "run")
    monkeypatch.setattr(health, "COLLAPSED", 10.0)
    going_on(folder, digits)
    assert "the features have collapsed" in read_epochs(folder.events)[-1]["warnings"][0]


def test_weights_that_are_no_numbers_at_the_end_of_an_epoch_are_told(digits, tmp_path):
    """One step an epoch: its loss is that of the weights before it."""
    huge = ["train.base_lr=1e6", "train.batch_size=1797", "train.epochs=2", "train.warmup=0", "train.group_from=0.5"]
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(Diverged, match=r"not finite .*; try a lower learning rate than train.base_lr=1e\+06|the loss became"):
        runs.fit(recipe.load("digits", huge), digits, folder, device="cpu")
    assert not checkpoint.checkpoints(folder.checkpoints)


def test_what_a_killed_run_left_does_not_stand_in_the_way(digits, peace, tmp_path):
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(peace.path, folder.path)
    (folder.path / ".lean.99.tmp").mkdir()
    (folder.checkpoints / ".epoch-00009.safetensors.99.tmp").write_bytes(b"half")
    assert going_on(folder, digits)
    assert not list(folder.path.rglob("*.tmp"))


@pytest.mark.parametrize("line", ["5", "{}", '{"epoch": NaN, "stage": "group", "seconds": 1}', '{"epoch": 1, "seconds": "x"}'])
def test_events_that_no_run_wrote_are_refused(peace, digits, tmp_path, line):
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(peace.path, folder.path)
    with open(folder.events, "a", encoding="utf-8") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match=r"events.jsonl, line 6, (is not|cannot be read)"):
        going_on(folder, digits)


def test_a_name_that_is_not_utf8_is_refused_before_any_work(digits, tmp_path):
    with pytest.raises(InputError, match=r"is not UTF-8; choose another --out"):
        runs.fit(
            recipe.load("digits", SETTINGS), digits, RunFolder(os.fsdecode(os.fsencode(tmp_path) + b"/n\xff")), device="cpu"
        )


# The command, which gets a signal when it decodes its 50th picture; the decoding goes on once the signal is noticed.
SIGNALLED = """
import itertools, os, signal, sys, time
from connr.cli import app
from connr.data import folder

number, decoded, real = int(sys.argv.pop(1)), itertools.count(1), folder.read_picture

def read_picture(*arguments, **named):
    if next(decoded) == 50:
        before = signal.getsignal(number)
        os.kill(os.getpid(), number)
        while signal.getsignal(number) == before:
            time.sleep(0.01)
    return real(*arguments, **named)

folder.read_picture = read_picture
app()
"""


@pytest.mark.slow
def test_a_signal_while_pictures_are_read_ends_it_and_leaves_nothing_half(tmp_path):
    """Neither files nor threads; and the same command then reads them all."""
    pictures, out = tmp_path / "pictures", tmp_path / "run"
    pictures.mkdir()
    Image.linear_gradient("L").save(pictures / "000.jpg")
    for index in range(1, 100):
        os.link(pictures / "000.jpg", pictures / f"{index:03d}.jpg")
    settings = [word for setting in (*fuzz.FAST, "data.resident_gib=0") for word in ("--set", setting)]
    words = ["fit", str(pictures), "--clusters", "2", "--out", str(out), *settings]
    for number in (signal.SIGINT, signal.SIGTERM):
        line = [sys.executable, "-c", SIGNALLED, str(int(number)), *words]
        done = subprocess.run(line, capture_output=True, text=True, timeout=HANGS, check=False)
        assert done.returncode == 128 + number, done.stderr
        assert done.stderr == f"\nStopped while reading {pictures}; run the same command again.\n"
        assert {path.name for path in out.rglob("*")} == {"cache", ".lock"}
    assert subprocess.run([sys.executable, "-m", "connr", *words], capture_output=True, check=False).returncode == 0
    with open(out / "assignments.csv", newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 100
