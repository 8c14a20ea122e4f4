"""The speed run at toy size, by the script itself: slices of a run are the run, and time is counted once."""

import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "speedrun.py"
TOY = ["--data", "digits", "--device", "cpu", "--limit", "512", "--epochs", "2"]
NETWORK = ["data.size=16", "backbone={name: small, width: 4, stages: 2}", "framework.hidden=32", "framework.out=16"]


@pytest.fixture
def speedrun(monkeypatch, tmp_path):
    def go(out, *options, settings=()):
        command = [str(SCRIPT), *TOY, "--out", str(tmp_path / out), "--json", str(tmp_path / "runs.jsonl"), *options]
        monkeypatch.setattr(sys, "argv", [*command, "--set", *NETWORK, *settings])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return ended.value.code

    return go


def test_a_toy_run_and_its_slices(speedrun, tmp_path, capsys):
    assert speedrun("whole", "--profile", str(tmp_path / "profile.txt")) == 0
    codes = []
    while not codes or codes[-1] == 75:
        codes.append(speedrun("sliced", "--seconds", "1e-9"))  # over before its first step, which is made all the same
        assert len(codes) < 100, "slices do not get on"
    assert codes[-1] == 0
    whole, sliced = (json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines())
    assert whole["images"] == 512
    for name in ("acc", "nmi", "ari"):
        assert 0 <= whole[name] == sliced[name]
    assert [at for at, *_ in whole["curve"]] == [2]
    assert whole["seconds"] == pytest.approx(whole["curve"][-1][1])
    assert whole["reached"] == {"0.9": None, "0.932": None}
    assert (tmp_path / "whole" / "assignments.csv").read_text() == (tmp_path / "sliced" / "assignments.csv").read_text()
    assert "epoch 2: " in capsys.readouterr().out


@pytest.mark.parametrize("variant", ["bf16", "batch-1024"])
def test_variants_are_settings_of_the_recipe(speedrun, tmp_path, variant):
    assert speedrun(variant, "--variant", variant, settings=["train.compile=false"]) == 0  # a compiler may not be there
    assert json.loads((tmp_path / "runs.jsonl").read_text())["variant"] == variant
