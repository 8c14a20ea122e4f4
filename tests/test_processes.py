"""`connr fit` on several processes: those of `--devices`, and those of `torchrun` on two agents, are the run of one."""

import csv
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from processes import HANGS
from safetensors.torch import load_file
from test_cli import connr

from connr import runs
from connr.data import open_images
from connr.run_folder import RunFolder

SHORT = ("train.epochs=4", "train.batch_size=64", "train.precision=64-true", "kmeans.restarts=3", "backbone.width=8")
IIC = (*SHORT, "method={name: iic, heads: 2, over_clusters: 20}")
CONNR = (*SHORT, "method.base.hidden=32", "method.base.out=16", "method.start=0.5", "method.group.neighbourhood.k=10")


@pytest.fixture
def images(tmp_path):
    """A file of 390 digits."""
    path = tmp_path / "images.npz"
    np.savez(path, images=open_images("digits", 8, 1).images[:390, 0].numpy())
    return path


def words(images, out, settings):
    laid = [word for setting in settings for word in ("--set", setting)]
    return ["fit", str(images), "--recipe", "digits", "--device", "cpu", "--out", str(out), *laid]


def clusters(folder):
    with open(folder.assignments, newline="", encoding="utf-8") as file:
        return [(row["path"], row["cluster"]) for row in csv.DictReader(file)]


def assert_equal_runs(one, other):
    assert clusters(one) == clusters(other)
    mine, theirs = load_file(one.model), load_file(other.model)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert torch.allclose(value.double(), theirs[name].double(), rtol=0, atol=1e-9), name
    losses = [[record["loss"] for record in runs.history(each)] for each in (one, other)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-9)


def test_iic_on_two_processes_is_iic_on_one(images, tmp_path):
    """Its loss couples the whole batch, and each epoch trains one set of its heads only."""
    alone, pair = RunFolder(tmp_path / "alone"), RunFolder(tmp_path / "pair")
    for folder, devices in ((alone, "1"), (pair, "2")):
        done = connr(*words(images, folder.path, IIC), "--devices", devices)
        assert done.exit_code == 0, done.output
    assert [record["over_clustering"] for record in runs.history(alone)] == [1, 0, 0, 1]
    assert len({cluster for _, cluster in clusters(alone)}) > 1
    assert_equal_runs(alone, pair)


def torchrun_agents(count, each, line, log):
    """Agents of `torchrun` on this machine that meet at a port of it; what they print goes into files. Exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(count), "--nproc-per-node", str(each)]
    launch += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "test"]
    launch += ["--local-addr", "127.0.0.1", "-m", *line]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    agents = []
    try:
        for index in range(count):
            with open(log / f"agent-{index}.txt", "w", encoding="utf-8") as file:
                agents.append(subprocess.Popen(launch, env=environment, stdout=file, stderr=subprocess.STDOUT))
        return [agent.wait(timeout=HANGS) for agent in agents]
    finally:
        for agent in agents:
            agent.terminate()
            agent.wait()


@pytest.mark.slow
@pytest.mark.parametrize("settings", [CONNR, IIC], ids=["connr", "iic"])
def test_two_agents_of_torchrun_are_one_process(images, tmp_path, settings):
    """Two agents with two processes each, as on two machines."""
    alone, agents = RunFolder(tmp_path / "alone"), RunFolder(tmp_path / "agents")
    done = connr(*words(images, alone.path, settings))
    assert done.exit_code == 0, done.output
    codes = torchrun_agents(2, 2, ["connr", *words(images, agents.path, settings)], tmp_path)
    told = [(tmp_path / f"agent-{index}.txt").read_text() for index in range(2)]
    assert codes == [0, 0], told
    assert sum(text.count("Assignments: ") for text in told) == 1  # one process talks and writes
    assert agents.report.is_file()
    assert_equal_runs(alone, agents)
