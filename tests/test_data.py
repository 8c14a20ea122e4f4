import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from connr import ConNR, recipe
from connr.data import FileRows, StoragePolicy, batches, open_images, pixels
from connr.data.pixels import crop_and_resize
from connr.data.stream import open_stream, stream_for
from connr.errors import InputError
from connr.reproduce import TABLES
from connr.reproduce.command import open_all
from connr.reproduce.runner import Cell
from connr.run_folder import RunFolder, write_text


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path, **options)


def test_digits_are_all_there():
    found = open_images("digits", 8, 1)
    assert found.images.shape == (1797, 1, 8, 8)
    assert (int(found.images.min()), int(found.images.max())) == (0, 255)
    assert found.class_names == [str(digit) for digit in range(10)]
    assert torch.bincount(found.labels).min() > 170


def test_folders_flat_and_nested_have_a_row_for_every_picture(pictures):
    found = open_images(pictures, 16, 3)
    assert len(found) == 24
    assert found.names == sorted(found.names)
    assert found.images.shape == (24, 3, 16, 16)
    assert not found.labelled
    labelled = open_images(pictures, 16, 3, labels_from_folders=True)
    assert labelled.class_names == ["cold", "warm"]
    for name, label in zip(labelled.names, labelled.labels, strict=True):
        assert ([*labelled.class_names, ""][label]) == Path(name).parent.name


def test_same_names_in_two_folders_are_two_pictures(tmp_path):
    save(tmp_path / "a" / "x.png", np.full((8, 8, 3), (255, 0, 0)))
    save(tmp_path / "b" / "x.png", np.full((8, 8, 3), (0, 0, 255)))
    found = open_images(tmp_path, 8, 3)
    assert found.names == [str(Path("a", "x.png")), str(Path("b", "x.png"))]
    assert found.images[:, :, 0, 0].tolist() == [[255, 0, 0], [0, 0, 255]]


@pytest.mark.parametrize("name", ["x.JPG", "x.jpeg", "x.png", "x.bmp", "x.webp", "x.tif", "x.gif", "Ü ÿ#%.PNG"])
def test_endings_of_either_case_and_odd_names(tmp_path, name):
    save(tmp_path / name, np.full((12, 12, 3), (200, 100, 50)))
    (tmp_path / "notes.txt").write_text("no picture")
    found = open_images(tmp_path, 8, 3)
    assert found.names == [name]
    assert torch.tensor(found.images[0, :, 4, 4].tolist()).sub(torch.tensor([200, 100, 50])).abs().max() <= 6


def test_modes_of_pictures_come_out_right(tmp_path):
    grey = Image.fromarray(np.full((8, 8), 100, dtype=np.uint8))
    grey.save(tmp_path / "a-grey.png")
    grey.convert("P").save(tmp_path / "b-palette.png")
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "c-transparent.png")
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "d-cmyk.jpg", quality=100)
    Image.fromarray(np.full((8, 8), 25700, dtype=np.uint16)).save(tmp_path / "e-16bit.png")
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    Image.fromarray(np.full((8, 8), 0.5, dtype=np.float32)).save(tmp_path / "g-float.tif")
    frames[0].save(tmp_path / "f-animated.gif", save_all=True, append_images=frames[1:])
    found = open_images(tmp_path, 8, 3)
    centre = found.images[:, :, 4, 4].int()
    expected = torch.tensor([[100] * 3, [100] * 3, [255] * 3, [255, 0, 0], [100] * 3, [255, 0, 0], [128] * 3])
    assert (centre - expected).abs().max() <= 6


