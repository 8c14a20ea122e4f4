"""report.html of 60,000 made-up images of 32 px: its size, the time to make it and to open it in the system's Chromium.

python benchmarks/report.py [--images 60000] [--clusters 10] [--labelled] [--keep FILE.html]

The network is untrained: what is measured is the page.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch

from connr import __version__, experiment, recipe, runs
from connr.clustering.assigners import Centroids
from connr.clustering.kmeans import kmeans
from connr.data import ImageSet
from connr.model import Model
from connr.recipe import Recipe
from connr.report import near, page, reading
from connr.reproduce.steps import first_group_epoch
from connr.run_folder import RunFolder
from connr.schema import append_epoch

SIZE, EPOCHS = 32, 200
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
NETWORK = ("backbone.width=8", "backbone.stages=2", f"data.size={SIZE}", f"train.epochs={EPOCHS}")


def pictures(n: int, k: int, labelled: bool) -> ImageSet:
    """Smooth colours of k kinds with the grain of a photo on top; compresses about as real photos do."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(k, (n,), generator=generator)
    kinds, chunks = torch.rand(k, 3, 7, 7, generator=generator), []
    for part in labels.split(5000):
        coarse = 0.6 * kinds[part] + 0.4 * torch.rand(len(part), 3, 7, 7, generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, SIZE, mode="bicubic").clamp(0, 1)
        grain = 12 * torch.randn(smooth.shape, generator=generator)
        chunks.append((255 * smooth + grain).clamp(0, 255).to(torch.uint8))
    names = [f"holiday/IMG_{i:06d}.jpg" for i in range(n)]
    return ImageSet(torch.cat(chunks), names, labels if labelled else torch.full((n,), -1), [f"kind {i}" for i in range(k)])


def untrained_run(images: ImageSet, k: int, folder: RunFolder) -> None:
    """A run folder as a finished run leaves it, its clusters those of an untrained network."""
    r = recipe.load("photos", NETWORK, clusters=k)
    with folder.claimed(r.to_yaml(), resume=False):
        _write_run(r, images, k, folder)


def _write_run(r: Recipe, images: ImageSet, k: int, folder: RunFolder) -> None:
    mean, std = images.statistics()
    model = Model(experiment.build(r).features(), Centroids(), mean, std, torch.device("cpu"))
    features = model.transform(images.images)
    clusters = kmeans(features, k, restarts=1)
    model.assigner = Centroids(clusters.centroids)
    t0 = first_group_epoch(r)
    for epoch in range(1, EPOCHS + 1):
        record = {"epoch": epoch, "stage": "instance" if epoch <= t0 else "group", "loss": -epoch / EPOCHS, "kept": 1.0}
        sizes = torch.bincount(clusters.assignments, minlength=k).tolist()
        append_epoch(folder.events, {**record, "seconds": 1.0, "feature_std": 0.9, "cluster_sizes": sizes})
    runs.save_model(r, model, folder)
    runs.write_assignments(model.assign(images.images), images, folder)


def neighbours(folder: RunFolder, images: ImageSet) -> tuple[float, float]:
    """Seconds for the features of the images among which neighbours are looked for, and for the search."""
    r, model = runs.load_model(folder, "cpu")
    among = near.pool(len(images), r)
    began = time.perf_counter()
    features = model.transform(images.images[among])
    extracted = time.perf_counter()
    near.nearby(features, among, reading.read(folder).rows, r)
    return extracted - began, time.perf_counter() - extracted


def opened(path: Path, slower: int) -> float:
    """Seconds from asking for the page to the map being drawn and its pictures decoded, median of 5 fresh tabs."""
    from playwright.sync_api import sync_playwright

    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    seconds = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        for _ in range(5):
            tab = browser.new_page(viewport={"width": 1440, "height": 900})
            tab.context.new_cdp_session(tab).send("Emulation.setCPUThrottlingRate", {"rate": slower})
            began = time.perf_counter()
            tab.goto(path.resolve().as_uri(), wait_until="load")
            tab.wait_for_selector("html[data-ready]")
            seconds.append(time.perf_counter() - began)
            tab.close()
        browser.close()
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--clusters", type=int, default=10)
    parser.add_argument("--labelled", action="store_true")
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, images = RunFolder(Path(place) / "run"), pictures(arguments.images, arguments.clusters, arguments.labelled)
        untrained_run(images, arguments.clusters, folder)
        began = time.perf_counter()
        page.write(folder, images, device="cpu")
        made = time.perf_counter() - began
        print(f"{len(images):,} images of {SIZE} px; connr {__version__}, torch {torch.__version__}")
        print(f"size {folder.report.stat().st_size / 1e6:.1f} MB, made in {made:.0f} s")
        print("of which neighbours among all of them: features {:.1f} s, search {:.1f} s".format(*neighbours(folder, images)))
        if any(map(shutil.which, BROWSERS)):
            for slower in (1, 4):
                print(f"opens in {opened(folder.report, slower):.2f} s with the processor at 1/{slower} of its speed")
        else:
            print("no Chromium on this machine: the time to open it is not measured")
        if arguments.keep:
            shutil.copy(folder.report, arguments.keep)


if __name__ == "__main__":
    main()
