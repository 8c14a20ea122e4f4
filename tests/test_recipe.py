from itertools import pairwise

import numpy as np
import pytest
import yaml
from conftest import TINY
from test_cli import connr

from connr import recipe
from connr.clustering.anchors import AllAnchors
from connr.neighbours.itself import ItselfConfig
from connr.recipe import RecipeError
from connr.recipe.crowding import best_purity
from connr.recipe.reading import PRESETS
from connr.recipe.version_0_1 import translated


@pytest.mark.parametrize("name", recipe.names())
def test_every_recipe_is_valid_and_complete_when_written_out(name, tmp_path):
    r = recipe.load(name)
    assert r.description
    if r.method.name == "connr":
        assert 0 < r.method.first_group_epoch(r.train.epochs) <= r.train.epochs
    (tmp_path / "copy.yaml").write_text(r.to_yaml())
    assert recipe.load(str(tmp_path / "copy.yaml")) == r
    head = recipe.text(name).splitlines()[:3]
    assert head[0].startswith("# connr fit")
    assert any(line.startswith("# Cost:") for line in head)


def test_the_digits_do_not_flip():
    assert recipe.load("digits").augment.flip == 0


def test_cifar10_has_the_numbers_of_the_paper():
    r = recipe.load("cifar10")
    assert (r.train.epochs, r.method.first_group_epoch(r.train.epochs), r.train.batch_size, r.train.base_lr) == (
        1000,
        800,
        256,
        0.05,
    )
    assert r.train.warmup * r.train.epochs == 50
    assert r.method.group.neighbourhood.model_dump() == {
        "name": "contextual",
        "k": 10,
        "k1": 10,
        "k2": 2,
        "alpha": 2.0,
        "layers": 2,
    }
    assert r.method.group.anchors.model_dump() == {
        "name": "boundary",
        "fraction": 0.8,
        "final": 1.0,
        "until": 1.0,
        "inclusive_threshold": True,
    }
    assert (r.method.base.hidden, r.method.base.out, r.method.base.target_momentum) == (4096, 256, 0.996)
    assert (r.method.instance.lr_factors.encoder, r.method.instance.lr_factors.predictor) == (1, 10)
    assert (r.method.group.lr_factors.encoder, r.method.group.lr_factors.predictor) == (0.1, 0.1)


def test_settings_are_laid_over_in_order():
    r = recipe.load("digits", ["train.epochs=50", "group.neighbourhood.k=7", "augment.jitter=null"], clusters=3, seed=7)
    assert (r.train.epochs, r.method.first_group_epoch(r.train.epochs), r.method.group.neighbourhood.k, r.augment.jitter) == (
        50,
        36,
        7,
        None,
    )
    assert (r.clusters, r.seed) == (3, 7)
    assert r.method.group.neighbourhood.k1 == 5


def test_another_part_by_name_starts_from_its_own_defaults():
    r = recipe.load("digits", ["group.neighbourhood.name=local", "group.neighbourhood.k=7", "group.anchors.name=all"])
    assert r.method.group.neighbourhood.model_dump() == {"name": "local", "k": 7}
    assert r.method.group.anchors.model_dump() == {"name": "all"}
    assert recipe.load("digits", ["backbone.name=resnet18"]).backbone.model_dump() == {
        "name": "resnet18",
        "small_images": False,
    }


