"""The logger `connr`: a line for each epoch, and silence unless a program asks."""

import logging
import subprocess
import sys

from connr import runs


def test_a_fit_logs_each_epoch(tiny, few_digits, caplog):
    r = tiny.model_copy(update={"train": tiny.train.model_copy(update={"epochs": 2})})
    with caplog.at_level(logging.INFO, logger="connr"):
        history = runs.fit(r, few_digits).history
    lines = [record.getMessage() for record in caplog.records if record.name == "connr"]
    assert lines[0].startswith("training from epoch 1 to 2")
    assert [line.split(",")[1] for line in lines[1:]] == [f" loss {record['loss']:.4f}" for record in history]


def test_a_warning_is_not_shown_unless_logging_is_configured():
    code = "import logging, connr; logging.getLogger('connr').warning('clusters are empty')"
    for configured, shown in ((False, ""), (True, "WARNING:connr:clusters are empty\n")):
        before = "import logging; logging.basicConfig();" if configured else ""
        done = subprocess.run([sys.executable, "-c", before + code], capture_output=True, text=True, check=True)
        assert done.stderr == shown
