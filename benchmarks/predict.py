"""`connr predict` beside the bare encoder: 10,000 images of 32 px from an .npz into a CSV, in one process, turn about.

python benchmarks/predict.py [--rounds 5] [--images 10000] [--network small] [--json FILE]

The encoder is handed the same batches, already normalised and in the layout it likes, and does its forward pass and no more.
The command's time is that of its whole way once its model is read: the .npz, normalisation, encoder, distances, CSV.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from connr import inference, recipe
from connr.clustering.assigners import Centroids
from connr.engine.extraction import AT_A_TIME
from connr.experiment import build
from connr.model import Model
from connr.views import Augment

NETWORKS = {"resnet18": ("cifar10", []), "small": ("digits", ["data.size=32", "data.channels=3"])}


class Took(NamedTuple):
    """Seconds on the wall, and of all cores together: the second hardly feels what else the machine is doing."""

    wall: float
    cpu: float


def timed(work: Callable[[], None]) -> Took:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Took(time.perf_counter() - wall, time.process_time() - cpu)


def rounds_of(name: str, settings: list[str], pixels: np.ndarray, rounds: int) -> Iterator[tuple[Took, Took]]:
    """What encoder and command took, round by round; which goes first alternates."""
    r, generator = recipe.load(name, settings), torch.Generator().manual_seed(0)
    mean, std = [0.5] * r.data.channels, [0.25] * r.data.channels
    # Random weights: how long they take does not depend on what they are.
    network = build(r).features().eval()
    with torch.no_grad():
        width = network(torch.zeros(1, r.data.channels, r.data.size, r.data.size)).shape[1]
    centroids = torch.nn.functional.normalize(torch.randn(r.clusters or 10, width, generator=generator), dim=1)
    model = Model(network, Centroids(centroids), mean, std, torch.device("cpu"))
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    batches = [Augment(mean, std).normalise(part) for part in images.split(AT_A_TIME)]
    with tempfile.TemporaryDirectory() as place:
        data, out = Path(place) / "images.npz", Path(place) / "out.csv"
        np.savez(data, images=pixels)

        def encoder() -> None:
            with torch.no_grad():
                for batch in batches:
                    model.representation(batch)

        def command() -> None:
            rows, total = inference.assign(r, model, data)
            assert inference.write_file(rows, out, lambda _: None) == (total, [])

        model.representation(batches[0])  # warm
        for index in range(rounds):
            if index % 2:
                late = timed(command)
                yield timed(encoder), late
            else:
                yield timed(encoder), timed(command)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--network", choices=list(NETWORKS), action="append", help="default all")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    pixels = np.random.default_rng(0).integers(0, 256, (arguments.images, 32, 32, 3), dtype=np.uint8)
    print(f"{arguments.images:,} images, {torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__}")
    report = []
    for network in arguments.network or NETWORKS:
        times = list(rounds_of(*NETWORKS[network], pixels, arguments.rounds))
        row: dict[str, object] = {"network": network, "images": arguments.images}
        for clock in Took._fields:
            shares = [getattr(encoder, clock) / getattr(command, clock) for encoder, command in times]
            row[clock] = statistics.median(shares)
            spread = f"{100 * min(shares):.1f}-{100 * max(shares):.1f}"
            print(f"{network}: {100 * row[clock]:.1f} % of the encoder's throughput by {clock} time ({spread})", flush=True)
        row["encoder_images_per_second"] = arguments.images / statistics.median(encoder.wall for encoder, _ in times)
        report.append(row)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
