"""Views are cut from whole photographs: torchvision's `RandomResizedCrop` on the original files is the oracle."""

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF
from PIL import Image, ImageOps
from scipy.stats import kstest
from torchvision.transforms import RandomResizedCrop

from connr import ConNR, recipe, runs
from connr.data import FileRows, StoragePolicy, open_for, open_images
from connr.data.stream import open_stream
from connr.randomness import stream
from connr.recipe.photograph import Photograph
from connr.recipe.square import Square
from connr.views import Augment, geometry

SHAPES = [(300, 400), (333, 500), (640, 427), (240, 240), (900, 1600), (90, 70)]  # height, width
SIZE, KEPT = 48, Photograph(Square(48, 3), 72)
RATIO = (3 / 4, 4 / 3)


def waves(height, width, longest, seed):
    """A coloured picture whose details are `longest` / 8 of its shorter side and larger."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / min(height, width)
    channels = []
    for _ in range(3):
        angles, phases = rng.uniform(0, 2 * np.pi, (2, 6))
        speeds = rng.uniform(1, 8, 6) / longest
        terms = zip(speeds, angles, phases, strict=True)
        channels.append(sum(np.sin(2 * np.pi * s * (np.cos(a) * x + np.sin(a) * y) + p) for s, a, p in terms))
    whole = np.stack(channels, axis=2)
    return ((whole - whole.min()) / (whole.max() - whole.min()) * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photographs of several shapes as PNG and JPEG, one large enough to be decoded at a fraction, one turned by EXIF."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    folder.mkdir()
    for index, (height, width) in enumerate(SHAPES):
        Image.fromarray(waves(height, width, 2, index)).save(folder / f"{index}.png")
        Image.fromarray(waves(height, width, 2, index + 10)).save(folder / f"{index}.jpg", quality=97)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(waves(300, 400, 2, 30)).save(folder / "turned.jpg", quality=97, exif=exif)
    return folder


def original(path):
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(ImageOps.exif_transpose(picture).convert("RGB"))).permute(2, 0, 1).float() / 255


def plain(**strengths):
    return Augment([0.0] * 3, [1.0] * 3, photograph=KEPT, **strengths)


def test_boxes_are_distributed_as_torchvisions_in_the_original_sizes():
    scale = (0.08, 1.0)
    for at, size in enumerate(SHAPES[:3]):
        drawn = geometry.draw_boxes(4000, scale, RATIO, stream(0, "boxes", at))
        ours = geometry.boxes_in(drawn, torch.tensor([size]).expand(4000, 2), RATIO).numpy()
        torch.manual_seed(at)
        blank = torch.zeros(1, *size)
        theirs = np.array([RandomResizedCrop.get_params(blank, list(scale), list(RATIO)) for _ in range(4000)])
        for column, name in enumerate(("top", "left", "height", "width")):
            assert kstest(ours[:, column], theirs[:, column]).pvalue > 0.01, name
        for part in (lambda b: b[:, 2] * b[:, 3], lambda b: b[:, 3] / b[:, 2]):  # area and aspect
            assert kstest(part(ours), part(theirs)).pvalue > 0.01
        assert (ours[:, :2] >= 0).all()
        assert (ours[:, 0] + ours[:, 2] <= size[0]).all()
        assert (ours[:, 1] + ours[:, 3] <= size[1]).all()


def test_each_row_has_the_boxes_of_its_own_size():
    sizes = torch.tensor(SHAPES)
    drawn = geometry.draw_boxes(len(SHAPES), (0.08, 1.0), RATIO, stream(0, "boxes"))
    together = geometry.boxes_in(drawn, sizes, RATIO)
    alone = [geometry.boxes_in(drawn[i : i + 1], sizes[i : i + 1], RATIO) for i in range(len(SHAPES))]
    assert torch.equal(together, torch.cat(alone))
    never = geometry.draw_boxes(2, (1.0, 1.0), (1.0, 1.0), stream(0, "boxes"))
    assert geometry.boxes_in(never, torch.tensor([[10, 40], [40, 10]]), (1.0, 1.0)).tolist() == [
        [0, 15, 10, 10],
        [15, 0, 10, 10],
    ]


@pytest.mark.parametrize("size", [16, 48])
def test_a_cut_is_torchvisions_where_nothing_was_lost(size):
    """Photographs that were squares of the stored size: exact, larger and smaller, with boxes to their borders."""
    images = torch.rand(40, 3, 32, 32, generator=stream(0, "images"))
    sizes = torch.tensor([[32, 32]]).expand(40, 2)
    boxes = geometry.boxes_in(geometry.draw_boxes(40, (0.05, 1.0), RATIO, stream(1, "boxes")), sizes, RATIO)
    flipped = torch.arange(40) % 2 == 0
    found = geometry.cut(images, sizes, boxes, flipped, size)
    for i in range(40):
        expected = TF.resized_crop(images[i], *boxes[i].int().tolist(), [size, size], antialias=True)
        assert torch.allclose(found[i], expected.flip(2) if flipped[i] else expected, atol=1e-5)


def test_views_are_torchvisions_of_the_original_files(photos):
    found = open_images(photos, SIZE, 3, kept=KEPT)
    augment = plain(crop_scale=(0.08, 1.0), flip=0.5)
    for turn in range(6):
        drawn = augment.draw(len(found), tuple(found.photographs.shape[1:]), stream(turn, "views"))
        views = augment.apply(found.photographs[:], drawn)
        assert views.shape == (len(found), 3, SIZE, SIZE)
        for i, name in enumerate(found.names):
            whole = original(photos / name)
            box = geometry.boxes_in(drawn.boxes[i : i + 1], torch.tensor([whole.shape[1:]]), RATIO)[0].int().tolist()
            expected = TF.resized_crop(whole, *box, [SIZE, SIZE], antialias=True)
            expected = expected.flip(2) if drawn.flipped[i] else expected
            assert (views[i] - expected).abs().mean() < 0.012, (name, box)
            assert (views[i] - expected).abs().max() < 0.1, (name, box)


def test_views_see_the_sides_and_are_as_sharp_as_torchvisions(tmp_path):
    """Of a wide, grey picture with a red left end; from the central square at the view's size both were lost."""
    pixels = waves(200, 300, 0.5, 0)[..., :1].repeat(3, axis=2)
    pixels[:, :20] = (255, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    found = open_images(tmp_path, SIZE, 3, kept=KEPT)
    rows = found.photographs[:].expand(400, -1)
    augment = plain(crop_scale=(0.08, 1.0))
    drawn = augment.draw(400, tuple(rows.shape[1:]), stream(0, "views"))
    views = augment.apply(rows, drawn)
    boxes = geometry.boxes_in(drawn.boxes, torch.tensor([[200, 300]]), RATIO)
    red = (views[:, 0] - views[:, 1] > 0.5).flatten(1).any(dim=1)
    assert torch.equal(red[boxes[:, 1] < 10], torch.ones(int((boxes[:, 1] < 10).sum()), dtype=torch.bool))
    assert not red[boxes[:, 1] > 30].any()
    assert 10 < int(red.sum()) < 390
    inside = (boxes[:, 1] > 50) & (boxes[:, 1] + boxes[:, 3] < 250)
    whole = original(tmp_path / "x.png")
    square = found.images[:][0].float() / 255
    sharp, theirs, blurred = [], [], []
    for i in inside.nonzero().flatten().tolist()[:10]:
        top, left, height, width = boxes[i].int().tolist()
        scale = SIZE / 200
        small = [round(value * scale) for value in (top, left - 50, height, width)]
        sharp.append(views[i].std())
        theirs.append(TF.resized_crop(whole, top, left, height, width, [SIZE, SIZE], antialias=True).std())
        blurred.append(TF.resized_crop(square, *small, [SIZE, SIZE], antialias=True).std())
    sharp, theirs, blurred = (float(torch.stack(some).mean()) for some in (sharp, theirs, blurred))
    assert theirs - sharp < 0.6 * (theirs - blurred)


def test_without_a_crop_a_view_is_the_central_square(photos):
    found = open_images(photos, SIZE, 3, kept=KEPT)
    view = plain()(found.photographs[:], stream(0, "views"))
    assert (view - plain().normalise(found.photographs[:])).abs().mean() < 0.01


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_evaluated_is_the_same_with_and_without_whole_pictures(photos, channels):
    """Bit for bit: to predict, and for k-means, nothing has changed."""
    kept = Photograph(Square(SIZE, channels), 60)
    with_whole, without = open_images(photos, SIZE, channels, kept=kept), open_images(photos, SIZE, channels)
    assert torch.equal(with_whole.images[:], without.images)
    assert with_whole.images.shape == without.images.shape
    assert with_whole.fingerprint() == without.fingerprint()
    assert with_whole.statistics() == without.statistics()
    assert without.photographs is None
    assert torch.equal(with_whole.images[3], without.images[3])
    assert torch.equal(with_whole.images[torch.tensor([5, 1])], without.images[[5, 1]])
    augment = Augment([0.4] * channels, [0.2] * channels, photograph=kept)
    assert torch.equal(augment.normalise(with_whole.photographs[:]), augment.normalise(without.images))
    streamed = torch.cat([chunk.images for chunk in open_stream(photos, SIZE, channels, 5).chunks])
    assert torch.equal(streamed, without.images)


def test_a_list_of_pictures_keeps_them_whole_too(photos):
    paths = sorted(photos.iterdir())
    found = open_images(photos, SIZE, 3, kept=KEPT)
    assert torch.equal(open_images(paths, SIZE, 3, kept=KEPT).photographs[:], found.photographs[:])
    opened = [Image.open(path) for path in paths if path.suffix == ".png"]
    pngs = torch.tensor([name.endswith(".png") for name in found.names])
    assert torch.equal(open_images(opened, SIZE, 3, kept=KEPT).photographs[:], found.photographs[:][pngs])


SETTINGS = ["data.size=16", "train.epochs=2", "group.neighbourhood.k=3", "group.neighbourhood.k1=3", "train.batch_size=12"]
SETTINGS += ["backbone.width=4", "backbone.stages=2", "framework.hidden=16", "framework.out=8"]


def test_a_run_trains_on_whole_pictures_the_same_from_memory_and_from_a_file(photos, tmp_path):
    found = []
    for gib in (4, 0):
        r = recipe.load("photos", [*SETTINGS, f"data.resident_gib={gib}"], clusters=2)
        images = open_for(r, photos, cache=tmp_path / "cache")
        assert isinstance(images.photographs, FileRows) == (gib == 0)
        assert images.photographs.shape == (13, 3 * 16 * 16 + 3 * 20 * 30 + 8)
        found.append(runs.fit(r, images, device="cpu").model)
    weights = [list(model.representation.state_dict().values()) for model in found]
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))
    again = open_for(r, photos, cache=tmp_path / "cache")  # not decoded anew
    assert again.photographs.path == images.photographs.path
    square = recipe.load("photos", [*SETTINGS, "data.stored=null"], clusters=2)
    plain_run = runs.fit(square, open_for(square, photos), device="cpu").model
    assert not torch.equal(next(iter(plain_run.representation.parameters())), weights[0][0])


