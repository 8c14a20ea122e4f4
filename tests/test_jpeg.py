"""Small JPEGs by torchvision's decoder are what Pillow makes of them; what it is not for is left to Pillow."""

import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from connr.data.folder import read_picture, row_of
from connr.data.jpeg import frame_of, read_small_jpeg
from connr.recipe.square import Square


def photo(height, width):
    """Smooth colours: decoders agree on them, as they do on photos, but not on noise."""
    rng = np.random.default_rng(height * width)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize(("height", "width", "size"), [(64, 64, 64), (70, 50, 32), (34, 64, 32), (20, 90, 64)])
def test_pixels_are_pillows_within_rounding(tmp_path, height, width, size, subsampling, channels):
    path = tmp_path / "x.jpg"
    photo(height, width).save(path, quality=95, subsampling=subsampling, progressive=bool(subsampling))
    assert read_small_jpeg(path, size, channels) is not None
    with Image.open(path) as picture:
        expected = row_of(picture, Square(size, channels))
    difference = (read_picture(path, Square(size, channels)).int() - expected.int()).abs().float()
    assert difference.mean() < 1.5
    assert difference.max() <= 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_as_exif_says(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo(40, 56).save(tmp_path / "x.jpg", quality=95, exif=exif, subsampling=0)
    with Image.open(tmp_path / "x.jpg") as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture)).astype(int)
    found = read_small_jpeg(tmp_path / "x.jpg", 32, 3).permute(1, 2, 0).numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 1.5


def claiming(content, height, width):
    """The same JPEG with another size in its frame header."""
    at = content.index(b"\xff\xc0")
    return content[: at + 5] + struct.pack(">HH", height, width) + content[at + 9 :]


def test_others_are_left_to_pillow(tmp_path):
    path = tmp_path / "x.jpg"
    photo(64, 64).save(path, quality=90)
    whole = path.read_bytes()
    assert frame_of(whole) == (64, 64, 3)
    for content in (
        whole[: len(whole) // 2],
        whole[:30],
        claiming(whole, 65535, 65535),
        claiming(whole, 0, 64),
        b"\xff\xd8\xff",
    ):
        path.write_bytes(content)
        assert read_small_jpeg(path, 64, 3) is None
        assert isinstance(read_picture(path, Square(64, 3)), str)
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(path, quality=100)
    assert read_small_jpeg(path, 8, 3) is None
    photo(300, 300).save(path)
    assert read_small_jpeg(path, 64, 3) is None  # Pillow decodes it at half the size
    photo(64, 64).save(tmp_path / "really.jpg", format="png")
    assert read_small_jpeg(tmp_path / "really.jpg", 64, 3) is None


@pytest.mark.parametrize("seed", range(40))
def test_headers_of_any_bytes_end(seed):
    rng = np.random.default_rng(seed)
    body = rng.integers(0, 256, 400, dtype=np.uint8)
    body[rng.random(400) < 0.4] = 0xFF
    frame = frame_of(b"\xff\xd8" + body.tobytes())
    assert frame is None or all(number >= 0 for number in frame)


def test_filling_bytes_before_a_marker():
    photo_bytes = b"\xff\xd8\xff\xff\xff\xe0\x00\x04ab\xff\xc2\x00\x11\x08\x00\x05\x00\x07\x03" + bytes(9)
    assert frame_of(photo_bytes) == (5, 7, 3)
