"""Folders as strangers have them: every ending, broken files of every kind, files that come and go."""

import os
import socket

import fuzz
import numpy as np
import pytest
import torch
from PIL import Image
from processes import HANGS

from connr import ConNR, recipe
from connr.data import open_images
from connr.data.ahead import quiet_pillow
from connr.data.folder import endings, pictures, read_picture, read_pictures
from connr.data.stream import open_stream
from connr.errors import InputError
from connr.recipe.square import Square

RED, BLUE = (255, 0, 0), (0, 0, 255)


def flag(side=16):
    """The left half red, the right half blue: swapped channels or sides would show."""
    pixels = np.zeros((side, side, 3), dtype=np.uint8)
    pixels[:, : side // 2], pixels[:, side // 2 :] = RED, BLUE
    return Image.fromarray(pixels)


def test_every_ending_that_pillow_can_write_is_read(tmp_path):
    """Those that it only reads (.psd, .fits, .cur, .ras, ...) are in the list too, and go through the same call."""
    Image.init()
    tried = set()
    for ending in endings():
        kind = Image.registered_extensions()[ending]
        for mode in ("RGB", "RGBA", "L", "P", "1"):
            try:
                with quiet_pillow():
                    flag(32).convert(mode).save(tmp_path / f"x{ending.upper()}", format=kind)
            except (OSError, KeyError, ValueError, SystemError):
                (tmp_path / f"x{ending.upper()}").unlink(missing_ok=True)
                continue
            tried.add(ending)
            with quiet_pillow():
                assert torch.is_tensor(read_picture(tmp_path / f"x{ending.upper()}", Square(8, 3))), ending
            break
    assert {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".ico", ".tga", ".jp2"} <= tried
    assert {path.suffix.lower() for path in pictures(tmp_path, None)} == tried
    assert not {".mpg", ".eps", ".wmf", ".hdf", ".h5", ".grib", ".bufr"} & endings()  # films, programs, no pictures


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "ppm", "tga", "pcx"])
def test_colours_and_sides_come_out_exactly(tmp_path, ending):
    flag().save(tmp_path / f"x.{ending}")
    found = open_images(tmp_path, 16, 3).images[0]
    assert found[:, 5, :8].T.unique(dim=0).tolist() == [list(RED)]
    assert found[:, 5, 8:].T.unique(dim=0).tolist() == [list(BLUE)]


def test_a_palette_with_a_transparent_colour_lies_on_white(tmp_path):
    picture = flag().convert("P")
    picture.save(tmp_path / "x.gif", transparency=picture.getpixel((0, 0)))
    found = open_images(tmp_path, 16, 3).images[0]
    assert found[:, 5, 2].tolist() == [255, 255, 255]
    assert found[:, 5, 12].tolist() == list(BLUE)


def test_the_share_that_may_be_left_out_is_set_on_every_surface(pictures):
    for index in range(12):
        (pictures / f"broken{index}.jpg").write_text("no picture")
    with pytest.raises(InputError, match=r"12 of 36 pictures .* let more be left out: --set data\.unreadable_at_most=0\.5"):
        open_images(pictures, 16, 3)
    assert len(open_images(pictures, 16, 3, unreadable_at_most=0.5).skipped) == 12
    settings = ["data.size=8", "train.epochs=1", "backbone.width=4", "framework.hidden=8", "framework.out=4"]
    with pytest.warns(UserWarning, match="12 pictures cannot be read"):
        model = ConNR(2, recipe.load("photos", [*settings, "data.unreadable_at_most=0.5"])).fit(pictures)
    assert len(model.labels_) == 24
    for name in ("bad", "worse"):
        (pictures / name).mkdir()
        (pictures / name / "x.png").touch()
    with pytest.raises(InputError, match="1 of 1 pictures"):  # nothing to cluster is an error, whatever the share
        open_images(pictures / "bad", 8, 3, unreadable_at_most=1)


def test_a_file_that_vanishes_after_it_was_found_is_left_out(pictures):
    found = sorted(pictures.rglob("*.png"))
    found[3].unlink()
    images, names, skipped = read_pictures(pictures, found, Square(8, 3))
    assert [left_out.path for left_out in skipped] == [str(found[3].relative_to(pictures))]
    assert skipped[0].reason.startswith("FileNotFoundError")
    assert names == [str(path.relative_to(pictures)) for path in found if path != found[3]]
    assert torch.equal(images[3], read_picture(found[4], Square(8, 3)))


def test_a_file_replaced_between_runs_is_read_anew(tmp_path):
    """Also with the same name, length and times: nothing is remembered by them."""
    flag().save(tmp_path / "x.bmp")
    before, times = open_images(tmp_path, 16, 3), (tmp_path / "x.bmp").stat()
    flag().transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "x.bmp")
    os.utime(tmp_path / "x.bmp", ns=(times.st_atime_ns, times.st_mtime_ns))
    after = open_images(tmp_path, 16, 3)
    assert torch.equal(after.images, before.images.flip(3))
    assert before.fingerprint() != after.fingerprint()


def test_what_is_no_file_is_never_opened(tmp_path):
    """A pipe would be waited for, a device read for ever."""
    for index in range(30):
        flag().save(tmp_path / f"{index}.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as end:
        place = os.open(tmp_path, os.O_RDONLY)
        end.bind(f"/proc/self/fd/{place}/s.png")
        os.close(place)
    found = open_images(tmp_path, 8, 3, unreadable_at_most=0.2)
    assert len(found) == 30
    assert {skipped.path: skipped.reason.split(":")[0] for skipped in found.skipped} == {
        "device.png": "not a regular file",
        "gone.png": "FileNotFoundError",
        "pipe.png": "not a regular file",
        "s.png": "not a regular file",
    }


def test_a_bomb_is_refused_by_its_size(tmp_path, monkeypatch, recwarn):
    (tmp_path / "bomb.png").write_bytes(fuzz.bomb())
    assert str(read_picture(tmp_path / "bomb.png", Square(8, 3))).startswith("DecompressionBombError")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)  # Pillow warns from there on, and refuses twice as many
    flag().save(tmp_path / "large.png")
    for index in range(20):
        flag(8).save(tmp_path / f"{index}.png")
    found = open_images(tmp_path, 8, 3)
    assert {skipped.path for skipped in found.skipped} == {"bomb.png", "large.png"}
    chunks = list(open_stream(tmp_path, 8, 3, 6).chunks)
    assert sum(len(chunk.names) for chunk in chunks) == 20
    assert not recwarn.list


@pytest.mark.slow
def test_mutated_files_are_all_accounted_for(tmp_path):
    """Two hundred of what `python benchmarks/fuzz.py` does with 2,000, through the real command."""
    total = fuzz.litter(tmp_path / "pictures", 200, seed=1)
    done = fuzz.run(tmp_path / "pictures", tmp_path / "run", seconds=HANGS)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    found, reasons = fuzz.faults(tmp_path / "pictures", tmp_path / "run", total)
    assert found == []
    assert reasons["read"] > fuzz.GOOD
    assert reasons["UnidentifiedImageError"] > 10
    report = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "bomb.png" in report
    assert "DecompressionBombError" in report
