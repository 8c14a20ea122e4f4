"""MoCo v2 alone on the digits: temperature and epochs tuned on seeds 100-103; then, with and without ConNR, on seeds 0-4.

python benchmarks/moco_digits.py [--seeds 5] [--out FOLDER] [--picture FILE.png] [--show]

Every run is kept in --out. A run that is finished is not trained again, one that was interrupted is resumed. Tuning is by
successive halving: all 8 settings run on seed 100, the better 4 on 101, the better 2 of these on 102 and 103, and of those the
one with the higher mean ACC at the end is taken. Labels choose it, as they chose the other numbers of the recipe `digits`.
"""

import argparse
import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from connr import recipe, runs
from connr.data import ImageSet, open_images
from connr.engine import checkpoint
from connr.reproduce.steps import first_group_epoch
from connr.reproduce.tables import ALL, ALONE, ITSELF, Row
from connr.run_folder import RunFolder

TEMPERATURES = (0.1, 0.2, 0.5, 1.0)
EPOCHS = (60, 110)
TUNING = range(100, 104)
ROUNDS = ((100,), (101,), (102, 103))  # after each the better half goes on
KINDS = {
    "alone": Row("MoCo v2", ALONE),
    "control": Row("MoCo v2, stage 2's learning rates", ITSELF + ALL),  # as the control row of Table 2
    "connr": Row("MoCo v2 + ConNR"),
}


class Setting(NamedTuple):
    """A temperature, a number of epochs, and a row of `KINDS`: what is trained in the last part of them."""

    temperature: float
    epochs: int
    kind: str = "alone"

    def __str__(self) -> str:
        return f"{KINDS[self.kind].name}, τ = {self.temperature}, {self.epochs} epochs"

    def folder(self, out: Path, seed: int) -> RunFolder:
        return RunFolder(out / f"{self.kind}-{self.temperature}-{self.epochs}" / f"seed-{seed}")

    def whole(self, out: Path, seed: int) -> RunFolder:
        """The run with ConNR of the same setting, which has the same stage 1."""
        return self._replace(kind="connr").folder(out, seed)

    def train(self, images: ImageSet, out: Path, seed: int) -> None:
        """Trains one seed, unless it is done; from the end of stage 1 of the run with ConNR, where that is there."""
        folder = self.folder(out, seed)
        if folder.assignments.is_file():
            return
        settings = [f"method.base.temperature={self.temperature}", f"train.epochs={self.epochs}"]
        whole = recipe.load("digits-moco-connr", settings, seed=seed)
        r = recipe.load(whole, KINDS[self.kind].settings)
        end_of_stage_1 = checkpoint.after(self.whole(out, seed).checkpoints, first_group_epoch(whole))
        start = end_of_stage_1 if self.kind != "connr" and end_of_stage_1.is_file() else None
        runs.fit(r, images, folder, resume=folder.holds_a_run(), start_from=start, device="cpu")
        print(f"{self}, seed {seed}: ACC {100 * runs.evaluate(folder)['acc']:.1f}", flush=True)

    def scores(self, out: Path, seeds: Iterable[int], measure: str = "acc") -> list[float]:
        """The final score in percent of every seed that is done."""
        done = [self.folder(out, seed) for seed in seeds if self.folder(out, seed).assignments.is_file()]
        return [100 * runs.evaluate(folder)[measure] for folder in done]

    def curve(self, out: Path, seeds: Iterable[int]) -> dict[int, list[float]]:
        """ACC in percent by epoch, of every seed that is done."""
        found: dict[int, list[float]] = {}
        for seed in seeds:
            folder = self.folder(out, seed)
            records = runs.history(folder) if folder.assignments.is_file() else []
            if records and records[0]["epoch"] > 1:
                shared = runs.history(self.whole(out, seed))
                records = [record for record in shared if record["epoch"] < records[0]["epoch"]] + records
            for record in records:
                if "acc" in record:
                    found.setdefault(record["epoch"], []).append(100 * record["acc"])
        return found


EVERY = recipe.load("digits").train.evaluate_every  # epochs between two scores of stage 1
UNTUNED = Setting(0.1, 110)  # MoCo v2 as the recipe had it before
GRID = [Setting(temperature, epochs) for temperature in TEMPERATURES for epochs in EPOCHS]


