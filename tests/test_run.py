import csv
import math
import os
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from connr import experiment, metrics, recipe, runs
from connr.data import ImageSet, Skipped, open_images
from connr.engine import Callback, Timeline, checkpoint, loop, optimizers
from connr.errors import Diverged, InputError
from connr.run_folder import RunFolder
from connr.schema import read_epochs


@pytest.fixture(scope="module")
def finished(tmp_path_factory, few_digits):
    """A run of 3 + 2 epochs with all its checkpoints, never to be changed."""
    from conftest import TINY

    folder = RunFolder(tmp_path_factory.mktemp("run") / "whole")
    return folder, runs.fit(recipe.load("digits", TINY), few_digits, folder)


def weights(fitted):
    return fitted.model.representation.state_dict()


def same_weights(one, two):
    return all(torch.equal(value, weights(two)[name]) for name, value in weights(one).items())


def test_both_stages_are_trained_and_told(finished):
    _, fitted = finished
    assert [record["stage"] for record in fitted.history] == ["instance"] * 3 + ["group"] * 2
    assert [record["kept"] for record in fitted.history[:3]] == [1.0] * 3
    assert fitted.history[3]["kept"] == pytest.approx(51 / 64)  # floor(0.8 * 64) of each batch
    assert fitted.history[4]["kept"] == pytest.approx(57 / 64)
    assert ["acc" in record for record in fitted.history] == [False, True, True, True, True]
    assert all(sum(record["cluster_sizes"]) == 400 for record in fitted.history if "cluster_sizes" in record)
    assert fitted.history[0]["lr"] > fitted.history[4]["lr"] > 0


def test_training_learns_something(finished):
    _, fitted = finished
    assert fitted.history[-1]["loss"] < fitted.history[0]["loss"] - 0.2
    assert fitted.history[-1]["acc"] > 0.3  # ten classes: chance is about 0.15


def test_a_run_repeats_bit_for_bit(finished, few_digits, tiny):
    torch.manual_seed(12345)  # what the caller's generators hold is nothing to us
    again = runs.fit(tiny, few_digits)
    assert same_weights(finished[1], again)
    assert torch.equal(finished[1].assigned.clusters, again.assigned.clusters)
    assert torch.equal(finished[1].assigned.distances, again.assigned.distances)


def test_another_seed_is_another_run(finished, few_digits, tiny):
    other = runs.fit(tiny.model_copy(update={"seed": 1}), few_digits)
    assert not same_weights(finished[1], other)


def test_labels_reach_nothing_but_the_metrics(finished, few_digits, tiny):
    shuffled = few_digits.labels[torch.randperm(400, generator=torch.Generator().manual_seed(0))]
    permuted = runs.fit(tiny, replace(few_digits, labels=shuffled))
    assert torch.equal(finished[1].assigned.clusters, permuted.assigned.clusters)
    assert permuted.history[-1]["acc"] != finished[1].history[-1]["acc"]
    unlabelled = runs.fit(tiny, replace(few_digits, labels=torch.full((400,), -1)))
    assert torch.equal(finished[1].assigned.clusters, unlabelled.assigned.clusters)
    assert "acc" not in unlabelled.history[-1]


@pytest.mark.parametrize("epoch", [1, 2, 3, 4, 5])
def test_resuming_from_any_epoch_ends_in_the_same_place(finished, few_digits, tiny, tmp_path, epoch):
    whole, fitted = finished
    cut = RunFolder(tmp_path / "cut")
    shutil.copytree(whole.path, cut.path)
    for path in checkpoint.checkpoints(cut.checkpoints)[epoch:]:
        path.unlink()
    for path in (cut.model, cut.config, cut.assignments):
        path.unlink()
    with open(cut.events, "a", encoding="utf-8") as file:
        file.write('{"epoch": 6, "cut o')  # the line that was being written
    resumed = runs.fit(tiny, few_digits, cut, resume=True)
    assert same_weights(fitted, resumed)
    assert cut.assignments.read_bytes() == whole.assignments.read_bytes()
    timeless = [[{k: v for k, v in record.items() if k != "seconds"} for record in f.history] for f in (fitted, resumed)]
    assert timeless[0] == timeless[1]
    assert [record["epoch"] for record in read_epochs(cut.events)] == [1, 2, 3, 4, 5]


