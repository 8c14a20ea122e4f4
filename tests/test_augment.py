import math
import shutil

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF
from scipy.stats import binomtest, kstest
from torchvision.transforms import ColorJitter, GaussianBlur, RandomResizedCrop

from connr.randomness import stream
from connr.views import Augment, augment, colour, fused, geometry
from connr.views.blur import blur


@pytest.fixture
def images():
    return torch.rand(64, 3, 16, 16, generator=stream(0, "images"))


@pytest.fixture
def bytes_of(images):
    return (images * 255).to(torch.uint8)


def draws(n, low, high):
    return torch.empty(n).uniform_(low, high, generator=stream(1, "draws"))


@pytest.mark.parametrize(
    ("ours", "theirs", "low", "high"),
    [
        (colour.brightness, TF.adjust_brightness, 0.2, 1.8),
        (colour.contrast, TF.adjust_contrast, 0.2, 1.8),
        (colour.saturation, TF.adjust_saturation, 0.2, 1.8),
        (colour.hue, TF.adjust_hue, -0.5, 0.5),
    ],
)
def test_colours_are_torchvisions_image_by_image(images, ours, theirs, low, high):
    factors = draws(len(images), low, high)
    expected = torch.stack([theirs(image, float(factor)) for image, factor in zip(images, factors, strict=True)])
    assert torch.allclose(ours(images, factors), expected, atol=2e-5)


def test_grey_is_torchvisions(images):
    assert torch.allclose(colour.grey(images), TF.rgb_to_grayscale(images), atol=1e-6)
    chosen = torch.arange(64) % 2 == 0
    mixed = colour.greyed(images.clone(), chosen)
    assert torch.equal(mixed[~chosen], images[~chosen])
    assert torch.allclose(mixed[chosen], TF.rgb_to_grayscale(images[chosen], num_output_channels=3), atol=1e-6)


def test_grey_images_have_no_colour_to_change():
    plain = torch.rand(4, 1, 8, 8)
    assert torch.equal(colour.hue(plain, draws(4, -0.5, 0.5)), plain)
    assert torch.equal(colour.saturation(plain, draws(4, 0, 2)), plain)


def test_jitter_applies_the_four_in_each_images_own_order(images):
    factors, order = colour.draw_jitter(64, (0.4, 0.4, 0.4, 0.1), stream(0, "jitter"))
    chosen = torch.arange(64) % 4 != 0
    found = colour.jitter(images.clone(), factors, order, chosen)
    theirs = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation, TF.adjust_hue)
    for i in range(64):
        expected = images[i]
        for operation in order[i].tolist() if chosen[i] else ():
            expected = theirs[operation](expected, float(factors[i, operation]))
        assert torch.allclose(found[i], expected, atol=5e-5)