def tune(images: ImageSet, out: Path) -> Setting:
    """The setting with the highest mean ACC over the tuning seeds, by successive halving."""
    left, seen = GRID, list[int]()
    for number, seeds in enumerate(ROUNDS):
        left = left[: len(GRID) // 2**number]
        seen += seeds
        for seed in seeds:
            for setting in left:
                setting.train(images, out, seed)
        left = sorted(left, key=lambda setting: statistics.mean(setting.scores(out, seen)), reverse=True)
    return left[0]


def mean_and_std(values: list[float]) -> str:
    if not values:
        return "not run"
    return f"{statistics.mean(values):.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")


def grid_table(out: Path) -> Iterator[str]:
    """ACC of every setting over the tuning seeds, at the end and at its highest epoch."""
    yield f"| MoCo v2 alone, seeds {TUNING[0]}-{TUNING[-1]} | seeds | ACC at the end | highest mean ACC of an epoch |"
    yield "|---|---|---|---|"
    for setting in GRID:
        scores, curve = setting.scores(out, TUNING), setting.curve(out, TUNING)
        means = {epoch: statistics.mean(values) for epoch, values in curve.items()}
        top = max(means, key=means.__getitem__, default=None)
        highest = f"{means[top]:.1f} at epoch {top}" if top else "—"
        yield f"| τ = {setting.temperature}, {setting.epochs} epochs | {len(scores)} | {mean_and_std(scores)} | {highest} |"


def result_table(out: Path, settings: list[Setting], seeds: range) -> Iterator[str]:
    yield f"| seeds {seeds[0]}-{seeds[-1]} | seeds | ACC | NMI | ARI |"
    yield "|---|---|---|---|---|"
    for setting in settings:
        columns = [setting.scores(out, seeds, measure) for measure in ("acc", "nmi", "ari")]
        yield f"| {setting} | {len(columns[0])} | {' | '.join(map(mean_and_std, columns))} |"


def curve_table(out: Path, settings: list[Setting], seeds: range) -> Iterator[str]:
    curves = [setting.curve(out, seeds) for setting in settings]
    epochs = sorted({epoch for curve in curves for epoch in curve if epoch % EVERY == 0})
    yield f"| ACC by epoch, seeds {seeds[0]}-{seeds[-1]} | {' | '.join(map(str, epochs))} |"
    yield "|---|" + "---|" * len(epochs)
    for setting, curve in zip(settings, curves, strict=True):
        yield f"| {setting} | {' | '.join(mean_and_std(curve[epoch]) if epoch in curve else '' for epoch in epochs)} |"


def draw(out: Path, settings: list[Setting], seeds: range, picture: Path) -> None:
    """ACC by epoch, a line a setting with its mean ± std over seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), dpi=110, layout="constrained")
    axes = figure.subplots()
    for setting, colour in zip(settings, ("#4477aa", "#ee6677", "#ccbb44", "#aa3377"), strict=False):
        curve = {epoch: values for epoch, values in setting.curve(out, seeds).items() if epoch % EVERY == 0}
        mean = [statistics.mean(values) for values in curve.values()]
        std = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in curve.values()]
        axes.errorbar(list(curve), mean, yerr=std, marker=".", capsize=2, color=colour, label=str(setting))
    axes.set(xlabel="epoch", ylabel="ACC in %")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    figure.savefig(picture)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, default=Path("runs/moco-digits"))
    options.add_argument("--seeds", type=int, default=5, help="of the evaluation, from 0")
    options.add_argument("--show", action="store_true", help="print what is done; after the tuning nothing is trained")
    options.add_argument("--picture", type=Path)
    return options


def main() -> None:
    arguments = parser().parse_args()
    images = open_images("digits", size=8, channels=1)
    out = arguments.out
    tuned, seeds = tune(images, out), range(arguments.seeds)
    shown = [UNTUNED, tuned, tuned._replace(kind="control"), tuned._replace(kind="connr")]
    for setting in () if arguments.show else reversed(shown):  # the whole first, as its stage 1 is that of the others
        for seed in seeds:
            setting.train(images, out, seed)
    print("\n".join(["", *grid_table(out), "", *result_table(out, shown, seeds), "", *curve_table(out, shown, seeds)]))
    if arguments.picture:
        draw(out, shown, seeds, arguments.picture)


if __name__ == "__main__":
    main()
