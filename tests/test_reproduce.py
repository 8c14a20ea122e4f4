import json
import shlex
import shutil

import pytest
import torch
from conftest import TINY
from PIL import Image
from test_docs_run import read_by_typer
from typer.testing import CliRunner

from connr import experiment, recipe, runs
from connr.cli import app
from connr.data import open_images
from connr.engine import Callback
from connr.errors import InputError
from connr.reproduce import TABLES, cells, command, count, figures, plan, runner, speed, summary
from connr.reproduce.runner import measure, reproduce
from connr.reproduce.steps import first_group_epoch
from connr.reproduce.tables import CONTROL, WHOLE
from connr.run_folder import RunFolder


class Ears(Callback):
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def _small(tmp_path, monkeypatch):
    """A data set `small`, whose recipe is the digits' at a size for tests."""
    path = tmp_path / "small.yaml"
    path.write_text(recipe.load("digits", TINY).to_yaml())
    monkeypatch.setattr(plan, "recipe_of", lambda data_set, row, seed, settings: small_recipe(path, row, seed, settings))


@pytest.fixture
def small_table(_small, tmp_path):
    return list(cells("table2", ("small",), 2, tmp_path / "out"))


def small_recipe(path, row, seed, settings=()):
    return recipe.load(str(path), [*settings, *(setting.format(k=5, fraction=0.8) for setting in row.settings)], seed=seed)


def test_a_table_runs_once_resumes_and_shares_stage_1(small_table, few_digits, tmp_path):
    trained = []

    def listener(cell):
        trained.append((cell.row.name, cell.seed))
        return Ears()

    first = reproduce(small_table[:8], {"small": few_digits}, "cpu", listener)
    assert len(trained) == 8
    small_table[3].folder.assignments.unlink()  # as if it had been interrupted
    again = reproduce(small_table, {"small": few_digits}, "cpu", listener)
    assert trained[8:] == [(small_table[3].row.name, 0)] + [(cell.row.name, 1) for cell in small_table[8:]]
    for key, seeds in first.items():
        assert again[key][0] == pytest.approx(seeds[0])
    stages = [[json.loads(line)["epoch"] for line in cell.folder.events.read_text().splitlines()] for cell in small_table[8:]]
    assert stages[0] == [1, 2, 3, 4, 5]
    assert stages[1:] == [[4, 5]] * 7

    result = summary.summarise("table2", again)
    assert [row["row"] for row in result["rows"]] == [row.name for row in TABLES["table2"].rows]
    assert all(row["seeds"] == 2 and row["acc"]["std"] is not None for row in result["rows"])
    summary.write(result, "connr reproduce table2", tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())["machine"]["torch"]
    document = tmp_path / "all.md"
    for _ in range(2):  # a section is replaced, not doubled
        summary.put(summary.markdown(result, "connr reproduce table2"), document)
        summary.put("## Another\n\ntext\n", document)
    assert document.read_text().count("## Table2") == document.read_text().count("## Another") == 1
    assert "| small (400) | CnAffN + OBD + PR | 2 |" in document.read_text()


@pytest.mark.parametrize(
    ("ending", "row"),
    [("-byol", 0), ("-ln", 2), ("-cnaffn", 3), ("-ln-obd", 4), ("-ln-obd-pr", 5), ("-cnaffn-obd", 6), ("", 7)],
)
def test_the_rows_of_table_2_are_the_recipes_of_their_names(ending, row):
    written, built = recipe.load(f"cifar10{ending}"), plan.recipe_of("cifar10", TABLES["table2"].rows[row], 0)
    assert built.model_copy(update={"description": ""}) == written.model_copy(update={"description": ""})