def test_all_faults_are_shown_at_once():
    with pytest.raises(RecipeError) as refused:
        recipe.load("digits", ["train.epoch=3", "augment.flip=2", "group.neighbourhood.k=300", "backbone.width=wide", "foo=1"])
    text = str(refused.value)
    assert "has 5 faults" in text
    assert "train.epoch is not a key. Did you mean train.epochs?" in text
    assert "augment.flip=2: Input should be less than or equal to 1." in text
    assert "method.group.neighbourhood.k=300 should be at most train.batch_size=128." in text
    assert "backbone.width='wide'" in text
    assert "foo is not a key." in text


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epochs=3", "epochs is not a key. Did you mean train.epochs?"),
        ("group.neighborhood.k=3", "method.group.neighborhood is not a key. Did you mean method.group.neighbourhood"),
        ("train.batch_size=4", "method.group.neighbourhood.k1=5 should be at most train.batch_size=4."),
        ("group.anchors.fraction=0", "method.group.anchors.fraction=0: Input should be greater than 0."),
        ("backbone.name=resnet50", "'resnet50'"),
        ("augment.zoom=[2, 1]", "augment.zoom=[2.0, 1.0] should rise."),
        ("augment.crop_scale=[0.5]", "augment.crop_scale"),
        ("train.epochs", "should read a.b=value"),
        ("=3", "should read a.b=value"),
        ("train.epochs=[", "the value is not YAML"),
        ("data=3", "data=3"),
        ("augment.crop_ratio=[1.5, 0.5]", "augment.crop_ratio=[1.5, 0.5] should rise."),
        ("train.base_lr=.inf", "train.base_lr=inf"),
        ("train.base_lr=.nan", "train.base_lr=nan"),
        ("augment=null", "augment=None"),
        ("clusters=0", "clusters=0"),
    ],
)
def test_a_wrong_setting_names_itself_and_the_way_out(setting, message):
    with pytest.raises(RecipeError) as refused:
        recipe.load("digits", [setting])
    assert message in str(refused.value)


def test_a_setting_mends_a_file_and_faults_of_both_are_told_together(tmp_path):
    (tmp_path / "x.yaml").write_text(recipe.text("digits").replace("shear: 5", "sheer: 5").replace("epochs: 110", "epochs: 0"))
    with pytest.raises(RecipeError) as refused:
        recipe.load(str(tmp_path / "x.yaml"), ["augment.flip=2", "train.epochs=3"])
    assert "has 2 faults" in str(refused.value)
    assert "augment.sheer is not a key. Did you mean augment.shear?" in str(refused.value)


def test_a_recipe_extends_others(tmp_path):
    (tmp_path / "x.yaml").write_text("extends: [digits]\ntrain: {epochs: 7}\ngroup: {neighbourhood: {name: local}}\n")
    r, digits = recipe.load(str(tmp_path / "x.yaml")), recipe.load("digits")
    assert r.train == digits.train.model_copy(update={"epochs": 7})
    assert r.method.group.neighbourhood.model_dump() == {"name": "local", "k": 10}
    assert r.augment == digits.augment
    assert recipe.load(r) == r


def dotted(branch, prefix=""):
    """{a.b: value} of nested mappings."""
    found = {}
    for key, value in branch.items():
        found |= dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


# The presets are training decisions of ConNR.
@pytest.mark.parametrize("name", [name for name in recipe.names() if recipe.load(name).method.name == "connr"])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_changes_its_own_keys_and_no_others(name, preset, tmp_path):
    (tmp_path / "x.yaml").write_text(f"extends: [{name}, {preset}]\n")
    plain, changed = (dotted(recipe.load(r).model_dump()) for r in (name, str(tmp_path / "x.yaml")))
    stated = dotted(translated(yaml.safe_load(recipe.text(preset))))
    only_if = {key.removesuffix("only_if"): value for key, value in stated.items() if key.endswith(".only_if")}
    assert only_if == {"method.group.anchors.": "boundary"}
    if plain["method.group.anchors.name"] != "boundary":
        stated = {key: value for key, value in stated.items() if not key.startswith("method.group.anchors.")}
    stated.pop("method.group.anchors.only_if", None)
    assert changed == plain | stated


def test_a_recipe_laid_over_another_resets_nothing_that_it_does_not_state(tmp_path):
    (tmp_path / "short.yaml").write_text("train: {epochs: 3}\n")
    (tmp_path / "x.yaml").write_text(f"extends: [imagenet-dogs, {tmp_path / 'short.yaml'}]\n")
    r, dogs = recipe.load(str(tmp_path / "x.yaml")), recipe.load("imagenet-dogs")
    assert r == dogs.model_copy(update={"train": dogs.train.model_copy(update={"epochs": 3})})
    assert (r.method.group.neighbourhood.k, r.method.group.neighbourhood.k1, r.method.group.crop_scale) == (20, 30, (0.45, 1))


