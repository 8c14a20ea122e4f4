"""All that a CPU can measure in a quarter of an hour, into docs/benchmarks.md and docs/benchmarks.json.

python benchmarks/all.py [--only NAME ...] [--quick] [--into docs]

Each benchmark is a script of its own beside this one, run in a process of its own; its peers run turn about with it. What was
run before and is not in --only stays in the page. --quick is for tests: sizes at which no figure means anything.
"""

import argparse
import importlib.metadata
import json
import math
import operator
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "faiss-cpu", "lightly", "kornia", "pillow")


class Target(NamedTuple):
    """A bound on a number, as `relation bound unit`: `≥ 5× scikit-learn`."""

    relation: str
    bound: float
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.relation} {self.bound:g}{self.unit}"

    def met(self, value: float) -> bool:
        return {"≥": operator.ge, "≤": operator.le, ">": operator.gt}[self.relation](value, self.bound)


class Line(NamedTuple):
    """A row of the page: a figure in words, and where there is a target, the number that it bounds.

    Attributes:
        what, figure: the first two columns.
        value, target: the number and its bound; both None where there is none.
        why: the reason, printed where the target is missed.
    """

    what: str
    figure: str
    value: float | None = None
    target: Target | None = None
    why: str = ""

    @property
    def met(self) -> bool | None:
        """Computed from value and target; None where there is no target."""
        return None if self.target is None or self.value is None else self.target.met(self.value)


class Benchmark(NamedTuple):
    """A script with the arguments of the page and of --quick, a title, what it compares, and how its JSON reads."""

    title: str
    about: str
    arguments: list[str]
    quick: list[str]
    lines: Callable[[Any], Iterator[Line]]


def spread(numbers: list[float], digits: int = 2) -> str:
    """Of all rounds, the least and the most."""
    return f"({min(numbers):.{digits}f}–{max(numbers):.{digits}f})"


def of_step(found: dict[str, Any]) -> Iterator[Line]:
    ratios, seconds = found["ratios"], found["seconds"]
    name = f"{found['network']}, batch {found['batch']}, {found['precision']}"
    yield Line(f"{name}: a ConNR step", f"{seconds['ConNR']:.2f} s; lightly's BYOL {seconds['lightly']:.2f} s")
    ahead = ratios["lightly / BYOL"]
    why = "both spend nearly all of it in the same convolutions"
    figure = f"{ahead['median']:.2f} {spread(ahead['all'])}"
    yield Line("lightly's step over our BYOL step", figure, ahead["median"], Target(">", 1), why)
    beside = found["beside_the_encoders"]
    why = "a step is short at this precision and the heads, 4,096 wide, are a larger part of it"
    figure = f"{100 * beside:.1f} % of a ConNR step"
    yield Line("all beside the encoders' passes", figure, 100 * beside, Target("≤", 5, " %"), why)
    more, parts = ratios["ConNR / BYOL"], found["connr_over_byol"]
    figure = f"{100 * parts:.2f} % by its parts, {100 * (more['median'] - 1):.1f} % by difference {spread(more['all'], 3)}"
    yield Line("ConNR over BYOL", figure, 100 * parts, Target("≤", 1, " %"), "the encoder of this step is small")
    bare = ratios["ConNR / bare"]
    yield Line(
        "ConNR step over the bare encoder, forward and backward",
        f"{bare['median']:.2f} {spread(bare['all'])}; lightly {ratios['lightly / bare']['median']:.2f}; "
        f"the target's forward pass alone makes it {ratios['encoders / bare']['median']:.2f}",
    )
    parts = ", ".join(f"{part} {1e3 * took:.0f}" for part, took in found["parts"].items())
    yield Line("its parts beside the encoders, in ms", parts)


def of_contextual(found: list[dict[str, Any]]) -> Iterator[Line]:
    targets = {256: Target("≥", 1, "×"), 4096: Target("≥", 10, "×")}
    for row in found:
        faster = row["dense"]["times_faster"]
        figure = f"{row['milliseconds']:.1f} ms; {faster:.1f}× the dense {spread(row['dense']['all'], 1)}"
        if "re-ranking" in row:
            figure += f"; {row['re-ranking']['times_faster']:.0f}× re-ranking"
        figure += f"; {row['sets_that_differ']} sets differ"
        why = "at this size both are dense products" if row["n"] < 900 else "fewer products are saved on this machine"
        yield Line(f"{row['n']:,} images", figure, faster, targets.get(row["n"]), why)