@pytest.mark.parametrize("table", ["table1", "table2", "table4", "table5"])
def test_every_row_at_full_size_has_a_recipe_and_a_paper_score(table, tmp_path):
    todo = list(cells(table, TABLES[table].data_sets, 1, tmp_path))
    assert len(todo) == len(TABLES[table].rows) * len(TABLES[table].data_sets)
    assert len({cell.folder.path for cell in todo}) == len(todo)
    for cell in todo:
        assert cell.recipe.data.images
        assert cell.row.name == CONTROL or TABLES[table].paper[cell.row.name][cell.data_set]
        by_hand = read_by_typer(shlex.split(cell.command)[1:]).params
        assert recipe.load(by_hand["recipe"], by_hand["settings"] or [], seed=by_hand["seed"]) == cell.recipe


def test_the_cost_of_a_row_is_counted_and_measured(tmp_path):
    cell = next(cells("table2", ("cifar10",), 1, tmp_path))
    assert count(cell) == (60000, 234_000)
    # ResNet-18 with the small-image stem: 0.56 G multiply-adds an image; 2 views forward and back, 2 by the target
    cost = measure(cell, batch=2)
    assert cost.gpu * runner.GPU_FLOPS / 234_000 / 256 == pytest.approx(2 * 0.557e9 * (2 * 3 + 2), rel=0.05)
    assert cost.here > 0
    bare = cell._replace(recipe=recipe.load("photos", clusters=3))
    with pytest.raises(InputError, match=r"set data\.images"):
        count(bare)