def test_pictures_are_turned_as_exif_says(tmp_path):
    pixels = np.zeros((8, 8, 3))
    pixels[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    save(tmp_path / "x.jpg", pixels, exif=exif, quality=100)
    rows = open_images(tmp_path, 8, 1).images[0, 0].float().mean(dim=1)
    assert rows[0] < 20
    assert rows[-1] > 235


def test_tall_and_wide_pictures_are_cut_to_the_middle(tmp_path):
    pixels = np.zeros((8, 24, 3))
    pixels[:, 8:16] = 255
    save(tmp_path / "wide.png", pixels)
    save(tmp_path / "tall.png", pixels.transpose(1, 0, 2))
    assert open_images(tmp_path, 8, 1).images.min() == 255


def test_what_cannot_be_read_is_left_out_and_listed(pictures):
    (pictures / "empty.jpg").touch()
    (pictures / "text.png").write_text("no picture")
    whole = (pictures / "02.png").read_bytes()
    (pictures / "cut.png").write_bytes(whole[: len(whole) // 2])
    os.mkfifo(pictures / "pipe.jpg")
    for index in range(40):
        save(pictures / f"more{index}.png", np.zeros((4, 4, 3)))
    found = open_images(pictures, 16, 3)
    assert len(found) == 64
    assert {skipped.path for skipped in found.skipped} == {"empty.jpg", "text.png", "cut.png", "pipe.jpg"}
    assert all(skipped.reason for skipped in found.skipped)


def test_links_are_followed_once(tmp_path):
    save(tmp_path / "far" / "x.png", np.zeros((8, 8, 3)))
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "cats").symlink_to(tmp_path / "far")
    (tmp_path / "here" / "again").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "loop").symlink_to(tmp_path / "here")
    assert len(open_images(tmp_path / "here", 8, 3)) == 1


def test_a_recipe_among_pictures_is_no_run(pictures):
    (pictures / "warm" / "recipe.yaml").write_text("flour, eggs")
    assert len(open_images(pictures, 16, 3)) == 24


def test_films_and_other_files_are_no_pictures(pictures):
    (pictures / "film.mpg").write_bytes(b"\0\0\1\xba")
    assert not open_images(pictures, 16, 3).skipped


def test_too_many_unreadable_pictures_are_an_error(pictures):
    for index in range(5):
        (pictures / f"broken{index}.jpg").write_text("no picture")
    with pytest.raises(InputError, match=r"5 of 29 pictures .* cannot be read(.|\n)*broken0.jpg: UnidentifiedImageError"):
        open_images(pictures, 16, 3)


def test_output_and_other_runs_inside_the_folder_are_never_read(pictures):
    out, other = pictures / "out", RunFolder(pictures / "old" / "run")
    save(out / "mine.png", np.zeros((4, 4, 3)))
    save(other.path / "clusters.png", np.zeros((4, 4, 3)))
    write_text(other.recipe, "clusters: 3\n")
    other.checkpoints.mkdir()
    save(pictures / ".thumbnails" / "x.png", np.zeros((4, 4, 3)))
    assert len(open_images(pictures, 16, 3, leave_out=out)) == 24


def test_npz_with_and_without_labels(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=images, labels=np.array([0, 1, 1, -1, 0]), class_names=["cat", "dog"])
    found = open_images(tmp_path / "x.npz", 8, 3)
    assert torch.equal(found.images, torch.from_numpy(images).permute(0, 3, 1, 2))
    assert found.labels.tolist() == [0, 1, 1, -1, 0]
    assert found.class_names == ["cat", "dog"]
    np.savez(tmp_path / "y.npz", images=images[..., 0])
    plain = open_images(str(tmp_path / "y.npz"), 16, 3)
    assert plain.images.shape == (5, 3, 16, 16)
    assert not plain.labelled


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int32, np.int64, np.uint64])
def test_labels_are_any_integers(tmp_path, kind):
    np.savez(
        tmp_path / "x.npz", images=np.zeros((3, 8, 8), np.uint8), labels=np.array([0, 1, 1], kind), class_names=["a", "b"]
    )
    found = open_images(tmp_path / "x.npz", 8, 1)
    assert (found.labels.tolist(), found.class_names) == ([0, 1, 1], ["a", "b"])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("size", [12, 7])
def test_an_npz_is_the_same_a_few_images_at_a_time_and_from_a_file(tmp_path, monkeypatch, save, order, size):
    images = np.random.default_rng(0).integers(0, 256, (50, 12, 14, 3), dtype=np.uint8)
    save(tmp_path / "x.npz", images=np.asarray(images, order=order), labels=np.arange(50) % 3)
    whole = open_images(images, size, 3)
    monkeypatch.setattr(pixels, "BYTES_AT_A_TIME", 7 * 12 * 14 * 3)  # seven images
    held = open_images(tmp_path / "x.npz", size, 3)
    filed = open_images(tmp_path / "x.npz", size, 3, storage=StoragePolicy(gib=0, cache=tmp_path))
    assert torch.equal(held.images, whole.images)
    assert torch.equal(filed.images[:], whole.images)
    assert held.labels.tolist() == filed.labels.tolist() == [i % 3 for i in range(50)]
    assert isinstance(filed.images, FileRows) == (order == "C")  # the other order is read whole
    assert len(list(tmp_path.glob("*.rows"))) == (order == "C")
    del filed
    assert not list(tmp_path.glob("*.rows"))


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that is made inside."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        for one in found if isinstance(found, tuple | list) else [found]:
            if isinstance(one, torch.Tensor):
                self.bytes = max(self.bytes, one.untyped_storage().nbytes())
        return found