@pytest.mark.parametrize("name", ["cifar10", "cifar20", "stl10", "imagenet10", "imagenet-dogs", "tiny-imagenet"])
def test_every_data_set_of_the_paper_has_the_numbers_of_the_released_program(name):
    released, plain = recipe.load(f"{name}-released"), recipe.load(name)
    assert (released.train.batch_size, released.train.base_lr, released.method.group.loss_scale) == (512, 0.05, 0.25)
    assert (released.method.group.anchors.until, released.method.group.anchors.inclusive_threshold) == (0.85, False)
    assert released.method.group.neighbourhood == plain.method.group.neighbourhood
    assert released.method.group.crop_scale == plain.method.group.crop_scale == (0.45, 1)
    assert (released.augment, released.backbone, released.data) == (plain.augment, plain.backbone, plain.data)
    assert (plain.train.batch_size, plain.method.group.loss_scale) == (256, 1)


def test_the_control_of_table_2_is_stage_2_but_for_neighbours_and_anchors():
    """Its views and learning rates, with each image its own neighbour and all of them anchors."""
    control = recipe.load("cifar10", ["group.neighbourhood.name=itself", "group.anchors.name=all"])
    plain = recipe.load("cifar10")
    changed = {"neighbourhood": ItselfConfig(), "anchors": AllAnchors()}
    group = plain.method.group.model_copy(update=changed)
    assert control == plain.model_copy(update={"method": plain.method.model_copy(update={"group": group})})
    assert (
        control.method.first_group_epoch(1000),
        control.method.group.crop_scale,
        control.method.group.lr_factors.encoder,
    ) == (800, (0.45, 1), 0.1)


def test_simsiam_has_the_numbers_of_its_own_paper_for_cifar():
    for name in ("cifar10-simsiam", "cifar10-simsiam-connr", "cifar20-simsiam", "cifar20-simsiam-connr"):
        r = recipe.load(name)
        assert (r.method.base.layers, r.method.base.hidden, r.method.base.out, r.method.base.bottleneck) == (
            2,
            2048,
            2048,
            512,
        )
        assert (r.train.base_lr, r.train.batch_size, r.train.weight_decay, r.train.momentum) == (0.03, 512, 0.0005, 0.9)
        assert (r.method.instance.lr_factors.encoder, r.method.instance.lr_factors.predictor) == (1, 1)


def test_a_k_that_no_batch_can_serve_is_said():
    assert {name for name in recipe.names() if recipe.crowded(recipe.load(name))} == {
        "imagenet-dogs",
        "tiny-imagenet",
        "tiny-imagenet-released",
    }
    note = recipe.crowded(recipe.load("imagenet-dogs"))
    assert "method.group.neighbourhood.k=20 is more than the 17.1 images" in note
    assert "train.batch_size=256: besides the image itself at most 85% of its neighbours" in note
    assert "train.batch_size=300, or method.group.memory=44" in note
    for setting, still in (("train.batch_size=299", True), ("train.batch_size=300", False), ("group.memory=44", False)):
        assert bool(recipe.crowded(recipe.load("imagenet-dogs", [setting]))) == still
    assert "+ method.group.memory=43:" in recipe.crowded(recipe.load("imagenet-dogs", ["group.memory=43"]))
    local = ["group.neighbourhood.name=local", "group.neighbourhood.k=30"]
    assert recipe.crowded(recipe.load("digits", local))
    for settings in (["group.neighbourhood.name=itself"], [*local, "train.group_from=1"]):
        assert recipe.crowded(recipe.load("digits", settings)) is None
    assert recipe.crowded(recipe.load("photos")) is None
    assert recipe.crowded(recipe.load("photos", clusters=13))