def of_neighbours(found: list[dict[str, Any]]) -> Iterator[Line]:
    for row in found:
        name = f"{row['n']:,} × 256, {row['kind']}"
        figure = (
            f"{row['seconds']:.1f} s, of which nearest neighbours {row['nearest']:.1f} s; {row['over_faiss']:.2f} of faiss's "
        )
        figure += f"{row['faiss']['seconds']:.1f} s {spread(row['all'])}"
        held = row["n"] <= 60_000
        why = "hubs: some images are neighbours of hundreds, which makes the sparse products long"
        yield Line(name, figure, row["over_faiss"], Target("≤", 2, "× faiss") if held else None, why)
        figure = f"{row['gib']:.2f} GiB; a process that only makes the features {row['gib_of_the_features_alone']:.2f} GiB"
        why = "beside the features it holds the relations of all images"
        yield Line(f"{name}: memory", figure, row["gib"], Target("≤", 1.5, " GiB") if held else None, why)
    for kind in {row["kind"]: None for row in found}:
        rows = [row for row in found if row["kind"] == kind]
        if len(rows) > 1:
            yield growth(rows[0], rows[-1])


def growth(first: dict[str, Any], last: dict[str, Any]) -> Line:
    """How time grows with the number of images, as a power of it."""
    parts: dict[str, Callable[[dict[str, Any]], float]] = {
        "time": lambda row: row["seconds"],
        "that of the nearest neighbours": lambda row: row["nearest"],
        "the rest": lambda row: row["seconds"] - row["nearest"],
    }
    larger = math.log(last["n"] / first["n"])
    powers = [f"{name} n^{math.log(of(last) / of(first)) / larger:.1f}" for name, of in parts.items()]
    return Line(f"growth from {first['n']:,} to {last['n']:,}, {first['kind']}", ", ".join(powers))


def of_kmeans(found: list[dict[str, Any]]) -> Iterator[Line]:
    for row in found:
        peers = "; ".join(
            f"{row[peer]['times_faster']:.1f}× {peer} {spread(row[peer]['all'], 1)}, "
            f"inertia × {row[peer]['inertia_ratio']:.4f}"
            for peer in ("scikit-learn", "faiss")
        )
        target = Target("≥", 5, "× scikit-learn") if row["n"] >= 60_000 else None
        faster, why = row["scikit-learn"]["times_faster"], "it is bound by the product of points and centroids"
        yield Line(f"{row['n']:,} × {row['d']}, {row['k']} clusters", f"{row['seconds']:.2f} s; {peers}", faster, target, why)


def of_predict(found: list[dict[str, Any]]) -> Iterator[Line]:
    for row in found:
        figure = (
            f"{100 * row['wall']:.1f} % of the bare encoder's throughput, {row['encoder_images_per_second']:,.0f} images/s"
        )
        yield Line(f"{row['network']}, {row['images']:,} images of 32 px", figure)


def of_augment(found: dict[str, Any]) -> Iterator[Line]:
    rates = found["views_per_second"]
    rates_told = ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items() if rate)
    faster = rates["connr"] / rates["pillow"]
    why = "resizing and colour take the memory bandwidth that there is"
    yield Line("views of 32 px per second, batch 256", rates_told)
    yield Line("over Pillow with torchvision's classes, one process", f"{faster:.1f}×", faster, Target("≥", 8, "×"), why)
    if compiled := rates.get("connr_compiled"):
        faster = compiled / rates["pillow"]
        yield Line("the same with `torch.compile`", f"{faster:.1f}×", faster, Target("≥", 15, "×"), why)


def of_augment_by_batch(found: list[dict[str, Any]]) -> Iterator[Line]:
    for size in sorted({row["size"] for row in found}):
        rows = [row for row in found if row["size"] == size]
        rounds = {row["batch"]: [seconds / row["batch"] / 2 for seconds in row["seconds"]["connr"]] for row in rows}
        costs = {batch: statistics.median(seconds) for batch, seconds in sorted(rounds.items())}
        least = min(costs, key=lambda batch: costs[batch])
        over = [one / other for one, other in zip(rounds[max(costs)], rounds[least], strict=True)]
        figure = ", ".join(f"batch {batch}: {1e6 * cost:,.0f}" for batch, cost in costs.items())
        if least != max(costs):
            figure += f"; {max(costs)} over {least}: {statistics.median(over):.2f}× {spread(over)}"
        target, why = Target("≤", 1.05, "× the least"), "views that no cache holds are written at the speed of memory"
        yield Line(f"µs a view of {size} px, the largest batch", figure, statistics.median(over), target, why)


def of_decode(found: list[dict[str, Any]]) -> Iterator[Line]:
    for row in found:
        rates, faster = row["images_per_second"], row["times_faster"]
        name = f"{row['images']:,} JPEGs of {row['side']} px to {row['size']} px"
        figure = (
            f"{rates['connr']:,.0f} images/s, torchvision {rates['torchvision']:,.0f}: "
            f"{statistics.median(faster):.2f}× {spread(faster)}; {row['grey_levels_apart']:.1f} grey levels apart"
        )
        why = "both decode by libjpeg-turbo on every core"
        yield Line(name, figure, statistics.median(faster), Target("≥", 1, "×"), why)


