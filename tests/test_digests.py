"""Short runs end in the very bits that were recorded: a net under changes that are not meant to change results.

python tests/test_digests.py --record    records them for this machine, after a change that is meant to

Bits differ between kinds of processors and versions of torch, so that digests are stored by these (`key`), and the tests are
skipped where none are. They depend neither on names of weights nor on formats of files.
"""

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

RECORDED = Path(__file__).parent / "digests.json"
RECORD = "python tests/test_digests.py --record"
SWITCHES = ("MKL_CBWR", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")  # they change bits

SHORT = (
    "train.epochs=4",
    "train.batch_size=64",
    "group.neighbourhood.k=10",
    "group.neighbourhood.k1=10",
    "backbone.width=8",
    "framework.hidden=32",
    "framework.out=16",
    "kmeans.restarts=3",
)
ALONE, HALF = "train.group_from=1", "train.group_from=0.5"  # stage 1 only, or both stages
HEADS = ("train.epochs=4", "train.batch_size=64", HALF, "framework.hidden=32", "framework.out=16", "kmeans.restarts=3")
RUNS = {  # name -> data, recipe, settings
    "byol": ("digits", "digits", (*SHORT, ALONE)),
    "byol-connr": ("digits", "digits", (*SHORT, HALF)),
    "simsiam": ("digits", "digits-simsiam-connr", (*SHORT, ALONE)),
    "simsiam-connr": ("digits", "digits-simsiam-connr", (*SHORT, HALF)),
    "moco": ("digits", "digits-moco-connr", (*SHORT, ALONE)),
    "moco-connr": ("digits", "digits-moco-connr", (*SHORT, HALF)),
    "features": ("rows", "features", HEADS),
    "frozen": ("pictures", "pretrained", (*HEADS, "backbone.views=2", "feature_views.neighbours=5")),
}


def key():
    """What bits depend on: the processor, the instructions that torch takes, its version, the number of threads."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    fields = dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
    names = ("vendor_id", "cpu family", "model")
    processor = " ".join(f"{name} {fields[name].strip()}" for name in names if name in fields) or sys.platform
    switches = [f"{name}={os.environ[name]}" for name in SWITCHES if name in os.environ]
    capability = torch.backends.cpu.get_cpu_capability()
    return ", ".join([processor, capability, f"torch {torch.__version__}", "1 thread", *switches])


def of_weights(weights):
    """Of shapes, dtypes and bytes of all that is not a counter, whatever their names and order."""
    parts = []
    for value in weights:
        if value.is_floating_point():
            plain = value.detach().cpu().contiguous()
            head = f"{tuple(plain.shape)} {plain.dtype} ".encode()
            parts.append(hashlib.sha256(head + plain.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest())
    return hashlib.sha256(" ".join(sorted(parts)).encode()).hexdigest()[:32]


def of_assignments(path):
    """Of (path, cluster) of every row."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = [(row["path"], int(row["cluster"])) for row in csv.DictReader(file)]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:32]


def data():
    from sklearn.datasets import load_digits

    images = load_digits().images[:390]
    eights = (images * 15).astype(np.uint8)
    return {
        "digits": eights,
        "rows": (images.reshape(-1, 64) / 16).astype(np.float32),
        "pictures": np.repeat(np.kron(eights, np.ones((1, 2, 2), np.uint8))[..., None], 3, axis=3),
    }


def tiny_backbone():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    network.size = 16
    return network


def computed(folder):
    """The digests of all runs, by the estimator; under torchrun its processes share each of them."""
    from connr import ConNR, recipe

    found, given = {}, data()
    for name, (rows, recipe_name, settings) in RUNS.items():
        backbone = tiny_backbone() if name == "frozen" else None
        r = recipe.load(recipe_name, settings)
        fitted = ConNR(10, r, device="cpu", out=folder / name, backbone=backbone).fit(given[rows])
        weights = [*fitted.model_.representation.state_dict().values(), *fitted.model_.assigner.state_dict().values()]
        found[name] = {"weights": of_weights(weights)}
    if int(os.environ.get("RANK", 0)) == 0:
        for name in RUNS:
            found[name]["assignments"] = of_assignments(folder / name / "assignments.csv")
        (folder / "found.json").write_text(json.dumps(found))


def digests(processes):
    """{run: {what: digest}}, computed in so many fresh processes of one thread each."""
    with tempfile.TemporaryDirectory() as place:
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
        line = [sys.executable, *launch, __file__, "--into", place]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CONNR_CACHE": f"{place}/cache"}
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads((Path(place) / "found.json").read_text())


@pytest.mark.parametrize("processes", [1, 2])
def test_short_runs_end_in_the_bits_that_were_recorded(processes):
    recorded = json.loads(RECORDED.read_text())
    if key() not in recorded:
        pytest.skip(f"no digests are recorded for this machine ({key()}); to record them, at a commit that is right: {RECORD}")
    expected = recorded[key()][f"processes {processes}"]
    found = digests(processes)
    off = [f"{name} ({what})" for name in RUNS for what in expected[name] if found[name][what] != expected[name][what]]
    assert not off, f"other bits: {', '.join(off)}. If the change of results is meant: {RECORD}"


def test_a_digest_sees_a_bit_but_no_name():
    weights = [torch.arange(6.0).view(2, 3), torch.ones(4), torch.tensor(7)]
    whole = of_weights(weights)
    assert of_weights([weights[1], weights[0]]) == whole  # another order, and no counter
    flipped = weights[0].clone()
    flipped.view(torch.int32)[1, 2] ^= 1
    others = [flipped, weights[0].view(3, 2), weights[0].double()]
    assert len({whole, *(of_weights([other, weights[1]]) for other in others)}) == 4


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="computes and stores the digests of this machine")
    parser.add_argument("--into", type=Path, help="computes them into this folder, in this process")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.into:
        computed(arguments.into)
    elif arguments.record:
        recorded = json.loads(RECORDED.read_text()) if RECORDED.is_file() else {}
        recorded[key()] = {f"processes {processes}": digests(processes) for processes in (1, 2)}
        RECORDED.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
        print(f"Recorded: {key()}")
    else:
        print(key())


if __name__ == "__main__":
    main()