def test_a_run_killed_before_its_first_checkpoint_starts_anew(finished, few_digits, tiny, tmp_path):
    folder = RunFolder(tmp_path / "early")
    with folder.claimed(tiny.to_yaml(), resume=False):
        pass
    resumed = runs.fit(tiny, few_digits, folder, resume=True)
    assert same_weights(finished[1], resumed)


def test_another_stage_2_starts_from_the_end_of_stage_1(finished, few_digits, tiny):
    """BYOL alone, gone on with from the run's end of stage 1, is BYOL alone from scratch."""
    folder, _ = finished
    alone = recipe.load(tiny, ["method.start=1"])
    scratch = runs.fit(alone, few_digits)
    shared = runs.fit(alone, few_digits, start_from=checkpoint.after(folder.checkpoints, 3))
    assert same_weights(scratch, shared)
    assert {record["stage"] for record in scratch.history} == {"instance"}


def test_only_the_latest_checkpoints_and_the_end_of_stage_1_are_kept(few_digits, tiny, tmp_path):
    r = recipe.check({**tiny.model_dump(), "train": {**tiny.train.model_dump(), "keep_checkpoints": 1}})
    folder = RunFolder(tmp_path / "run")
    runs.fit(r, few_digits, folder)
    assert [path.stem for path in checkpoint.checkpoints(folder.checkpoints)] == ["epoch-00003", "epoch-00005"]
    assert not list(folder.path.rglob("*.tmp"))


def test_all_from_stage_2_on(few_digits, tiny):
    r = recipe.load(tiny, ["method.start=0"])
    assert {record["stage"] for record in runs.fit(r, few_digits).history} == {"group"}


def test_assignments_have_a_row_per_image_that_the_model_repeats(finished, few_digits):
    folder, fitted = finished
    with open(folder.assignments, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "cluster", "distance", "boundary_ratio", "label"]
    assert [row["path"] for row in rows] == few_digits.names
    assert [int(row["label"]) for row in rows] == few_digits.labels.tolist()
    r, model = runs.load_model(folder)
    assert r == fitted.recipe
    again = model.assign(few_digits.images)
    assert [int(row["cluster"]) for row in rows] == again.clusters.tolist()
    assert [float(row["distance"]) for row in rows] == pytest.approx(again.distances.tolist(), abs=1e-6)
    assert [float(row["boundary_ratio"]) for row in rows] == pytest.approx(again.ratios.tolist(), abs=1e-6)
    assert runs.evaluate(folder) == metrics.scores(few_digits.labels, again.clusters)


def test_a_small_folder_shrinks_the_batch(pictures):
    r = recipe.load("photos", ["group.neighbourhood.k1=20"], clusters=3)
    images = open_images(pictures, 32, 3)
    assert runs.clamp_to_data(r, len(images)).train.batch_size == 24


def test_names_that_are_not_utf8_come_through(few_digits, tiny, tmp_path):
    odd = os.fsdecode(b"caf\xe9.png")
    images = replace(few_digits, names=[odd, *few_digits.names[1:]], skipped=[Skipped(odd, "broken")])
    folder = RunFolder(tmp_path / "run")
    runs.fit(tiny, images, folder)
    assert b"caf\xe9.png," in folder.assignments.read_bytes()
    assert b"caf\xe9.png," in folder.skipped.read_bytes()
    assert runs.evaluate(folder)["n"] == 400