def of_fuzz(found: dict[str, Any]) -> Iterator[Line]:
    read = found["reasons"]["read"]
    figure = f"{read:,} read, {sum(found['reasons'].values()) - read:,} left out with a reason; {found['seconds']:.0f} s"
    name = f"{found['files']:,} files, {found['mutated']:,} of them mutated"
    yield Line(name, figure, len(found["wrong"]), Target("≤", 0, " faults"), "; ".join(found["wrong"]))


def of_digits(found: dict[str, dict[str, tuple[float, float]]]) -> Iterator[Line]:
    for method, row in found.items():
        scores = ", ".join(f"{name.upper()} {row[name][0]:.3f} ± {row[name][1]:.3f}" for name in ("acc", "nmi", "ari"))
        yield Line(method, f"{scores}; {row['seconds'][0]:.1f} s")


BENCHMARKS = {
    "step": Benchmark(
        "A training step",
        "Ours beside the loop of lightly's BYOL example: same network, batch, precision and strengths of augmentation.",
        ["--rounds", "2"],
        ["--network", "small", "--batch", "16", "--rounds", "1"],
        of_step,
    ),
    "step-bf16": Benchmark(
        "A training step in bf16",
        "As above, both under autocast.",
        ["--rounds", "2", "--precision", "bf16-mixed"],
        ["--network", "small", "--batch", "16", "--rounds", "1", "--precision", "bf16-mixed"],
        of_step,
    ),
    "augment": Benchmark("Augmentation", "", ["--size", "32", "--batch", "256"], ["--size", "32", "--batch", "8"], of_augment),
    "augment-sizes": Benchmark(
        "Augmentation by size and batch",
        "What a view costs; it should not grow with the batch.",
        ["--size", "32", "96", "224", "--batch", "16", "64", "256", "--peers", "connr"],
        ["--size", "8", "16", "--batch", "2", "4", "--peers", "connr", "--rounds", "1"],
        of_augment_by_batch,
    ),
    "decode": Benchmark(
        "Reading pictures",
        "A folder of JPEGs into images, beside torchvision's `ImageFolder` in a `DataLoader` with as many workers.",
        ["--side", "64", "224", "224", "--size", "64", "64", "224", "--count", "2000", "--rounds", "3"],
        ["--side", "16", "--size", "8", "--count", "20", "--rounds", "1"],
        of_decode,
    ),
    "fuzz": Benchmark(
        "Broken pictures",
        "Through `connr fit`: it ends well, and every file is in assignments.csv or in skipped.csv, once.",
        [],
        ["--files", "40"],
        of_fuzz,
    ),
    "contextual": Benchmark(
        "Contextual neighbours of a batch",
        "Against Eqs. 3–7 as they are written, in dense matrices and with `topk`, and k-reciprocal re-ranking (Zhong et al.).",
        ["--rounds", "3"],
        ["--sizes", "64", "256", "--rounds", "1"],
        of_contextual,
    ),
    "neighbours": Benchmark(
        "Contextual neighbours of a whole data set",
        "Ours, nearest neighbours included, against the nearest neighbours of faiss alone; whole processes.",
        [],
        ["--sizes", "500", "--rounds", "1"],
        of_neighbours,
    ),
    "neighbours-growth": Benchmark(
        "Contextual neighbours of larger data sets",
        "Not part of `make bench`, as it takes several minutes.",
        ["--sizes", "60000", "100000", "200000", "--kinds", "clustered", "--rounds", "1"],
        ["--sizes", "500", "1000", "--kinds", "clustered", "--rounds", "1"],
        of_neighbours,
    ),
    "kmeans": Benchmark(
        "k-means",
        "Ten starts each; how many times faster ours is, and our inertia over theirs.",
        ["--rounds", "2", "--sizes", "10000x256x10", "10000x256x100", "60000x256x10"],
        ["--rounds", "1", "--sizes", "300x8x3"],
        of_kmeans,
    ),
    "kmeans-200": Benchmark(
        "k-means with 200 clusters",
        "Not part of `make bench`, as scikit-learn takes a minute a round.",
        ["--rounds", "3", "--sizes", "60000x256x200"],
        ["--rounds", "1", "--sizes", "300x8x5"],
        of_kmeans,
    ),
    "predict": Benchmark(
        "connr predict",
        "From an .npz to a CSV, beside the encoder's forward pass alone.",
        ["--images", "2000", "--rounds", "3"],
        ["--images", "64", "--rounds", "1", "--network", "small"],
        of_predict,
    ),
    "digits": Benchmark(
        "The digits", "Scores over seeds, beside scikit-learn.", ["--seeds", "2"], ["--seeds", "1", "--epochs", "2"], of_digits
    ),
}