def test_a_dry_run_prints_commands_images_and_steps_and_runs_nothing(tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("a dry run built a network")

    monkeypatch.setattr(experiment, "build", refuse)
    settings = ["--set", "group.neighbourhood.k1=20", "--epochs", "10", "--seeds", "2"]
    shown = CliRunner().invoke(app, ["reproduce", "table1", "--dry-run", "--out", str(tmp_path / "out"), *settings])
    assert shown.exit_code == 0, shown.output
    for name, images in (("cifar10", 60_000), ("stl10", 113_000), ("imagenet-dogs", 19_500)):
        steps = images // 256 * 10
        for row in ("BYOL", "ConNR"):
            assert f"{name:14s} {row}: {images:,} images, {steps:,} steps a seed, 2 seeds" in shown.output
        laid = "--set group.neighbourhood.k1=20 --set train.epochs=10"
        assert f"connr fit DATA --recipe {name} {laid} --set method.start=1 --seed 0" in shown.output
    assert "not run here, the paper's numbers are printed: IIC, DCCM, PICA" in shown.output
    assert not (tmp_path / "out").exists()


def test_settings_reach_every_row_and_a_row_wins_over_them(tmp_path):
    laid = ("group.neighbourhood.k=7", "group.anchors.fraction=0.6", "train.group_from=0.5", "train.epochs=20")
    todo = {cell.row.name: cell for cell in cells("table2", ("digits",), 1, tmp_path, laid)}
    assert {cell.recipe.train.epochs for cell in todo.values()} == {20}
    assert first_group_epoch(todo["InC"].recipe) == 20
    assert first_group_epoch(todo["LN"].recipe) == 10
    assert todo["LN"].recipe.method.group.neighbourhood.k == 7
    assert todo["LN + OBD"].recipe.method.group.anchors.final == 0.6
    for cell in todo.values():
        by_hand = read_by_typer(shlex.split(cell.command)[1:]).params
        assert recipe.load(by_hand["recipe"], by_hand["settings"], seed=by_hand["seed"]) == cell.recipe


def test_runs_of_other_settings_are_not_taken_for_results(small_table, few_digits, tmp_path):
    reproduce(small_table[:1], {"small": few_digits}, "cpu", lambda _: Ears())
    other = list(cells("table2", ("small",), 1, tmp_path / "out", ("train.weight_decay=0.1",)))
    with pytest.raises(InputError, match=r"seed-0 holds a run of another recipe; give another --out(.|\n)*\+ .*0\.1"):
        reproduce(other, {"small": few_digits}, "cpu", lambda _: Ears())


def test_reproduce_shares_batches_between_processes(small_table, few_digits):
    one = small_table[:1]
    alone = reproduce(one, {"small": few_digits}, "cpu", lambda _: Ears())
    shutil.rmtree(one[0].folder.path)
    both = reproduce(one, {"small": few_digits}, "cpu", lambda _: Ears(), devices=2)
    assert both.keys() == alone.keys()
    assert [record["epoch"] for record in runs.history(one[0].folder)] == [1, 2, 3, 4, 5]


def test_the_control_of_table_2_differs_from_the_whole_method_in_neighbourhood_and_anchors_only(tmp_path):
    todo = {cell.row.name: cell.recipe for cell in cells("table2", ("cifar10",), 1, tmp_path)}
    control, whole, alone = todo[CONTROL], todo["CnAffN + OBD + PR"], todo["InC"]
    assert (control.method.group.neighbourhood.name, control.method.group.anchors.name) == ("itself", "all")
    same = {"neighbourhood": whole.method.group.neighbourhood, "anchors": whole.method.group.anchors}
    group = control.method.group.model_copy(update=same)
    assert control.model_copy(update={"method": control.method.model_copy(update={"group": group})}) == whole
    assert control.method.group.crop_scale == (0.45, 1)
    assert control.method.group.lr_factors.encoder == 0.1
    assert (first_group_epoch(control), first_group_epoch(alone)) == (800, 1000)


@pytest.mark.parametrize(("table", "rows"), [("table1", 15), ("table5", 8)])
def test_a_table_shows_every_row_of_the_paper(table, rows):
    data_set = TABLES[table].data_sets[0]
    scores = {"nmi": 0.5, "acc": 0.5, "ari": 0.5, "n": 100, "seconds": 1.0}
    result = summary.summarise(table, {(data_set, row.name): [scores, scores] for row in TABLES[table].rows})
    shown = [line for line in summary.markdown(result, "connr").splitlines() if line.startswith(f"| {data_set}")]
    assert len(shown) == rows == len(TABLES[table].paper)
    assert sum("not run here" in line for line in shown) == rows - 2
    assert json.dumps(result)
    if table == "table1":
        assert "| cifar10 | TCL | not run here | | | | 81.9 / 88.7 / 78.0 | |" in shown
        assert "| cifar10 (100) | ConNR | 2 | 50.0 ± 0.0 | 50.0 ± 0.0 | 50.0 ± 0.0 | 86.7 / 93.2 / 86.1 | 1 |" in shown
        on_20 = summary.markdown(summary.summarise(table, {("cifar20", "BYOL"): [scores]}), "connr")
        assert "| cifar20 | IIC | not run here | | | | — / 25.7 / — | |" in on_20
        assert "not run here" not in summary.markdown(summary.summarise(table, {("digits", "BYOL"): [scores]}), "connr")


def test_figures_are_made_on_the_data_sets_of_the_paper(tmp_path):
    made_on = {what: {cell.data_set for cell in plan.of(what, None, 1, tmp_path)} for what in plan.FIGURES}
    assert made_on == {"figure2": {"cifar10"}, "figure4": {"cifar10"}, "figure5": {"imagenet10"}}
    swept: dict[str, set[str]] = {}
    for cell in plan.of("figure3", None, 1, tmp_path):
        swept.setdefault(cell.data_set, set()).add(cell.row.name.split(" = ")[0])
    assert swept == {"cifar10": {"BYOL", WHOLE, "fr0"}, "imagenet-dogs": {"BYOL", WHOLE, "k1, k2"}}


@pytest.mark.parametrize("data_set", [None, "cifar10", "imagenet-dogs", "digits"])
def test_no_recipe_of_figure_3_is_trained_twice(tmp_path, data_set):
    todo = plan.of("figure3", data_set, 2, tmp_path)
    of_recipe: dict[tuple[str, str], set[str]] = {}
    for cell in todo:
        of_recipe.setdefault((cell.data_set, cell.recipe.to_yaml()), set()).add(str(cell.folder.path))
    assert all(len(folders) == 1 for folders in of_recipe.values())
    assert len(of_recipe) == len({str(cell.folder.path) for cell in todo})


@pytest.mark.parametrize("what", ["figure2", "figure3", "figure4", "figure5"])
@pytest.mark.usefixtures("_small")
def test_figures_are_drawn_and_described(few_digits, tmp_path, what):
    todo = plan.of(what, "small", 2, tmp_path, ("train.evaluate_every=5",))
    section = command.carry_out(
        what, f"connr reproduce {what}", todo, {"small": few_digits}, tmp_path, None, "cpu", lambda _: Ears()
    )
    assert section.startswith(f"## {what.capitalize()}")
    with Image.open(tmp_path / what / f"{what}.png") as picture:
        assert picture.size[0] > 500
    if what == "figure3":
        byol, connr = figures.curves(todo).values()
        assert byol.keys() == connr.keys() == {3, 5}  # epoch 4 has a score of stage 2 only
        assert all(len(scores) == 2 for curve in (byol, connr) for scores in curve.values())
        assert byol[3] == connr[3]  # stage 1 is shared
    if what == "figure2":
        curves = json.loads((tmp_path / what / "figure2.json").read_text())["purity"]
        assert set(curves) == set(figures.KINDS)
        assert all(0 < mean <= 100 for kind in curves.values() for mean, _ in kind.values())


def test_steps_are_timed_turn_about():
    r = recipe.load("digits", TINY)
    found = speed.compare(r, 6, torch.device("cpu"))
    assert len(found["ratios"]) == 6
    assert min(found["byol"], found["connr"], *found["ratios"]) > 0
    text = speed.markdown({"digits": found}, "connr reproduce table3", "here")
    assert "| digits | " in text


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="'table9' is not one of: figure2, figure3"):
        plan.of("table9", None, 1, tmp_path)
    with pytest.raises(InputError, match=r"the images of cifar10 are needed: add --recipe cifar10 --data"):
        command.open_all(plan.of("table2", None, 1, tmp_path), None)
    with pytest.raises(InputError, match="'nothing-moco-connr' is neither"):
        plan.of("table4", "nothing", 1, tmp_path)