def test_recipes_that_do_not_fit_the_images_are_refused(few_digits, tiny):
    with pytest.raises(InputError, match="clusters=401 is more than the 400 images"):
        runs.fit(tiny.model_copy(update={"clusters": 401}), few_digits)
    with pytest.raises(InputError, match="add --clusters K"):
        runs.fit(tiny.model_copy(update={"clusters": None}), few_digits)
    eight = ImageSet(few_digits.images[:8], few_digits.names[:8], few_digits.labels[:8])
    with pytest.raises(InputError, match=r"group.neighbourhood.k1=10 should be at most train.batch_size=8"):
        runs.fit(tiny.model_copy(update={"clusters": 3}), eight)
    with pytest.raises(InputError, match="device 'tpu' is not available; this machine has: auto, cpu"):
        runs.fit(tiny, few_digits, device="tpu")


def test_folders_that_are_taken_are_refused(finished, few_digits, tiny, tmp_path):
    folder, _ = finished
    with pytest.raises(InputError, match="holds a run already; add --resume"):
        runs.fit(tiny, few_digits, folder)
    with pytest.raises(InputError, match=r"another recipe; omit what changes it(.|\n)*  - seed: 0\n  \+ seed: 1"):
        runs.fit(tiny.model_copy(update={"seed": 1}), few_digits, folder, resume=True)
    with pytest.raises(InputError, match="holds no run to resume"):
        runs.fit(tiny, few_digits, RunFolder(tmp_path / "none"), resume=True)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").touch()
    with pytest.raises(InputError, match="not empty and holds no run"):
        runs.fit(tiny, few_digits, RunFolder(tmp_path / "letters"))
    with pytest.raises(InputError, match="is a file"):
        runs.fit(tiny, few_digits, RunFolder(tmp_path / "letters" / "dear.txt"))


def test_broken_checkpoints_are_refused_by_name(finished, few_digits, tiny, tmp_path):
    whole, _ = finished
    cut = RunFolder(tmp_path / "cut")
    shutil.copytree(whole.path, cut.path)
    last = checkpoint.checkpoints(cut.checkpoints)[-1]
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"epoch-00005.safetensors cannot be read: .*; remove it"):
        runs.fit(tiny, few_digits, cut, resume=True)
    save_file({"a": torch.zeros(1)}, last)
    with pytest.raises(InputError, match="has format None, should be connr-checkpoint-3"):
        runs.fit(tiny, few_digits, cut, resume=True)
    wider = recipe.check({**tiny.model_dump(), "backbone": {"name": "small", "width": 16}})
    with pytest.raises(InputError, match="is of another network"):
        runs.fit(wider, few_digits, start_from=checkpoint.after(whole.checkpoints, 3))


def test_a_run_goes_on_with_the_same_images_only(finished, few_digits, tiny, tmp_path):
    """Also when only their order changed; labels do not matter."""
    whole, fitted = finished
    fewer = ImageSet(few_digits.images[:300], few_digits.names[:300], few_digits.labels[:300])
    swapped = replace(few_digits, images=few_digits.images.flip(0))
    renamed = replace(few_digits, names=["x", *few_digits.names[1:]])
    for other in (fewer, swapped, renamed):
        with pytest.raises(InputError, match="is of a run on other images"):
            runs.fit(tiny, other, whole, resume=True)
    assert runs.evaluate(whole) == metrics.scores(few_digits.labels, fitted.assigned.clusters)
    shutil.copytree(whole.path, tmp_path / "copy")
    unlabelled = replace(few_digits, labels=torch.full((400,), -1))
    assert torch.equal(
        runs.fit(tiny, unlabelled, RunFolder(tmp_path / "copy"), resume=True).assigned.clusters, fitted.assigned.clusters
    )


def test_a_diverging_run_stops_and_says_so(few_digits, tiny):
    r = recipe.check({**tiny.model_dump(), "train": {**tiny.train.model_dump(), "base_lr": 1e6}})
    said = r"the loss became .* in step \d of epoch \d; try a lower learning rate than train.base_lr=1e\+06"
    with pytest.raises(Diverged, match=said):
        runs.fit(r, few_digits)