def test_a_model_predicts_what_its_fit_said(photos):
    model = ConNR(2, recipe.load("photos", SETTINGS)).fit(photos)
    assert np.array_equal(model.predict(photos), model.labels_)


def test_a_frozen_backbone_goes_through_views_of_whole_pictures(photos):
    class Means(torch.nn.Module):
        size = 16

        def forward(self, images):
            return images.mean(dim=(2, 3))

    inertia = []
    for stored in ("1.25", "null"):
        settings = [f"data.stored={stored}", "train.epochs=1", "train.batch_size=12", "framework.hidden=8", "framework.out=4"]
        r = recipe.load(
            "pretrained", [*settings, "feature_views.neighbours=2", "group.neighbourhood.k=3", "group.neighbourhood.k1=3"]
        )
        model = ConNR(2, r, backbone=Means()).fit(photos)
        inertia.append(model.inertia_)
    assert inertia[0] != inertia[1]


def test_arrays_and_recipes_that_do_not_ask_are_as_before():
    images = np.random.default_rng(0).integers(0, 256, (8, 20, 30, 3), dtype=np.uint8)
    r = recipe.load("photos", clusters=2)
    assert open_for(r, images).photographs is None
    kept = {name for name in recipe.names() if recipe.load(name).data.stored}
    assert {"photos", "pretrained", "imagenet10", "imagenet-dogs"} <= kept
    assert not kept & {"digits", "cifar10", "cifar20", "stl10", "tiny-imagenet", "fashion-mnist", "features"}


def test_a_size_is_stored_that_files_can_give():
    assert recipe.load("photos", ["data.size=32"]).data.photograph == Photograph(Square(32, 3), 40)
    with pytest.raises(recipe.RecipeError, match=r"data\.stored"):
        recipe.load("photos", ["data.stored=3"])
    assert StoragePolicy().fits((100, Photograph(Square(32, 3), 40).length))