def test_jitter_is_drawn_in_its_ranges_and_every_order():
    factors, order = colour.draw_jitter(2000, (0.4, 2.0, 0.3, 0.1), stream(0, "jitter"))
    for column, (low, high) in enumerate([(0.6, 1.4), (0, 3), (0.7, 1.3), (-0.1, 0.1)]):
        assert factors[:, column].min() == pytest.approx(low, abs=0.01)
        assert factors[:, column].max() == pytest.approx(high, abs=0.01)
    counts = np.unique(order.numpy(), axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert counts.min() > 50


def test_jitter_leaves_alone_what_a_strength_of_0_says(images):
    factors, order = colour.draw_jitter(64, (0.4, 0.4, 0.4, 0.0), stream(0, "jitter"))
    found = colour.jitter(images.clone()[:, :1], factors, order, torch.ones(64, dtype=torch.bool))
    for i in range(64):
        expected = images[i, :1]
        for operation in order[i].tolist():
            if operation < 2:
                expected = (TF.adjust_brightness, TF.adjust_contrast)[operation](expected, float(factors[i, operation]))
        assert torch.allclose(found[i], expected, atol=5e-5)
    nothing = torch.tensor([1.0, 1.0, 1.0, 0.0]).expand(64, 4)
    assert torch.allclose(colour.jitter(images.clone(), nothing, order, torch.ones(64, dtype=torch.bool)), images, atol=1e-6)
    assert torch.equal(colour.jitter(images.clone(), factors, order, torch.zeros(64, dtype=torch.bool)), images)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_hue_of_what_has_none_stays(value):
    plain = torch.full((3, 3, 4, 4), value)
    assert torch.allclose(colour.hue(plain, torch.tensor([-0.5, 0.2, 0.5])), plain, atol=1e-6)


def test_hue_at_the_corners_and_edges_of_the_hexagon_is_torchvisions():
    """Full and half values in every channel: red, yellow, ..., every tie between channels."""
    levels = torch.tensor([0.0, 0.5, 1.0])
    colours = torch.cartesian_prod(levels, levels, levels).T.reshape(1, 3, 27, 1)
    for turn in (-0.5, -1 / 6, 0.0, 1 / 12, 1 / 3, 0.5):
        assert torch.allclose(colour.hue(colours, torch.tensor([turn])), TF.adjust_hue(colours, turn), atol=1e-5)


def test_solarising_is_torchvisions(images):
    chosen = torch.arange(64) % 2 == 0
    found = colour.solarised(images.clone(), chosen)
    assert torch.equal(found[~chosen], images[~chosen])
    assert torch.allclose(found[chosen], TF.solarize(images[chosen], 0.5))


def test_jitter_is_distributed_as_torchvisions():
    strengths = (0.8, 1.2, 0.4, 0.2)
    factors, order = colour.draw_jitter(4000, strengths, stream(0, "jitter"))
    theirs = ColorJitter(*strengths)
    torch.manual_seed(0)
    drawn = [ColorJitter.get_params(theirs.brightness, theirs.contrast, theirs.saturation, theirs.hue) for _ in range(4000)]
    for column in range(4):
        assert kstest(factors[:, column].numpy(), [float(draw[1 + column]) for draw in drawn]).pvalue > 0.01
    places = torch.stack([draw[0] for draw in drawn])
    ours, others = ((part == 3).float().argmax(dim=1).numpy() for part in (order, places))
    assert kstest(ours, others).pvalue > 0.01


def test_sigmas_and_chances_are_distributed_as_torchvisions():
    strengths = {"flip": 0.5, "grey_probability": 0.2, "blur_probability": 0.55, "solarise_probability": 0.1}
    drawn = Augment([0.0] * 3, [1.0] * 3, jitter=(0.4, 0.4, 0.4, 0.1), **strengths).draw(4000, (3, 16, 16), stream(0, "views"))
    torch.manual_seed(0)
    assert kstest(drawn.sigmas.numpy(), [GaussianBlur.get_params(0.1, 2.0) for _ in range(4000)]).pvalue > 0.01
    parts = (drawn.flipped, drawn.jittered, drawn.greyed, drawn.blurred, drawn.solarised)
    for part, probability in zip(parts, (0.5, 0.8, 0.2, 0.55, 0.1), strict=True):
        assert binomtest(int(part.sum()), 4000, probability).pvalue > 0.01


def test_blur_is_torchvisions_image_by_image(images):
    sigmas, chosen = draws(64, 0.1, 2.0), torch.arange(64) % 3 != 0
    found = blur(images, sigmas, chosen, 9)
    for i in range(64):
        expected = TF.gaussian_blur(images[i], [9, 9], [float(sigmas[i])] * 2) if chosen[i] else images[i]
        assert torch.allclose(found[i], expected, atol=1e-5)


def test_crops_are_distributed_as_torchvisions():
    size, scale, ratio = (32, 48), (0.08, 1.0), (3 / 4, 4 / 3)
    ours = geometry.draw_crops(4000, size, scale, ratio, stream(0, "crops")).numpy()
    torch.manual_seed(0)
    blank = torch.zeros(3, *size)
    theirs = np.array([RandomResizedCrop.get_params(blank, list(scale), list(ratio)) for _ in range(4000)])
    for column, name in enumerate(("top", "left", "height", "width")):
        assert kstest(ours[:, column], theirs[:, column]).pvalue > 0.01, name
    assert (ours[:, 0] + ours[:, 2] <= 32).all()
    assert (ours[:, 1] + ours[:, 3] <= 48).all()
    assert (ours[:, :2] >= 0).all()


def test_a_crop_that_never_fits_falls_back_to_the_central_one():
    assert geometry.draw_crops(3, (10, 40), (1.0, 1.0), (1.0, 1.0), stream(0, "crops")).tolist() == [[0, 15, 10, 10]] * 3
    assert geometry.draw_crops(1, (40, 10), (1.0, 1.0), (1.0, 1.0), stream(0, "crops")).tolist() == [[15, 0, 10, 10]]


@pytest.mark.parametrize("size", [(16, 16), (12, 20)])
def test_a_crop_is_torchvisions_image_by_image(size):
    """With antialiasing: a crop is never larger than the image, so it never shrinks."""
    images = torch.rand(64, 3, *size, generator=stream(0, "images"))
    boxes = geometry.draw_crops(64, size, (0.1, 1.0), (3 / 4, 4 / 3), stream(3, "crops"))
    flipped = torch.rand(64, generator=stream(0, "flips")) < 0.5
    found = geometry.cropped(images, boxes, flipped)
    for i, (top, left, height, width) in enumerate(boxes.int().tolist()):
        expected = TF.resized_crop(images[i], top, left, height, width, list(size), antialias=True)
        assert torch.allclose(found[i], expected.flip(2) if flipped[i] else expected, atol=1e-5)
    assert torch.equal(geometry.cropped(images, boxes, None)[~flipped], found[~flipped])


def test_flips_swap_left_and_right(images):
    flipped = torch.arange(64) % 3 == 0
    found = geometry.cropped(images, None, flipped)
    assert torch.allclose(found[flipped], images[flipped].flip(3), atol=1e-5)
    assert torch.allclose(found[~flipped], images[~flipped], atol=1e-5)


def test_affine_moves_as_its_parameters_say(images):
    """Alone, each parameter is torchvision's affine with the amount read off the matrix."""
    turned = geometry.affine_matrices(64, 30, 0, (1.0, 1.0), 0, stream(0, "affine"))
    angles = torch.atan2(turned[:, 1, 0], turned[:, 0, 0]).rad2deg()
    assert angles.abs().max() <= 30
    assert angles.std() == pytest.approx(60 / math.sqrt(12), rel=0.2)
    found = geometry.sample(images, turned, None)
    for i in range(64):
        expected = TF.affine(
            images[i], -float(angles[i]), [0, 0], 1.0, [0.0, 0.0], interpolation=TF.InterpolationMode.BILINEAR
        )
        difference = (found[i] - expected).abs()[:, 3:13, 3:13].max()
        other_way = (found[i] - TF.affine(images[i], float(angles[i]), [0, 0], 1.0, [0.0, 0.0])).abs().max()
        assert difference < 1e-3 < other_way or abs(angles[i]) < 0.5
    moved = geometry.affine_matrices(64, 0, 0.25, (0.5, 2.0), 0, stream(0, "affine"))
    assert moved[:, :2, 2].abs().max() <= 0.5  # a quarter of the side, in coordinates that span 2
    assert 0.5 <= 1 / moved[:, 0, 0].max() < 0.6
    assert torch.equal(moved[:, 0, 0], moved[:, 1, 1])


def test_warps_are_smooth_and_as_strong_as_asked():
    field = geometry.displacements(geometry.draw_warps(500, 0.05, 3, stream(0, "warps")), (16, 16))
    corners = field[:, ::15, ::15]
    assert corners.std() == pytest.approx(2 * 0.05, rel=0.1)
    steps = (field[:, 1:] - field[:, :-1]).abs().mean()
    assert steps < 0.25 * field.std()


def test_nothing_asked_is_nothing_done(bytes_of):
    augment = Augment([0.5, 0.4, 0.3], [0.2, 0.2, 0.1])
    expected = (bytes_of.float() / 255 - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.2, 0.2, 0.1]).view(
        3, 1, 1
    )
    assert torch.allclose(augment.normalise(bytes_of), expected)
    assert torch.allclose(augment(bytes_of, stream(0, "views")), expected)