def test_the_command_says_so_before_it_trains_and_in_its_list(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    short = [*(f"--set={setting}" for setting in TINY), "--set=train.epochs=1", "--set=train.group_from=0"]
    crowded = connr("fit", "digits", "--out", "one", *short).output
    assert crowded.index("Note: method.group.neighbourhood.k=10 is more than the 6.4 images") < crowded.index("Assignments:")
    assert "Note:" not in connr("fit", "digits", "--out", "two", *short, "--set=group.memory=36").output
    notes = [line for line in connr("recipes", "list").output.splitlines() if line.startswith("Note: ")]
    assert [note.split(": ")[1] for note in notes] == ["imagenet-dogs", "tiny-imagenet", "tiny-imagenet-released"]
    assert "at most 85% of its neighbours" in notes[0]


@pytest.mark.parametrize(("pool", "clusters", "k"), [(12, 3, 5), (256, 15, 20), (6, 2, 6), (8, 4, 1)])
def test_the_best_purity_is_that_of_drawn_clusters(pool, clusters, k):
    drawn = np.random.default_rng(0).integers(0, clusters, (20_000, pool))
    others = (drawn[:, 1:] == drawn[:, :1]).sum(axis=1)
    expected = np.minimum(others, k - 1).mean() / (k - 1) if k > 1 else 1
    assert best_purity(pool, clusters, k) == pytest.approx(expected, abs=0.01)


def test_files_that_are_no_recipe_are_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"'digit' is neither .* Did you mean digits\?"):
        recipe.load("digit")
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="cannot be read"):
        recipe.load(str(tmp_path / "x.yaml"))
    bomb = "\n".join(f"{to}: &{to} [{', '.join([f'*{of}'] * 9)}]" for of, to in pairwise("abcdefghijklm"))
    for content, message in (
        ("- 1", "mapping of sections"),
        ("a: [", "is not YAML"),
        ("a: " + 5000 * "[", "is not YAML"),
        (f"a: &a [1]\n{bomb}\ntrain: *m", r"write \*a out, without alias\n.*line 2"),
        ("clusters: 3", "backbone is missing"),
    ):
        (tmp_path / "x.yaml").write_text(content)
        with pytest.raises(RecipeError, match=message):
            recipe.load(str(tmp_path / "x.yaml"))


def test_keys_are_those_of_the_written_out_recipes():
    for name in recipe.names():
        assert set(dotted(yaml.safe_load(recipe.load(name).to_yaml()))) <= set(recipe.keys())


@pytest.mark.parametrize("extends", ["5", "{path}", "[{path}]"])
def test_recipes_that_lead_back_to_themselves_are_refused(tmp_path, extends):
    path = tmp_path / "own.yaml"
    path.write_text(f"extends: {extends.format(path=path)}\n")
    with pytest.raises(RecipeError, match="should be names of other recipes"):
        recipe.load(str(path))


def test_strengths_have_names_and_what_is_said_beside_the_name_goes_before_it():
    moco = recipe.load("cifar10", ["augment.name=moco"]).augment
    assert (moco.crop_scale, moco.jitter, moco.blur_probability) == ((0.2, 1), (0.4, 0.4, 0.4, 0.1), 0.5)
    simclr = recipe.load("digits", ["augment.name=simclr", "augment.flip=0"])
    assert (simclr.augment.flip, simclr.augment.jitter, simclr.augment.warp) == (0, (0.8, 0.8, 0.8, 0.2), 0)
    assert recipe.load("photos", ["augment.name=byol"]).augment.solarise_probability == 0.1
    assert recipe.check(simclr.model_dump()) == simclr
    assert recipe.load(simclr, ["augment.grey_probability=1"]).augment.jitter == (0.8, 0.8, 0.8, 0.2)


def test_a_blur_has_a_middle_and_fits_the_image():
    with pytest.raises(RecipeError, match=r"augment\.blur_kernel=24"):
        recipe.load("cifar10", ["augment.blur_kernel=24"])
    with pytest.raises(RecipeError, match=r"augment\.blur_kernel=23 should be at most 15, as data\.size=8"):
        recipe.load("digits", ["augment.blur_kernel=23"])