def run(name: str, arguments: list[str]) -> dict[str, Any] | None:
    """The JSON of one benchmark, with its command and time; None where it is not there or fails, which is told."""
    script = HERE / f"{name.split('-')[0]}.py"
    if not script.is_file():
        print(f"{name}: there is no {script.name}", flush=True)
        return None
    command = f"python benchmarks/{script.name} {' '.join(arguments)}".strip()
    print(f"\n{command}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "found.json"
        done = subprocess.run([sys.executable, str(script), *arguments, "--json", str(out)], check=False)
        if done.returncode or not out.is_file():
            print(f"{name} failed with exit code {done.returncode}", flush=True)
            return None
        found = json.loads(out.read_text())
    return {"command": command, "took": time.monotonic() - began, "found": found, **where()}


def where() -> dict[str, Any]:
    """Machine, versions and commit."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "machine": f"{cores} cores, {processor()}",
        "python": platform.python_version(),
        "versions": versions,
        "commit": commit(),
    }


def processor() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.is_file()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()


def commit() -> str:
    """The commit that is checked out, with a + where files differ from it."""
    git = ["git", "-C", str(HERE)]
    head = subprocess.run(
        [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--", "../src", "."], capture_output=True, text=True, check=False
    ).stdout
    return head + "+" * bool(changed.strip())


def page(results: dict[str, dict[str, Any]]) -> str:
    """docs/benchmarks.md."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. Peers run turn about with ours, in the same run; a ratio is the median over rounds, with",
        "the least and the most in brackets. Times of another machine differ, the ratios less so.",
        "",
    ]
    if not results:
        return "\n".join([*lines, "Not run yet on this commit.", ""])
    missed, held, free = [], 0, 0
    for name, benchmark in BENCHMARKS.items():
        if name not in results:
            continue
        told = list(benchmark.lines(results[name]["found"]))
        lines += [
            f"## {benchmark.title}",
            "",
            *([benchmark.about, ""] if benchmark.about else []),
            f"`{results[name]['command']}`",
            "",
        ]
        lines += ["| what | found | target | |", "|---|---|---|---|"]
        lines += [f"| {line.what} | {line.figure} | {line.target or ''} | {MARKS[line.met]} |" for line in told]
        lines += [""]
        missed += [
            f"- {benchmark.title}, {line.what}: {line.figure} (target {line.target}); {line.why}."
            for line in told
            if line.met is False
        ]
        held += sum(line.met is not None for line in told)
        free += sum(line.met is None for line in told)
    not_run = [benchmark.title for name, benchmark in BENCHMARKS.items() if name not in results]
    sums = f"Figures with a target: {held}, of which missed: {len(missed)}. Figures without: {free}."
    lines += ["## What was missed", "", sums + (f" Not run: {', '.join(not_run)}." if not_run else ""), ""]
    lines += [*missed, *([""] if missed else []), "## Where", ""]
    places: dict[str, list[str]] = {}
    for name, result in results.items():
        versions = ", ".join(f"{package} {version}" for package, version in result["versions"].items())
        place = f"commit {result['commit']}, {result['machine']}; Python {result['python']}, {versions}"
        places.setdefault(place, []).append(f"{name} ({result['took']:.0f} s)")
    lines += [f"- {', '.join(names)}: {place}" for place, names in places.items()]
    return "\n".join(lines) + "\n"


LEFT_OUT = ("neighbours-growth", "kmeans-200")  # unless asked for
MARKS = {None: "", True: "met", False: "**missed**"}


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "--only", nargs="+", choices=list(BENCHMARKS), default=[name for name in BENCHMARKS if name not in LEFT_OUT]
    )
    options.add_argument("--quick", action="store_true")
    options.add_argument("--into", type=Path, default=HERE.parent / "docs")
    return options


def main() -> None:
    arguments = parser().parse_args()
    kept, failed = arguments.into / "benchmarks.json", []
    results = json.loads(kept.read_text()) if kept.is_file() else {}
    for name in arguments.only:
        benchmark = BENCHMARKS[name]
        result = run(name, benchmark.quick if arguments.quick else benchmark.arguments)
        if result is None:
            failed.append(name)
            continue
        results[name] = result
        kept.write_text(json.dumps(results, indent=1) + "\n")
        (arguments.into / "benchmarks.md").write_text(page(results), encoding="utf-8")
    print(f"\n{arguments.into / 'benchmarks.md'}" + (f"; not run: {', '.join(failed)}" if failed else ""))
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