@pytest.mark.parametrize(
    "strength",
    [
        {"crop_scale": (0.1, 1.0)},
        {"flip": 0.5},
        {"rotate": 20.0},
        {"shift": 0.2},
        {"zoom": (0.5, 1.5)},
        {"shear": 20.0},
        {"warp": 0.1},
        {"jitter": (0.4, 0.4, 0.4, 0.1)},
        {"grey_probability": 0.5},
        {"blur_probability": 0.5, "blur_kernel": 9},
        {"solarise_probability": 0.5},
    ],
    ids=lambda strength: next(iter(strength)),
)
def test_each_part_alone_differs_image_by_image_and_repeats_with_its_stream(bytes_of, strength):
    same = bytes_of[:1].expand(64, -1, -1, -1)
    augment = Augment([0.0] * 3, [1.0] * 3, **strength)
    view = augment(same, stream(0, "views"))
    assert torch.equal(view, augment(same, stream(0, "views")))
    assert not torch.equal(view, augment(same, stream(0, "views", 1)))
    assert len({tuple(v.flatten().tolist()) for v in view}) > 1
    assert view.min() >= -1e-6
    assert view.max() <= 1 + 1e-6


def test_the_global_generator_is_left_alone(bytes_of):
    before = torch.get_rng_state()
    Augment([0.0] * 3, [1.0] * 3, crop_scale=(0.1, 1.0), rotate=5.0, warp=0.1, jitter=(0.4, 0.4, 0.4, 0.1), flip=0.5)(
        bytes_of, stream(0, "views")
    )
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("n", [0, 1, 32, 60])
def test_plain_images_are_normalised_as_views_are(bytes_of, n):
    """Bit for bit, also for numbers of images that are no multiple of what is normalised together."""
    plain = Augment([0.4, 0.5, 0.6], [0.2, 0.3, 0.4])
    assert torch.equal(plain.normalise(bytes_of[:n]), plain(bytes_of[:n], stream(0, "views")))
    assert plain.normalise(bytes_of).is_contiguous(memory_format=torch.channels_last)


