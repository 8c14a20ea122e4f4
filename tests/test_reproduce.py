import json
import shlex

import pytest
import torch
from conftest import TINY
from PIL import Image
from test_docs_run import read_by_typer

from connr import recipe
from connr.errors import InputError
from connr.reproduce import TABLES, cells, command, dry_run, figures, reproduce, runner, speed, summary
from connr.training import Listener


class Ears(Listener):
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def _small(tmp_path, monkeypatch):
    """A data set `small`, whose recipe is the digits' at a size for tests."""
    path = tmp_path / "small.yaml"
    path.write_text(recipe.load("digits", TINY).to_yaml())
    monkeypatch.setattr(runner, "recipe_of", lambda data_set, row, seed: small_recipe(path, row, seed))


@pytest.fixture
def small_table(_small, tmp_path):
    return list(cells("table2", ("small",), 2, tmp_path / "out"))


def small_recipe(path, row, seed):
    return recipe.load(str(path), [setting.format(k=5, fraction=0.8) for setting in row.settings], seed=seed)


def test_a_table_runs_once_resumes_and_shares_stage_1(small_table, few_digits, tmp_path):
    trained = []

    def listener(cell):
        trained.append((cell.row.name, cell.seed))
        return Ears()

    first = reproduce(small_table[:7], {"small": few_digits}, "cpu", listener)
    assert len(trained) == 7
    small_table[3].folder.assignments.unlink()  # as if it had been interrupted
    again = reproduce(small_table, {"small": few_digits}, "cpu", listener)
    assert trained[7:] == [(small_table[3].row.name, 0)] + [(cell.row.name, 1) for cell in small_table[7:]]
    for key, seeds in first.items():
        assert again[key][0] == pytest.approx(seeds[0])
    stages = [[json.loads(line)["epoch"] for line in cell.folder.events.read_text().splitlines()] for cell in small_table[7:]]
    assert stages[0] == [1, 2, 3, 4, 5]
    assert stages[1:] == [[4, 5]] * 6

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
    [("-byol", 0), ("-ln", 1), ("-cnaffn", 2), ("-ln-obd", 3), ("-ln-obd-pr", 4), ("-cnaffn-obd", 5), ("", 6)],
)
def test_the_rows_of_table_2_are_the_recipes_of_their_names(ending, row):
    written, made = recipe.load(f"cifar10{ending}"), runner.recipe_of("cifar10", TABLES["table2"].rows[row], 0)
    assert made.model_copy(update={"description": ""}) == written.model_copy(update={"description": ""})


@pytest.mark.parametrize("table", ["table1", "table2", "table4", "table5"])
def test_every_row_at_full_size_has_a_recipe_and_a_paper_score(table, tmp_path):
    todo = list(cells(table, TABLES[table].data_sets, 1, tmp_path))
    assert len(todo) == len(TABLES[table].rows) * len(TABLES[table].data_sets)
    assert len({cell.folder.path for cell in todo}) == len(todo)
    for cell in todo:
        assert cell.recipe.data.images
        assert cell.row.paper[cell.data_set]
        by_hand = read_by_typer(shlex.split(cell.command)[1:]).params
        assert recipe.load(by_hand["recipe"], by_hand["settings"] or [], seed=by_hand["seed"]) == cell.recipe


def test_the_cost_of_a_row_is_counted(tmp_path):
    cell = next(cells("table2", ("cifar10",), 1, tmp_path))
    guess = dry_run(cell, timed=False)
    assert (guess.images, guess.steps, guess.hours_here) == (60000, 234_000, None)
    # ResNet-18 with the small-image stem: 0.56 G multiply-adds an image; 2 views forward and back, 2 by the target
    operations = guess.hours_gpu * 3600 * runner.GPU_FLOPS / guess.steps / 256
    assert operations == pytest.approx(2 * 0.557e9 * (2 * 3 + 2), rel=0.05)
    bare = cell._replace(recipe=recipe.load("photos", clusters=3))
    with pytest.raises(InputError, match=r"set data\.images"):
        dry_run(bare, timed=False)


@pytest.mark.parametrize("what", ["figure2", "figure3", "figure4", "figure5"])
@pytest.mark.usefixtures("_small")
def test_figures_are_drawn_and_described(few_digits, tmp_path, what):
    todo = command.plan(what, "small", 2, tmp_path)
    section = command.carry_out(
        what, f"connr reproduce {what}", todo, {"small": few_digits}, tmp_path, None, "cpu", lambda _: Ears()
    )
    assert section.startswith(f"## {what.capitalize()}")
    with Image.open(tmp_path / what / f"{what}.png") as picture:
        assert picture.size[0] > 500
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
        command.plan("table9", None, 1, tmp_path)
    with pytest.raises(InputError, match=r"the images of cifar10 are needed: add --recipe cifar10 --data"):
        command.open_all(command.plan("table2", None, 1, tmp_path), None)
    with pytest.raises(InputError, match="'nothing-moco-connr' is neither"):
        command.plan("table4", "nothing", 1, tmp_path)


@pytest.mark.parametrize(
    ("data", "shown"),
    [("/a/b/x.npz", "x.npz"), ("cifar10:/a/b", "cifar10"), ("hf:a/b:train", "hf:a/b:train"), ("c/photos/", "photos")],
)
def test_a_page_names_the_data_without_their_place(data, shown):
    assert command.without_its_place(data) == shown
