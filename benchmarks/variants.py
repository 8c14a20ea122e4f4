"""Variants of a recipe at the same schedule: final scores over seeds, and the time of a step beside the plain one, turn about.

python benchmarks/variants.py --recipe digits --data digits --seeds 5 --variant "bf16: train.precision=bf16-mixed"
python benchmarks/variants.py --recipe cifar10 --seeds 0 --rounds 5 --variant "compiled: train.compile=true"

--seeds 0 times steps only: the views and one update of the last phase, on made-up images of the size of the recipe.
"""

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch
from over_seeds import tell

from connr import experiment, recipe, runs
from connr.data import ImageSet, open_for
from connr.recipe import Recipe
from connr.reproduce.steps import first_step


class Stepper:
    """Steps of the last phase of a recipe, as `connr.engine.train` makes them."""

    def __init__(self, r: Recipe) -> None:
        self.steps, self.autocast = first_step(r, r.train.batch_size), experiment.fabric_for(r, "cpu").autocast
        if r.train.compile:
            for network in self.steps.method.networks():
                network.compile()

    def seconds(self, steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            self.steps.run(self.steps.phases[-1], autocast=self.autocast)
        return (time.perf_counter() - began) / steps


def steps(recipes: dict[str, Recipe], rounds: int) -> dict[str, dict]:
    """Seconds of a step of each, and how many of the first one's steps it takes, all rounds."""
    steppers = {name: Stepper(r) for name, r in recipes.items()}
    first = [stepper.seconds(2) for stepper in steppers.values()]  # what is compiled is compiled here
    per_turn = max(1, round(0.5 / min(first)))
    for stepper in steppers.values():
        stepper.seconds(per_turn)
    names, times = list(steppers), {name: list[float]() for name in steppers}
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            times[name].append(steppers[name].seconds(per_turn))
    ratios = {name: [x / y for x, y in zip(times[name], times[names[0]], strict=True)] for name in names}
    return {name: {"seconds": statistics.median(times[name]), "over_plain": ratios[name]} for name in names}


def scored(r: Recipe, images: ImageSet) -> dict[str, float]:
    """A whole run: its last scores, and the seconds of its epochs."""
    history = runs.fit(r, images, device="cpu").history
    return {**{name: history[-1][name] for name in ("acc", "nmi", "ari")}, "seconds": sum(one["seconds"] for one in history)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="digits")
    parser.add_argument("--data", default="digits", help="labelled images, as in connr fit")
    parser.add_argument("--limit", type=int, help="the first so many images")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--variant", action="append", default=[], metavar="NAME: KEY=VALUE ...")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of all")
    parser.add_argument("--rounds", type=int, default=5, help="turns of half a second at least; 0 times no steps")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    settings = {"plain": list[str]()} | {
        name.strip(): given.split() for name, _, given in (variant.partition(":") for variant in arguments.variant)
    }

    def of(name: str, seed: int = 0) -> Recipe:
        return recipe.load(arguments.recipe, [*arguments.set, *settings[name]], seed=seed)

    found: dict[str, dict] = {}
    if arguments.rounds:
        found = steps({name: of(name) for name in settings}, arguments.rounds)
        for name, row in found.items():
            all_ = row["over_plain"]
            ratio = f"{statistics.median(all_):.3f} of the plain one ({min(all_):.3f}-{max(all_):.3f})"
            print(f"a step, {name}: {1e3 * row['seconds']:.1f} ms, {ratio}; {torch.get_num_threads()} threads", flush=True)
    if arguments.seeds:
        images = open_for(of("plain"), arguments.data)
        few = slice(arguments.limit)
        images = replace(images, images=images.images[few], names=images.names[few], labels=images.labels[few])
        rows: dict[str, list[dict[str, float]]] = {name: [] for name in settings}
        for seed in range(arguments.seeds):
            for name in settings:
                rows[name].append(scored(runs.clamp_to_data(of(name, seed), len(images)), images))
                print(f"seed {seed}, {name}: " + ", ".join(f"{key} {x:.4f}" for key, x in rows[name][-1].items()), flush=True)
        print(f"\n{arguments.recipe}, {len(images):,} images,")
        tell(rows, range(arguments.seeds), None, "plain")
        found = {name: {**found.get(name, {}), "scores": rows[name]} for name in settings}
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