def test_broken_models_are_refused(finished, tmp_path):
    whole, _ = finished
    with pytest.raises(InputError, match="holds no run"):
        runs.load_model(RunFolder(tmp_path))
    broken = RunFolder(tmp_path / "broken")
    shutil.copytree(whole.path, broken.path)
    tensors = load_file(broken.model)
    save_file({name: value for name, value in tensors.items() if name != "assigner.centroids"}, broken.model)
    with pytest.raises(InputError, match="cannot be read"):
        runs.load_model(broken)
    broken.config.write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        runs.load_model(broken)
    broken.config.unlink()
    with pytest.raises(InputError, match="unfinished run; finish it with --resume"):
        runs.load_model(broken)


def test_the_callers_generators_are_left_alone(few_digits, tiny):
    before = torch.get_rng_state()
    runs.fit(tiny, few_digits)
    assert torch.equal(before, torch.get_rng_state())


def test_mixed_precision_keeps_neighbours_and_losses_in_single(few_digits, tiny):
    r = recipe.check({**tiny.model_dump(), "train": {**tiny.train.model_dump(), "precision": "bf16-mixed"}})
    fitted = runs.fit(r, few_digits)
    assert fitted.model.assigner.centroids.dtype == torch.float32
    assert fitted.history[-1]["loss"] < fitted.history[0]["loss"] - 0.2


