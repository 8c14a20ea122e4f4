"""Memory of a run on images that are read from a file a batch at a time: `connr fit` as a whole process, sampled.

Makes a folder of JPEG pictures, fits it with data.resident_gib=0, and prints the most memory in each part of it.
Linux only: it reads /proc.

python benchmarks/streaming.py [--images 100000] [--size 64] [--epochs 3] [--within-gib 1] [--json FILE]

--within-gib: the process is given no more than that, and ends if that is not enough. What it reads of files counts, the code
of its libraries too, but for pages that another process has read first. For root, who may make a control group.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

NETWORK = ("backbone.width=8", "backbone.stages=2", "backbone.stem_stride=2", "method.base.hidden=64", "method.base.out=32")


def make(folder: Path, count: int, size: int) -> None:
    """Pictures with shapes in them, a thousand to a folder."""

    def one(index: int) -> None:
        rng = np.random.default_rng(index)
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        place = folder / f"{index // 1000:03d}"
        place.mkdir(parents=True, exist_ok=True)
        coarse.resize((size, size), Image.Resampling.BICUBIC).save(place / f"{index:06d}.jpg", quality=85)

    with ThreadPoolExecutor() as pool:
        list(pool.map(one, range(count)))


class Memory(NamedTuple):
    """MiB. own: what only this process has. resident: with the pages of libraries, which processes share."""

    own: float = 0.0
    resident: float = 0.0

    def most(self, other: "Memory") -> "Memory":
        return Memory(*map(max, self, other))


def memory(pid: int) -> Memory:
    """Of a process; nothing when it has ended."""
    try:
        lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        found = {line[0]: int(line[1]) / 1024 for line in lines if line[0] in ("VmRSS:", "RssAnon:")}
        return Memory(found.get("RssAnon:", 0.0), found.get("VmRSS:", 0.0))
    except (FileNotFoundError, ProcessLookupError):
        return Memory()


@contextmanager
def confined(gib: float | None) -> Iterator[Callable[[], object]]:
    """What a process calls to have no more memory than that, in a control group of its own (version 1 or 2)."""
    if gib is None:
        yield lambda: None
        return
    root, limit = Path("/sys/fs/cgroup"), "memory.max"
    if not (root / "cgroup.controllers").exists():
        root, limit = root / "memory", "memory.limit_in_bytes"
    group = root / f"streaming-{os.getpid()}"
    group.mkdir()
    try:
        (group / limit).write_text(str(int(gib * 2**30)))
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")  # pages that others have read would not be counted as its own
        yield lambda: (group / "cgroup.procs").write_text(str(os.getpid()))
    finally:
        group.rmdir()


def watched(command: list[str], events: Path, first: Callable[[], object]) -> tuple[list[Memory], float, int]:
    """The most memory until the end of each epoch and after the last; seconds; the exit status. The process calls `first`."""
    began, peaks = time.monotonic(), [Memory()]
    with subprocess.Popen(command, preexec_fn=first) as process:
        while process.poll() is None:
            finished = events.read_bytes().count(b"\n") if events.is_file() else 0
            peaks += [Memory()] * (finished + 1 - len(peaks))
            peaks[-1] = peaks[-1].most(memory(process.pid))
            time.sleep(0.05)
    return peaks, time.monotonic() - began, process.returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--resident-gib", type=float, default=0.0, help="a larger number for the same run from memory")
    parser.add_argument("--within-gib", type=float, help="no more than this for the process; it ends where that is not enough")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        pictures, out = Path(place) / "pictures", Path(place) / "run"
        make(pictures, arguments.images, arguments.size)
        settings = [f"data.size={arguments.size}", f"train.epochs={arguments.epochs}", "method.start=0.34", *NETWORK]
        settings.append(f"data.resident_gib={arguments.resident_gib}")
        command = [sys.executable, "-m", "connr", "fit", str(pictures), "--clusters", "10", "--out", str(out), "--quiet"]
        command += [part for setting in settings for part in ("--set", setting)]
        with confined(arguments.within_gib) as first:
            peaks, seconds, status = watched(command, out / "events.jsonl", first)
        stored = sum(path.stat().st_size for path in (out / "cache").glob("*.rows")) if (out / "cache").is_dir() else 0
    if status:
        raise SystemExit(f"connr fit ended with {status}")
    if arguments.within_gib:
        print(f"within {arguments.within_gib:g} GiB, with what no other process had read of files and libraries:")
    print(f"{arguments.images:,} images of {arguments.size} px, {stored / 2**20:,.0f} MiB in the file; {seconds:.0f} s in all")
    names = ["decoding, epoch 1", *(f"epoch {epoch}" for epoch in range(2, len(peaks))), "assignments, report"]
    for name, peak in zip(names, peaks, strict=True):
        print(f"  {name}: at most {peak.own:,.0f} MiB of its own, {peak.resident:,.0f} MiB with the libraries")
    if arguments.json:
        found = {"peaks_mib": [peak._asdict() for peak in peaks], "file_mib": stored / 2**20, "seconds": seconds}
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
