"""A data source in one file outside the package serves `fit`, `predict`, `report` and `data show`."""

from pathlib import Path

import numpy as np
import pytest
import torch
from test_toy_method import clusters, connr

from connr.data.builtin_sources import Npz
from connr.data.source import Reading
from connr.data.sources import is_remote, open_images, source_of
from connr.errors import InputError
from connr.recipe.square import Square

BARS = Path(__file__).parent.parent / "examples" / "toy_source.py"
SMALL = ("data.size=8", "train.epochs=2", "backbone.width=4", "backbone.stages=2", "method.base.hidden=16")


def test_a_source_from_a_file_serves_every_command(tmp_path):
    settings = [part for each in (*SMALL, "method.start=1") for part in ("--set", each)]
    fitted = connr("fit", "bars:96", "--clusters", 2, "--recipe", "photos", *settings, "--out", tmp_path / "r", plugin=BARS)
    assert "96 images at 8 px into 2 clusters" in fitted
    assert "ACC" in fitted
    predicted = connr("predict", tmp_path / "r", "bars:96", plugin=BARS)
    assert clusters(predicted) == clusters((tmp_path / "r" / "assignments.csv").read_text())
    connr("report", tmp_path / "r", plugin=BARS)
    shown = connr("data", "show", "bars:5", "--set", "data.size=16", "--out", tmp_path / "views.png", plugin=BARS)
    assert "5 images at 16 px" in shown
    assert (tmp_path / "views.png").stat().st_size > 100


def test_an_existing_source_is_chosen_by_what_it_recognises(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.arange(5 * 64, dtype=np.uint8).reshape(5, 8, 8))
    source = source_of(tmp_path / "a.npz")
    assert isinstance(source, Npz)
    chunks = list(source.stream(tmp_path / "a.npz", Reading(Square(8, 1, "bilinear")), 2).chunks)
    assert [len(chunk.images) for chunk in chunks] == [2, 2, 1]
    opened = open_images(tmp_path / "a.npz", 8, 1)
    assert torch.equal(torch.cat([chunk.images for chunk in chunks]), opened.images[:])
    assert opened.source == str((tmp_path / "a.npz").resolve())


@pytest.mark.parametrize("data", ["nothing:3", "nowhere/at/all"])
def test_data_that_no_source_recognises_is_refused(data):
    with pytest.raises(InputError, match=r"does not exist: DATA should be a folder of pictures, an .* hf:NAME or digits"):
        open_images(data, 8, 1)


def test_what_comes_over_the_network_is_known():
    assert is_remote("hf:mnist")
    assert is_remote("//server/photos")
    assert not is_remote("digits")