def test_a_set_larger_than_its_budget_is_clustered_from_a_file_in_the_run_folder(tmp_path):
    """Also where DATA is no folder: the cache is made first."""
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=images)
    settings = ["data.size=8", "data.stored=null", "train.epochs=1", "train.batch_size=20"]
    settings += ["backbone.width=4", "backbone.stages=2"]
    settings += ["framework.hidden=8", "framework.out=4", "group.neighbourhood.k=5", "group.neighbourhood.k1=5"]
    found = []
    for gib, data in ((4, tmp_path / "x.npz"), (0, tmp_path / "x.npz"), (0, list(images))):
        out = tmp_path / f"run-{len(found)}"
        model = ConNR(2, recipe.load("photos", [*settings, f"data.resident_gib={gib}"]), out=out).fit(data)
        assert (out / "cache").is_dir() == (gib == 0)
        found.append(model.transform(images))
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_a_cache_that_cannot_be_made_is_named_with_the_way_out(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file/cache cannot be written to: Not a directory; choose another --out"):
        open_images([np.zeros((8, 8), np.uint8)], 8, 1, storage=StoragePolicy(gib=0, cache=tmp_path / "file" / "cache"))


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_is_bounded_where_images_are_enlarged(tmp_path, order):
    images = np.random.default_rng(0).integers(0, 256, (900, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=np.asarray(images, order=order))
    room, whole = StoragePolicy(gib=0, cache=tmp_path / "cache"), 900 * 3 * 160 * 160  # 69 MB
    for data in (tmp_path / "x.npz", images, list(images)):
        with Largest() as largest:
            found = open_images(data, 160, 3, storage=room)
        assert isinstance(found.images, FileRows)
        assert found.images.path.stat().st_size == whole
        assert largest.bytes <= pixels.BYTES_AT_A_TIME < whole / 4


@pytest.mark.parametrize("order", ["C", "F"])
def test_to_predict_an_npz_only_a_chunk_of_it_is_in_memory(tmp_path, order):
    images = np.random.default_rng(0).integers(0, 256, (900, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=np.asarray(images, order=order))
    with Largest() as largest:
        names = []
        for chunk in open_stream(tmp_path / "x.npz", 160, 3, 64).chunks:
            assert torch.equal(chunk.images[0], open_images(images[[int(chunk.names[0])]], 160, 3).images[0])
            names += chunk.names
    assert names == [str(index) for index in range(900)]
    assert largest.bytes <= pixels.BYTES_AT_A_TIME


def test_to_predict_a_named_set_goes_by_the_budget_of_the_recipe():
    r = recipe.load("digits", ["data.size=32", "data.resident_gib=0"])
    with Largest() as largest:
        assert sum(len(chunk.images) for chunk in stream_for(r, "digits", 64).chunks) == 1797
    assert largest.bytes <= pixels.BYTES_AT_A_TIME


def test_channels_are_made_as_asked():
    colours = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    colours[..., 0] = 255
    assert open_images(colours, 8, 1).images.unique().tolist() == [76]  # 0.299 * 255
    assert open_images(colours[..., 0], 8, 3).images.unique().tolist() == [255]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": np.zeros((2, 8, 8), np.uint8)}, "has no array `images`; it holds: pictures"),
        ({"features": np.zeros((2, 8))}, "it holds: features. Rows of features need a run that was fitted on features"),
        ({"images": np.zeros((2, 8, 8), np.float32)}, "are float32, should be uint8"),
        ({"images": np.zeros((2, 8), np.uint8)}, r"have shape \[2, 8\]"),
        ({"images": np.zeros((2, 8, 8, 4), np.uint8)}, r"have shape \[2, 8, 8, 4\]"),
        ({"images": np.zeros((0, 8, 8), np.uint8)}, "holds no images"),
        ({"images": np.zeros((2, 8, 8), np.uint8), "labels": np.zeros(3, np.int64)}, r"labels .* should be integers \[2\]"),
        ({"images": np.zeros((2, 8, 8), np.uint8), "labels": np.zeros(2)}, r"labels .* are float64"),
        ({"images": np.zeros((2, 8, 8), np.uint8), "labels": np.array([0, 1]), "class_names": ["a"]}, "one for each label"),
        ({"images": np.zeros((2, 8, 8), np.uint8), "labels": np.array([0, 1]), "class_names": ["a", "a"]}, "different"),
        ({"images": np.zeros((2, 8, 8), np.uint8), "labels": np.array([0, 2**63], np.uint64)}, "more than 64 bits hold"),
        ({"images": np.array([object(), object()])}, "are object, should be uint8"),
        (
            {"images": np.zeros((2, 8, 8), np.uint8), "labels": np.array([None, 1])},
            "cannot be read as an .npz of plain arrays",
        ),
    ],
)
def test_bad_arrays_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(InputError, match=message):
        open_images(tmp_path / "x.npz", 8, 3)


def test_broken_archives_are_refused(tmp_path):
    for name, content in (("text", b"no archive"), ("empty", b"")):
        (tmp_path / f"{name}.npz").write_bytes(content)
        with pytest.raises(InputError, match="cannot be read"):
            open_images(tmp_path / f"{name}.npz", 8, 3)
    inner = io.BytesIO()
    np.save(inner, np.zeros((4, 8, 8), np.uint8))
    with zipfile.ZipFile(tmp_path / "cut.npz", "w") as archive:
        archive.writestr("images.npy", inner.getvalue()[:-50])
    with pytest.raises(InputError, match="plain arrays: it ends in image 3 of 4"):
        open_images(tmp_path / "cut.npz", 8, 3)
    np.savez(tmp_path / "flipped.npz", images=np.full((4, 8, 8), 77, np.uint8))
    content = bytearray((tmp_path / "flipped.npz").read_bytes())
    content[content.index(bytes([77] * 100)) + 50] ^= 1
    (tmp_path / "flipped.npz").write_bytes(content)
    with pytest.raises(InputError, match="plain arrays: Bad CRC-32"):
        open_images(tmp_path / "flipped.npz", 8, 3)


def test_places_that_are_no_data_are_refused(tmp_path):
    with pytest.raises(InputError, match="'nowhere' does not exist"):
        open_images("nowhere", 8, 3)
    with pytest.raises(InputError, match="DATA is empty"):
        open_images("", 8, 3)
    with pytest.raises(InputError, match="no subfolders to take labels from"):
        open_images("digits", 8, 1, labels_from_folders=True)
    with pytest.raises(InputError, match="holds no pictures"):
        open_images(tmp_path, 8, 3)
    (tmp_path / "x.txt").touch()
    with pytest.raises(InputError, match=r"neither a folder of pictures nor an \.npz"):
        open_images(tmp_path / "x.txt", 8, 3)
    save(tmp_path / "flat.png", np.zeros((8, 8, 3)))
    with pytest.raises(InputError, match="no subfolders"):
        open_images(tmp_path, 8, 3, labels_from_folders=True)


def test_reproduce_opens_images_as_its_recipe_says(tmp_path, pictures):
    """All of the section `data`: also the interpolation and the share that may be unreadable."""
    for index in range(6):
        (pictures / "warm" / f"broken{index}.jpg").write_text("no picture")
    settings = ["data.size=16", "data.labels_from_folders=true", "data.unreadable_at_most=0.5"]
    found = {}
    for name in ("bilinear", "bicubic"):
        r = recipe.load("photos", [*settings, f"data.interpolation={name}"], clusters=2)
        cell = Cell("photos", TABLES["table2"].rows[0], 0, r, RunFolder(tmp_path / "run"))
        found[name] = open_all([cell], str(pictures))["photos"]
        assert len(found[name].skipped) == 6
    expected = open_images(pictures, 16, 3, "bicubic", unreadable_at_most=0.5)
    assert torch.equal(found["bicubic"].images[:], expected.images[:])
    assert not torch.equal(found["bilinear"].images[:], expected.images[:])


def test_statistics_are_those_of_the_pixels():
    images = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), dtype=np.uint8)
    mean, std = open_images(images, 8, 3).statistics()
    assert mean == pytest.approx((images / 255).mean(axis=(0, 1, 2)))
    assert std == pytest.approx((images / 255).std(axis=(0, 1, 2)))
    assert open_images(np.zeros((4, 8, 8), np.uint8), 8, 1).statistics() == ([0.0], [1 / 255])


def test_an_epoch_visits_each_image_at_most_once_in_an_order_of_its_own():
    epochs = [torch.cat(list(batches(103, 10, seed=1, epoch=epoch))) for epoch in range(20)]
    for order in epochs:
        assert len(order) == len(order.unique()) == 100
    assert len(torch.cat(epochs).unique()) == 103
    assert not torch.equal(epochs[0], epochs[1])
    assert torch.equal(epochs[3], torch.cat(list(batches(103, 10, seed=1, epoch=3))))
    assert not torch.equal(epochs[3], torch.cat(list(batches(103, 10, seed=2, epoch=3))))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(2, 40, 57, 3), (1, 33, 20, 1), (2, 16, 16, 3)])
def test_resizing_does_not_depend_on_the_layout(shape, interpolation):
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)).permute(0, 3, 1, 2)
    found = crop_and_resize(pixels, 16, interpolation)
    assert found.is_contiguous()
    assert torch.equal(found, crop_and_resize(pixels.contiguous(), 16, interpolation))