def test_the_listener_hears_every_step_and_an_estimate(few_digits, tiny):
    class Ears(Callback):
        steps, estimates, epochs = 0, [], []

        def on_step_end(self):
            self.steps += 1

        def on_time_estimate(self, seconds):
            self.estimates.append(seconds)

        def on_epoch_end(self, record):
            self.epochs.append(record["epoch"])

    ears = Ears()
    runs.fit(tiny, few_digits, callback=ears)
    assert ears.steps == 5 * (400 // 64)
    assert ears.epochs == [1, 2, 3, 4, 5]
    assert len(ears.estimates) == 1
    assert ears.estimates[0] > 0


OF_CONNR = [name for name in recipe.names() if recipe.load(name).method.name == "connr"]


@pytest.mark.parametrize("name", [name for name in recipe.names() if name not in OF_CONNR])
def test_each_recipe_of_another_method_has_its_phases(name):
    """The methods themselves train in tests/methods; here nothing is built at full width."""
    r = recipe.load(name, clusters=3)
    segments = Timeline(experiment.phases_of(r), r.train.epochs, 60_000, r.train.batch_size).segments
    assert segments[0].first_epoch == 0
    assert segments[-1].end_epoch == r.train.epochs
    assert all(0 < segment.batch_size <= 60_000 for segment in segments)


@pytest.mark.slow  # all together
@pytest.mark.parametrize("name", OF_CONNR)
def test_each_recipe_takes_a_step_of_both_stages_on_images_of_its_size(name):
    """At full width and batch; only the number of images and epochs is small."""
    written = recipe.load(name)
    b = max(16, getattr(written.method.group.neighbourhood, "k1", 1))
    alone = written.method.start == 1
    settings = ["train.epochs=2", f"method.start={1.0 if alone else 0.5}", f"train.batch_size={b}", "kmeans.restarts=1"]
    if name == "pretrained":
        settings += ["backbone.weights=random", "backbone.model=torchvision:resnet18", "data.size=32"]
    r = recipe.load(name, settings, clusters=3)
    shape = (b, 12) if r.takes_features else (b, r.data.channels, r.data.size, r.data.size)
    generator = torch.Generator().manual_seed(0)
    if r.takes_features:
        pixels = torch.randn(shape, generator=generator)
    else:
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    made_up = ImageSet(pixels, [str(i) for i in range(b)], torch.full((b,), -1))
    history = runs.fit(r, made_up).history
    assert [record["stage"] for record in history] == ["instance", "instance" if alone else "group"]
    assert all(torch.tensor(record["loss"]).isfinite() for record in history)


def test_weights_depend_on_the_seed_alone(tiny):
    torch.manual_seed(1)
    one = experiment.build(tiny).state_dict()
    torch.manual_seed(2)
    two = experiment.build(tiny).state_dict()
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_the_plan_is_the_recipes_numbers():
    """What the loop is given for CIFAR-10, against the table of training decisions."""
    r = recipe.load("cifar10")
    plan = experiment.plan_for(r, [0.5] * 3, [0.2] * 3)
    method = experiment.build(r)
    instance, group = Timeline(method.phases(), plan.epochs, 60_000, plan.batch_size).segments
    assert (plan.epochs, plan.warmup_epochs, method.base.momenta) == (1000, 50, (0.996, 1.0))
    assert (instance.phase.name, instance.first_epoch, instance.end_epoch) == ("instance", 0, 800)
    assert (group.phase.name, group.first_epoch, group.end_epoch) == ("group", 800, 1000)
    makers = [[plan.views(view) for view in segment.phase.views.values()] for segment in (instance, group)]
    assert [[maker.crop_scale for maker in each] for each in makers] == [[(0.08, 1.0)] * 2, [(0.45, 1.0)] * 2]
    assert {maker.jitter for each in makers for maker in each} == {(0.4, 0.4, 0.4, 0.1)}
    assert (instance.phase.needs.clusters, group.phase.needs.clusters) == (False, True)
    assert method.features() is method.base.target
    optimizer = optimizers.optimizer_for(method, plan.optimizer, plan.depths)
    assert [group["role"] for group in optimizer.param_groups] == ["encoder", "predictor"]
    assert all((group["momentum"], group["weight_decay"]) == (0.9, 5e-4) for group in optimizer.param_groups)


def test_the_optimiser_is_given_each_stages_rates(few_digits, tiny, monkeypatch):
    """lr = base_lr x batch / 256 x schedule x the factor of stage and role, at every step."""
    stages = {
        "instance": {"lr_factors": {"encoder": 1, "predictor": 10}},
        "group": {"lr_factors": {"encoder": 0.1, "predictor": 0.2}},
    }
    r = recipe.check(recipe.reading.merged(tiny.model_dump(), {"method": stages}))
    seen = []
    step = torch.optim.SGD.step
    monkeypatch.setattr(
        torch.optim.SGD,
        "step",
        lambda self, *a, **k: (seen.append([g["lr"] for g in self.param_groups]), step(self, *a, **k))[1],
    )
    history = runs.fit(r, few_digits).history
    assert len(seen) == 5 * 6
    warmup, base = round(0.05 * 5 * 6), 0.8 * 64 / 256
    for at, (encoder, predictor) in enumerate(seen):
        schedule = (at + 1) / warmup if at < warmup else 0.5 * (1 + math.cos(math.pi * (at - warmup) / (30 - warmup)))
        factors = (1, 10) if at < 18 else (0.1, 0.2)
        assert (encoder, predictor) == pytest.approx((base * schedule * factors[0], base * schedule * factors[1]))
    assert history[-1]["lr"] == pytest.approx(seen[-1][0] / 0.1)


def test_views_are_written_over_those_of_the_step_before(few_digits, tiny, monkeypatch):
    seen, update = [], loop.update

    def watched(method, optimizer, batch, *others, **named):
        views = list(batch.views.values())
        seen.append(tuple(view.data_ptr() for view in views))
        assert not torch.equal(*views)
        return update(method, optimizer, batch, *others, **named)

    monkeypatch.setattr(loop, "update", watched)
    runs.fit(tiny, few_digits)
    assert len(seen) == 5 * 6
    assert len(set(seen[: 3 * 6])) == len(set(seen[3 * 6 :])) == 1  # within a phase


@pytest.mark.parametrize("name", ["simsiam", "moco"])
def test_every_base_method_resumes_to_the_same_place(few_digits, tiny, tmp_path, name):
    small = {"simsiam": {"hidden": 32, "out": 16, "bottleneck": 8}, "moco": {"hidden": 32, "out": 16, "queue": 256}}[name]
    r = recipe.check({**tiny.model_dump(), "method": {**tiny.method.model_dump(), "base": {"name": name, **small}}})
    folder = RunFolder(tmp_path / "run")
    whole = runs.fit(r, few_digits, folder)
    for path in checkpoint.checkpoints(folder.checkpoints)[2:]:
        path.unlink()
    assert same_weights(whole, runs.fit(r, few_digits, folder, resume=True))