ALL = {
    "crop_scale": (0.1, 1.0),
    "flip": 0.5,
    "rotate": 20.0,
    "warp": 0.05,
    "jitter": (0.4, 0.4, 0.4, 0.1),
    "grey_probability": 0.2,
    "blur_probability": 0.5,
    "solarise_probability": 0.2,
}


@pytest.mark.parametrize("channels", [1, 3])
def test_a_view_is_that_of_its_image_and_its_draw_alone(bytes_of, channels):
    """Whatever else is in the batch, and in however many parts it goes through: ranks and a GPU cut it otherwise."""
    images = bytes_of[:, :channels]
    augment = Augment([0.4] * channels, [0.2] * channels, **ALL)
    drawn = augment.draw(64, (3, 16, 16), stream(0, "views"))
    whole = augment.apply(images, drawn)
    shares = [augment.apply(images[share], drawn.rows(share)) for share in (slice(0, 1), slice(1, 22), slice(22, 64))]
    assert torch.allclose(torch.cat(shares), whole, atol=1e-4)
    shuffled = torch.randperm(64, generator=stream(0, "shuffle"))
    assert torch.allclose(augment.apply(images[shuffled], drawn.rows(shuffled)), whole[shuffled], atol=1e-4)


def test_many_images_go_through_in_parts(monkeypatch, bytes_of):
    augment = Augment([0.4] * 3, [0.2] * 3, **ALL)
    drawn = augment.draw(64, (3, 16, 16), stream(0, "views"))
    whole = augment.apply(bytes_of, drawn)
    monkeypatch.setattr("connr.views.augment.VIEWED_AT_ONCE", 7 * 16 * 16)
    assert torch.allclose(augment.apply(bytes_of, drawn), whole, atol=1e-4)


def test_a_view_is_written_over_one_that_is_as_large(bytes_of):
    augment = Augment([0.4] * 3, [0.2] * 3, **ALL)
    drawn, later = (augment.draw(64, (3, 16, 16), stream(0, "views", at)) for at in (0, 1))
    found, before = augment.apply(bytes_of, drawn), augment.apply(bytes_of, later)
    assert augment.apply(bytes_of, drawn, before) is before
    assert torch.equal(before, found)
    few = augment.apply(bytes_of[:3], later.rows(slice(3)), before)
    assert len(few) == 3
    assert torch.equal(before, found)


def test_the_blur_is_a_tenth_of_the_side():
    assert [augment.tenth(side) for side in (8, 32, 64, 96, 224, 230)] == [3, 3, 7, 9, 23, 23]


def test_what_is_compiled_computes_the_same(bytes_of):
    """The function as it is handed to the compiler; that a compiled run trains is in test_update.py."""
    augment = Augment([0.4] * 3, [0.2] * 3, **ALL)
    drawn = augment.draw(64, (3, 16, 16), stream(0, "views"))
    plain = augment.apply(bytes_of, drawn)
    augment._coloured = fused.coloured
    assert torch.allclose(augment.apply(bytes_of, drawn), plain, atol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled_it_is_the_same_too(bytes_of):
    torch.compiler.reset()
    augment = Augment([0.4] * 3, [0.2] * 3, **ALL)
    drawn = augment.draw(64, (3, 16, 16), stream(0, "views"))
    plain = augment.apply(bytes_of, drawn)
    augment.compile()
    for share in (slice(0, 64), slice(3, 40)):
        assert torch.allclose(augment.apply(bytes_of[share], drawn.rows(share)), plain[share], atol=1e-4)
