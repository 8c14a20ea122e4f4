"""The command `connr reproduce`: makes a table or a figure."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from connr import experiment
from connr.data import ImageSet, open_for
from connr.data.huggingface import HUB
from connr.data.named import NAMED, ROOT, dataset_name
from connr.engine import Callback
from connr.errors import InputError
from connr.recipe import Recipe
from connr.reproduce import figures, speed, summary
from connr.reproduce.plan import SPEED, Cell, stage_1_of
from connr.reproduce.runner import Cost, measure, reproduce
from connr.reproduce.tables import TABLES
from connr.run_folder import write_bytes, write_text

CallbackFactory = Callable[[Cell], AbstractContextManager[Callback]]


def time_steps(command: str, recipes: dict[str, Recipe], rounds: int, out: Path, into: Path | None, device: str) -> str:
    """Table 3, for the recipes of `plan.speed_recipes`; needs no images."""
    measured = {}
    for name, r in recipes.items():
        measured[name] = speed.compare(r, rounds, experiment.fabric_for(r, device).device)
    where = summary.machine()
    section = speed.markdown(measured, command, f"torch {where['torch']}, {where['gpu'] or where['processor']}")
    place = out / SPEED
    place.mkdir(parents=True, exist_ok=True)
    write_text(place / "results.json", json.dumps({"rows": measured, "machine": where, "command": command}, indent=2) + "\n")
    write_text(place / "results.md", section)
    if into:
        summary.put(section, into)
    return section


def costs(todo: list[Cell]) -> Iterator[tuple[Cell, Cost]]:
    """The cost of each row in seconds per seed. Rows with the same stage 1 are measured once.

    Raises:
        InputError: a recipe does not say how many images its data set has.
    """
    known: dict[tuple[str, str], Cost] = {}
    for cell in (cell for cell in todo if cell.seed == 0):
        key = cell.data_set, stage_1_of(cell.recipe)
        if key not in known:
            known[key] = measure(cell)
        yield cell, known[key]


def open_all(todo: list[Cell], data: str | None) -> dict[str, ImageSet]:
    """The labelled images of every data set.

    Raises:
        InputError: they are not at hand, or have no labels.
    """
    images = {}
    for cell in {cell.data_set: cell for cell in todo}.values():
        name = cell.data_set
        if data is None and not (name == "digits" or (name in NAMED and ROOT in os.environ)):
            raise InputError(f"the images of {name} are needed: add --recipe {name} --data FOLDER or FILE.npz, or set {ROOT}.")
        images[name] = open_for(cell.recipe, data or name, labels_from_folders=cell.recipe.data.labels_from_folders)
        if not images[name].labelled:
            raise InputError(f"{data} has no labels: tables and figures need scores.")
    return images


def without_its_place(data: str) -> str:
    """DATA for publication: a name, or a file name without its folder."""
    return data if data.startswith(HUB) else dataset_name(data) or Path(data).name


def carry_out(
    what: str,
    command: str,
    todo: list[Cell],
    images: dict[str, ImageSet],
    out: Path,
    into: Path | None,
    device: str,
    callback: CallbackFactory,
    devices: int = 1,
) -> str:
    """Runs the missing cells, writes results, and returns them as Markdown.

    Args:
        what: the table or figure.
        command: the command line, which is recorded.
        todo, images: from `plan` and `open_all`.
        out: results go to out/what.
        into: a Markdown document into which the section is also written.
        device, ears, devices: of the runs.
    """
    found = reproduce(todo, images, device, callback, devices)
    place = out / what
    place.mkdir(parents=True, exist_ok=True)
    if what in TABLES:
        result = summary.summarise(what, found)
        summary.write(result, command, place)
        section = summary.markdown(result, command)
        if what == "figure3":
            figures.figure3(result, todo, place)
    else:
        section = _draw(what, command, todo, images, place)
    picture = place / f"{what}.png"
    if into:
        baselines = into.parent / f"{what}-{todo[0].data_set}.png"
        if picture.is_file():
            write_bytes(baselines, picture.read_bytes())
        summary.put(section + (f"\n![{what}, {todo[0].data_set}]({baselines.name})\n" if picture.is_file() else ""), into)
    return section + (f"\nPicture: {picture}\n" if picture.is_file() else "")


def _draw(what: str, command: str, todo: list[Cell], images: dict[str, ImageSet], place: Path) -> str:
    name, pictured = todo[0].data_set, images[todo[0].data_set]
    moments = [figures.end_of_stage_1(cell, pictured) for cell in (todo if what == "figure2" else todo[:1])]
    lines = [f"## {what.capitalize()}: {name}", "", f"`{command}`", ""]
    if what == "figure2":
        curves = figures.figure2(moments, pictured.labels, place)
        write_text(place / "figure2.json", json.dumps({"purity": curves, "machine": summary.machine()}, indent=2) + "\n")
        sizes = list(next(iter(curves.values())))
        lines += [f"| purity in % of the k nearest | {' | '.join(f'k = {k}' for k in sizes)} |", "|---|" + "---|" * len(sizes)]
        lines += [
            f"| {kind} | " + " | ".join(f"{m:.1f} ± {s:.1f}" for m, s in v.values()) + " |" for kind, v in curves.items()
        ]
        lines += ["", f"At the end of stage 1, {len(moments)} seeds, in batches of {todo[0].recipe.train.batch_size}.", ""]
    elif what == "figure4":
        figures.figure4(moments[0], pictured.labels, place)
        lines += [
            "t-SNE of the features at the end of stage 1, coloured by label; images near a cluster boundary as small dots.",
            "",
        ]
    else:
        figures.figure5(moments[0], pictured, place)
        lines += [
            "Anchors where the two differ most: wrong ones red, right ones that only the contextual (k1 = 10) finds green.",
            "",
        ]
    return "\n".join(lines)
