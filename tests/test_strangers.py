"""Folders as strangers have them: every ending, broken files of every kind, files that come and go."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import fuzz
import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image, UnidentifiedImageError
from processes import HANGS

import connr
from connr import ConNR, recipe, runs
from connr.data import open_images
from connr.data.folder import picture_paths, read_picture, read_pictures
from connr.data.formats import extensions, open_picture, unsupported_formats
from connr.data.prefetch import quiet_pillow
from connr.data.stream import open_stream
from connr.errors import InputError
from connr.export.card import model_card
from connr.recipe.square import Square
from connr.run_folder import RunFolder

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
    for ending in extensions():
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
    assert {path.suffix.lower() for path in picture_paths(tmp_path, None)} == tried
    assert not {".mpg", ".eps", ".wmf", ".hdf", ".h5", ".grib", ".bufr"} & extensions()  # films, programs, no pictures


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.fixture
def ghostscript(tmp_path, monkeypatch):
    """A program named gs in front of all others; the file that it leaves behind when anyone starts it."""
    started, program = tmp_path / "gs-was-started", tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch '{started}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # Pillow looks for it once
    return started


def test_no_file_starts_ghostscript_whatever_its_name(tmp_path, ghostscript):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(20):
        flag().save(folder / f"{index}.png")
    (folder / "x.png").write_bytes(EPS)
    found = open_images(folder, 8, 3)
    assert [(one.path, one.reason.split(":")[0]) for one in found.skipped] == [("x.png", "UnidentifiedImageError")]
    assert len(open_images([folder / "x.png", folder / "0.png"], 8, 3)) == 1
    assert [len(chunk.names) for chunk in open_stream([str(folder / "x.png"), str(folder / "0.png")], 8, 3, 4).chunks] == [1]
    with pytest.raises(InputError, match=r"x\.png cannot be read as a picture"):
        open_stream(folder / "x.png", 8, 3, 4)
    with pytest.raises(UnidentifiedImageError):
        open_picture(folder / "x.png")
    assert not ghostscript.exists()
    with Image.open(folder / "x.png") as picture, pytest.raises(OSError):  # that the trap works  # noqa: PT011
        picture.load()
    assert ghostscript.exists()


def test_no_data_set_of_hugging_face_starts_ghostscript(tmp_path, ghostscript):
    datasets = pytest.importorskip("datasets")
    flag().save(tmp_path / "0.png")
    rows = [{"bytes": EPS, "path": "x.png"}, {"bytes": (tmp_path / "0.png").read_bytes(), "path": None}]
    features = datasets.Features({"image": datasets.Image(decode=False)})
    (tmp_path / "set").mkdir()
    whole = datasets.Dataset.from_dict({"image": rows}, features=features)
    whole.cast_column("image", datasets.Image()).to_parquet(tmp_path / "set" / "train.parquet")
    found = open_images(f"hf:{tmp_path / 'set'}", 16, 3)
    assert (found.names, [one.path for one in found.skipped]) == (["1"], ["0"])
    assert found.images[0, :, 5, 2].tolist() == list(RED)
    assert not ghostscript.exists()


def test_pictures_are_opened_in_one_place_only():
    """`Image.open` elsewhere would know no allowed formats."""
    source = Path(connr.__file__).parent
    users = [path.name for path in source.rglob("*.py") if "Image.open(" in path.read_text(encoding="utf-8")]
    assert users == ["formats.py"]


def test_formats_that_are_not_read_are_counted_and_named(pictures):
    for name in ("a.SVG", "b.dng", "c.jxl", "d.eps"):
        (pictures / name).write_bytes(EPS)
    for index in range(30):  # many raw files beside their JPEGs are no sign of a mistake
        (pictures / f"{index}.cr2").write_bytes(b"II*\0")
    found = open_images(pictures, 8, 3)
    assert len(found) == 24
    reasons = {Path(one.path).suffix: one.reason for one in found.skipped}
    assert len(found.skipped) == 34
    assert reasons[".SVG"] == reasons[".eps"] == "drawings are not read, only pixels: export it as PNG"
    assert reasons[".dng"] == reasons[".cr2"] == "camera raw files are not read: export it as JPEG or TIFF"
    assert reasons[".jxl"] == ".jxl files are not read: export it as PNG or TIFF"
    chunks = list(open_stream(pictures, 8, 3, 6).chunks)
    assert sum(len(chunk.skipped) for chunk in chunks) == 34
    (pictures / "alone").mkdir()
    (pictures / "alone" / "x.svg").write_bytes(b"<svg/>")
    with pytest.raises(InputError, match=r"x\.svg: drawings are not read, only pixels: export it as PNG"):
        open_images(pictures / "alone", 8, 3)


def test_a_jpeg_with_another_ending_is_read(tmp_path):
    """As telephones and messengers leave them."""
    flag().save(tmp_path / "x.heic", format="JPEG")
    flag().save(tmp_path / "y.dng", format="JPEG")
    assert open_images(tmp_path, 8, 3).names == ["x.heic", "y.dng"]


def test_heic_is_read_where_the_extra_is_installed(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    try:
        heif.from_pillow(flag(64)).save(tmp_path / "x.heic", quality=95)
    except RuntimeError:
        pytest.skip("this pillow-heif has no encoder")
    centre = open_images(tmp_path, 16, 3).images[0, :, 5, [2, 12]].int()
    assert (centre - torch.tensor([RED, BLUE]).T).abs().max() < 20


def test_without_the_extra_heic_is_named_with_the_way_out(tmp_path):
    """In a process of its own, as what is registered with Pillow stays."""
    (tmp_path / "x.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0heicmif1")
    code = (
        "import sys; sys.modules['pillow_heif'] = None; from pathlib import Path; from connr.data import open_images; "
        f"open_images(Path({str(tmp_path)!r}), 8, 3)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'x.heic: HEIC needs pillow-heif: pip install "connr[heif]"' in done.stderr


def test_avif_is_read_or_named(tmp_path):
    if ".avif" in extensions():
        flag(32).save(tmp_path / "x.avif", quality=95)
        assert len(open_images(tmp_path, 16, 3)) == 1
    else:
        assert unsupported_formats()[".avif"] == "AVIF needs a newer Pillow: pip install -U pillow"


def test_a_model_card_holds_no_html_of_a_recipe(coloured_run):
    evil = "x <img src=y onerror=alert(1)> [z](javascript:alert(1))\n```\n<script>alert(2)</script>"
    r = recipe.load(str(coloured_run / "recipe.yaml")).model_copy(update={"description": evil})
    card = model_card(r, RunFolder(coloured_run))
    prose, fence, code = card.rpartition("## Recipe")[0], "````", card.rpartition("## Recipe")[2]
    assert "<" not in prose.replace("<br>", "")
    assert "&lt;img src=y onerror=alert(1)&gt; \\[z\\](javascript" in prose
    assert code.strip().startswith(fence + "yaml")
    assert code.strip().endswith(fence)
    assert code.count(fence) == 2


def test_assignments_that_a_spreadsheet_has_saved_are_read(coloured_run, tmp_path):
    """With a byte order mark in front."""
    folder = RunFolder(tmp_path)
    folder.assignments.write_bytes(b"\xef\xbb\xbf" + (coloured_run / "assignments.csv").read_bytes())
    assert runs.read_assignments(folder) == runs.read_assignments(RunFolder(coloured_run))


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