@pytest.mark.parametrize("what", ["table1", "table4", "figure3"])
def test_one_data_for_several_data_sets_is_refused_before_it_is_read(tmp_path, what):
    refused = CliRunner().invoke(app, ["reproduce", what, "--data", str(tmp_path / "x.npz"), "--out", str(tmp_path / "out")])
    assert refused.exit_code == 2
    assert f"{what} is made on" in refused.output
    assert "say which with --recipe NAME" in refused.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_small")
def test_the_filter_of_the_figures_keeps_the_fraction_of_the_recipe(few_digits, tmp_path):
    todo = plan.of("figure4", "small", 1, tmp_path, ("group.anchors.fraction=0.5",))
    command.carry_out("figure4", "connr", todo, {"small": few_digits}, tmp_path, None, "cpu", lambda _: Ears())
    moment = figures.end_of_stage_1(todo[0], few_digits)
    assert figures.off_boundary(moment, torch.arange(100)).sum().item() == pytest.approx(50, abs=2)


@pytest.mark.parametrize(
    ("data", "shown"),
    [("/a/b/x.npz", "x.npz"), ("cifar10:/a/b", "cifar10"), ("hf:a/b:train", "hf:a/b:train"), ("c/photos/", "photos")],
)
def test_a_page_names_the_data_without_their_place(data, shown):
    assert command.without_its_place(data) == shown


@pytest.mark.slow
def test_moco_alone_on_the_digits_does_not_decline(tmp_path):
    """The baseline of table 4: at a temperature of 0.1 its accuracy falls from 0.96 at epoch 10 to 0.7 at the end."""
    r = recipe.load("digits-moco-connr", ["method.start=1"], seed=0)
    fitted = runs.fit(r, open_images("digits", 8, 1), RunFolder(tmp_path / "run"), device="cpu")
    curve = [record["acc"] for record in fitted.history if "acc" in record]
    assert len(curve) >= 5
    assert curve[-1] > 0.9
    assert curve[-1] > max(curve) - 0.05
