import io

import torch
from PIL import Image
from rich.console import Console

from connr.model import Assigned
from connr.report.progress import ProgressBar, duration
from connr.report.sheet import cluster_sheet, mosaic, spread_out


def assigned(clusters, distances):
    return Assigned(torch.tensor(clusters), torch.tensor(distances), torch.zeros(len(clusters)))


def test_a_row_runs_from_the_most_central_to_the_farthest():
    found = assigned([0, 1, 0, 0, 0, 0], [0.5, 0.0, 0.1, 0.9, 0.3, 0.7])
    assert spread_out(found, 0, 3) == [2, 0, 3]
    assert spread_out(found, 0, 10) == [2, 4, 0, 5, 3]
    assert spread_out(found, 2, 3) == []


def test_a_mosaic_shows_each_image_in_its_place():
    images = torch.arange(3).view(3, 1, 1, 1).expand(3, 1, 4, 4).to(torch.uint8)
    canvas = mosaic(images, [[2, 1], [], [0]], columns=2)
    assert canvas.shape == (14, 9, 1)
    assert (canvas[:4, :4] == 2).all()
    assert (canvas[:4, 5:] == 1).all()
    assert (canvas[5:9] == 255).all()
    assert (canvas[10:, :4] == 0).all()


def test_a_sheet_is_a_png_of_grey_or_coloured_images():
    for channels in (1, 3):
        images = torch.zeros(12, channels, 8, 8, dtype=torch.uint8)
        png = cluster_sheet(images, assigned([0] * 6 + [2] * 6, [0.1] * 12), n_clusters=3)
        with Image.open(io.BytesIO(png)) as picture:
            assert picture.format == "PNG"
            assert picture.size[0] > 500


def run_through(terminal):
    out = io.StringIO()
    with ProgressBar(Console(file=out, force_terminal=terminal, width=120)) as bar:
        bar.on_train_start(2, 3, 0, [("instance", 0), ("group", 1)])
        bar.on_time_estimate(7200.0)
        for epoch, record in ((1, {"stage": "instance"}), (2, {"stage": "group", "acc": 0.875})):
            for _ in range(3):
                bar.on_step_end()
            bar.on_epoch_end({"epoch": epoch, "loss": -1.5, **record})
    return out.getvalue()


def test_progress_without_a_terminal_is_lines():
    assert run_through(terminal=False).splitlines() == [
        "6 steps left will take about 2.0 hours on this machine.",
        "instance epoch 1/2  loss -1.500",
        "group    epoch 2/2  loss -1.500  ACC 0.875",
    ]


def test_progress_in_a_terminal_has_phase_epoch_loss_accuracy_and_time():
    shown = run_through(terminal=True)
    for part in ("phase 1 of 2 instance  epoch 1/2", "phase 2 of 2 group  epoch 2/2", "loss -1.500  ACC 0.875", "left"):
        assert part in shown


def test_durations_are_readable():
    assert [duration(s) for s in (45, 720, 12600, 354240)] == ["45 s", "12 min", "3.5 hours", "4.1 days"]
