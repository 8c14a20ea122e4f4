from collections import namedtuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from connr.data import open_images
from connr.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 3), dtype=np.uint8)
EXPECTED = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)


class Pairs(torch.utils.data.Dataset):
    """(image, label) of any kind, without an IndexError at the end."""

    classes = ("even", "odd")

    def __init__(self, make):
        self.make = make

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return self.make(PIXELS[index % 6]), index % 2


MAKERS = {
    "PIL": Image.fromarray,
    "array": lambda pixels: pixels,
    "uint8 tensor": lambda pixels: torch.from_numpy(pixels).permute(2, 0, 1),
    "ToTensor": lambda pixels: torch.from_numpy(pixels).permute(2, 0, 1).float() / 255,
}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_torch_data_set_of_any_kind_of_image(kind):
    found = open_images(Pairs(MAKERS[kind]), 12, 3)
    assert torch.equal(found.images, EXPECTED)
    assert found.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert found.class_names == ["even", "odd"]
    assert found.names == ["0", "1", "2", "3", "4", "5"]
    assert found.source == ""


def test_images_alone_streams_lists_and_tensor_data_sets():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(PIXELS)

    for data in (Stream(), list(PIXELS), TensorDataset(EXPECTED), [Image.fromarray(pixels) for pixels in PIXELS]):
        found = open_images(data, 12, 3)
        assert torch.equal(found.images, EXPECTED)
        assert not found.labelled
    assert torch.equal(open_images(TensorDataset(EXPECTED, torch.arange(6)), 12, 3).labels, torch.arange(6))


def test_torchvisions_data_sets(tmp_path):
    from torchvision.datasets import ImageFolder

    for index, pixels in enumerate(PIXELS):
        place = tmp_path / ("even", "odd")[index % 2]
        place.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(place / f"{index}.png")
    found = open_images(ImageFolder(tmp_path), 12, 3)
    assert found.class_names == ["even", "odd"]
    assert torch.equal(found.images, EXPECTED[[0, 2, 4, 1, 3, 5]])


def test_rows_as_hugging_face_has_them():
    """Mappings with a PIL image, and the names of the label column in `features`."""
    column = namedtuple("ClassLabel", "names")(["even", "odd"])

    class Rows(list):
        features = {"image": None, "label": column}  # noqa: RUF012

    for key in ("image", "img"):
        found = open_images(Rows({key: Image.fromarray(p), "label": i % 2} for i, p in enumerate(PIXELS)), 12, 3)
        assert torch.equal(found.images, EXPECTED)
        assert found.labels.tolist() == [0, 1, 0, 1, 0, 1]
        assert found.class_names == ["even", "odd"]


def test_a_hugging_face_data_set():
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["even", "odd"])})
    rows = {"image": [Image.fromarray(pixels) for pixels in PIXELS], "label": [i % 2 for i in range(6)]}
    found = open_images(datasets.Dataset.from_dict(rows, features=features), 12, 3)
    assert torch.equal(found.images, EXPECTED)
    assert found.class_names == ["even", "odd"]


def test_images_of_several_sizes_and_modes_come_to_one():
    data = [Image.new("RGBA", (30, 20), (255, 0, 0, 0)), np.full((9, 9), 255, np.uint8), np.full((7, 9, 1), 255, np.uint8)]
    assert open_images(data, 8, 3).images.eq(255).all()  # transparent parts lie on white
    assert open_images(data, 8, 1).images.shape == (3, 1, 8, 8)


def test_a_list_of_paths_names_them_and_skips_what_is_broken(pictures, tmp_path):
    (tmp_path / "broken.png").write_text("no picture")
    good = sorted(pictures.rglob("*.png"))[:3]
    found = open_images([*good, tmp_path / "broken.png"], 12, 3)
    assert found.names == [str(path) for path in good]
    assert [skipped.path for skipped in found.skipped] == [str(tmp_path / "broken.png")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([torch.full((3, 8, 8), 9.5)], r"item 0 is float32 \[8, 8, 3\], should be uint8"),
        ([np.zeros((8, 8, 5), np.uint8)], r"item 0 is uint8 \[8, 8, 5\]"),
        ([np.zeros((0, 8), np.uint8)], r"item 0 is uint8 \[0, 8\]"),
        ([(PIXELS[0], "cat")], "the label of item 0 is 'cat'"),
        ([1.5], "item 0 is a float, which is not an image"),
        ([{"picture": PIXELS[0]}], "item 0 is a NoneType"),
        ([], "the list holds no images"),
        ({"train": [], "test": []}, "a mapping of train, test: give one of them"),
        (DataLoader(TensorDataset(EXPECTED), batch_size=2), r"item 0 is uint8 \[2, 3, 12, 12\]|item 0 is uint8"),
        (None, "DATA is a NoneType"),
        (7, "DATA is a int"),
    ],
)
def test_what_is_no_image_is_refused_by_its_place(data, message):
    with pytest.raises(InputError, match=message):
        open_images(data, 8, 3)
