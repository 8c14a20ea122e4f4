import csv
import os

import pytest
from lightning_fabric.loggers.logger import Logger

from connr import experiment, recipe, runs
from connr.engine import Callback
from connr.engine.logging_callback import LoggingCallback, numbers
from connr.errors import InputError
from connr.run_folder import RunFolder


def logged(tiny, images, name, path, **more):
    return runs.fit(tiny.model_copy(update={"log": name}), images, RunFolder(path), **more)


def test_none_is_written_unless_asked_for(tiny, few_digits, tmp_path):
    assert tiny.log == "none"
    runs.fit(tiny, few_digits, RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run" / "log").exists()


def test_csv_holds_every_epochs_numbers(tiny, few_digits, tmp_path):
    fitted = logged(tiny, few_digits, "csv", tmp_path / "run")
    with open(tmp_path / "run" / "log" / "version_0" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5]
    for row, record in zip(rows, fitted.history, strict=True):
        assert {key: float(value) for key, value in row.items() if value and key != "step"} == numbers(record)
    assert float(rows[-1]["acc"]) == fitted.history[-1]["acc"]
    sizes = fitted.history[-1]["cluster_sizes"]
    assert min(sizes) < max(sizes)
    assert float(rows[-1]["cluster_size/smallest"]) == min(sizes)
    assert float(rows[-1]["cluster_size/largest"]) == max(sizes)


def test_tensorboard_holds_every_epochs_numbers(tiny, few_digits, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fitted = logged(tiny, few_digits, "tensorboard", tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "log" / "version_0")).Reload()
    assert {"loss", "kept", "acc", "feature_std", "cluster_size/smallest"} <= set(events.Tags()["scalars"])
    losses = [(event.step, event.value) for event in events.Scalars("loss")]
    assert losses == [(record["epoch"], pytest.approx(record["loss"])) for record in fitted.history]


@pytest.mark.parametrize("name", sorted(experiment.LOGGERS))
def test_a_resumed_run_logs_on_and_loses_nothing(name, tiny, few_digits, tmp_path):
    class Stop(Callback):
        def on_epoch_end(self, record):
            if record["epoch"] == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        logged(tiny, few_digits, name, tmp_path / "run", callback=Stop())
    before = {path: path.read_bytes() for path in (tmp_path / "run" / "log").rglob("*") if path.is_file()}
    assert before
    logged(tiny, few_digits, name, tmp_path / "run", resume=True)
    assert sorted(os.listdir(tmp_path / "run" / "log")) == ["version_0", "version_1"]
    assert {path: path.read_bytes() for path in before} == before


def test_training_is_not_changed_by_being_logged(tiny, few_digits, tmp_path):
    plain = runs.fit(tiny, few_digits)
    watched = logged(tiny, few_digits, "csv", tmp_path / "run")
    assert [record["loss"] for record in plain.history] == [record["loss"] for record in watched.history]


def test_any_logger_of_fabric_serves_as_a_listener(tiny, few_digits):
    class Mine(Logger):
        name, version = "mine", 0

        def __init__(self):
            self.step_metrics, self.ended = [], []

        def log_metrics(self, metrics, step=None):
            self.step_metrics.append((step, metrics["loss"]))

        def log_hyperparams(self, *_, **__): ...

        def finalize(self, status):
            self.ended.append(status)

    mine = Mine()
    fitted = runs.fit(tiny, few_digits, callback=LoggingCallback(mine))
    assert mine.step_metrics == [(record["epoch"], record["loss"]) for record in fitted.history]
    assert mine.ended == ["success"]


def test_what_cannot_be_logged_is_refused_before_anything_is_written(tiny, few_digits, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="log=csv needs a run folder"):
        runs.fit(tiny.model_copy(update={"log": "csv"}), few_digits)
    monkeypatch.setattr("lightning_fabric.loggers.tensorboard._TENSORBOARD_AVAILABLE", False)
    monkeypatch.setattr("lightning_fabric.loggers.tensorboard._TENSORBOARDX_AVAILABLE", False)
    with pytest.raises(InputError, match=r'log=tensorboard .* pip install "connr\[track\]"'):
        logged(tiny, few_digits, "tensorboard", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(recipe.RecipeError, match="log='wandb'"):
        recipe.load("digits", ["log=wandb"])
