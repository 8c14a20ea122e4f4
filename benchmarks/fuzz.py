"""Broken pictures through `connr fit`: none may crash it, hang it or get lost. Exits with 1 if one does.

Small pictures of many formats are mutated (bits flipped, cut short, parts of other files, another format's ending or header,
bytes put in or left out), and laid among good ones, with an empty file, a text, a bomb and a pipe. A run on all of them has to
end well, and every file has to be in assignments.csv or in skipped.csv, once.

python benchmarks/fuzz.py [--files 2000] [--seed 0] [--seconds 600] [--json FILE]
"""

import argparse
import csv
import io
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

ENDINGS = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "GIF": ".gif",
    "WEBP": ".webp",
    "BMP": ".bmp",
    "TIFF": ".tif",
    "PPM": ".ppm",
    "ICO": ".ico",
}
MODES = {"JPEG": ("RGB", "L", "CMYK"), "PNG": ("RGB", "RGBA", "P", "L", "I;16"), "GIF": ("P",), "TIFF": ("RGB", "F", "CMYK")}
GOOD = 100  # pictures that are left as they are
FAST = (
    "data.size=16",
    "data.unreadable_at_most=1",
    "train.epochs=1",
    "method.start=1",
    "backbone.width=4",
    "backbone.stages=2",
    "method.base.hidden=16",
    "method.base.out=8",
    "kmeans.restarts=1",
)


def picture(chance: random.Random, kind: str) -> bytes:
    """A small picture of noise and a ramp, in one of the format's modes."""
    mode = chance.choice(MODES.get(kind, ("RGB",)))
    width, height = chance.randint(8, 48), chance.randint(8, 48)
    noise = np.random.default_rng(chance.getrandbits(32)).integers(0, 256, (height, width, 3), dtype=np.uint8)
    if mode == "I;16":
        image = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    elif mode == "F":
        image = Image.fromarray(noise[..., 0].astype(np.float32) / 255)
    else:
        image = Image.fromarray(noise).convert(mode)
    file = io.BytesIO()
    image.save(file, format=kind)
    return file.getvalue()


def mutated(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """One to three faults."""
    for _ in range(chance.randint(1, 3)):
        raw, at = bytearray(content), chance.randrange(max(1, len(content)))
        match chance.randrange(6):
            case 0:  # bits flipped, more often in the header
                for _ in range(chance.choice((1, 8, 64))):
                    place = chance.randrange(min(len(raw), chance.choice((64, len(raw))))) if raw else 0
                    raw[place : place + 1] = bytes([raw[place] ^ 1 << chance.randrange(8)]) if raw else b""
            case 1:
                del raw[at:]
            case 2:
                raw[: min(len(other), 32)] = other[:32]
            case 3:
                raw[at:] = other[at:]
            case 4:
                raw[at:at] = chance.randbytes(chance.randint(1, 200))
            case _:
                del raw[at : at + chance.randint(1, 50)]
        content = bytes(raw)
    return content


def bomb() -> bytes:
    """A PNG of a few bytes that says it is 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def litter(folder: Path, count: int, seed: int) -> int:
    """Fills `folder` with good pictures and `count` broken ones, in subfolders with the same names; how many files that is."""
    chance = random.Random(seed)
    kinds = list(ENDINGS)
    for place in ("good", "a", "b"):
        (folder / place).mkdir(parents=True)
    for index in range(GOOD):
        kind = kinds[index % len(kinds)]
        (folder / "good" / f"{index:04d}{ENDINGS[kind]}").write_bytes(picture(chance, kind))
    for index in range(count - 4):
        kind, other = chance.choice(kinds), chance.choice(kinds)
        ending = ENDINGS[other] if chance.random() < 0.2 else ENDINGS[kind]
        ending = ending.upper() if chance.random() < 0.2 else ending
        content = mutated(picture(chance, kind), picture(chance, other), chance)
        (folder / "ab"[index % 2] / f"{index // 2:05d}{ending}").write_bytes(content)
    (folder / "a" / "empty.jpg").touch()
    (folder / "a" / "text.jpg").write_text("no picture")
    (folder / "a" / "bomb.png").write_bytes(bomb())
    os.mkfifo(folder / "a" / "pipe.jpg")
    return GOOD + count


def run(folder: Path, out: Path, seconds: float) -> subprocess.CompletedProcess[str]:
    """`connr fit` on the folder."""
    settings = [word for setting in FAST for word in ("--set", setting)]
    words = [sys.executable, "-m", "connr", "fit", folder, "--clusters", "3", "--out", out, "--device", "cpu", *settings]
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=seconds, check=False)


def faults(folder: Path, out: Path, total: int) -> tuple[list[str], Counter[str]]:
    """What does not add up, and how many files were read or left out for what reason."""
    read, left_out = names(out / "assignments.csv"), names(out / "skipped.csv")
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    found = []
    if len(read) + len(left_out) != total:
        found.append(f"{len(read)} rows and {len(left_out)} left out are not the {total} files")
    if twice := [name for name, times in Counter(read + left_out).items() if times > 1]:
        found.append(f"twice: {twice[:3]}")
    if lost := there - set(read) - set(left_out):
        found.append(f"lost: {sorted(lost)[:3]}")
    if spoilt := [name for name in left_out if name.startswith("good")]:
        found.append(f"good pictures left out: {spoilt[:3]}")
    with open(out / "skipped.csv", newline="", encoding="utf-8") as file:
        reasons = Counter(row["reason"].split(":")[0] for row in csv.DictReader(file))
    return found, reasons + Counter({"read": len(read)})


def names(path: Path) -> list[str]:
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return [row["path"] for row in csv.DictReader(file)]


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--files", type=int, default=2000, help="broken ones")
    found.add_argument("--seed", type=int, default=0)
    found.add_argument("--seconds", type=float, default=600, help="that the run may take before it counts as hung")
    found.add_argument("--json", type=Path)
    return found


def main() -> int:
    arguments = parser().parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place) / "pictures", Path(place) / "run"
        total = litter(folder, arguments.files, arguments.seed)
        began = time.monotonic()
        done = run(folder, out, arguments.seconds)
        took = time.monotonic() - began
        head = f"{total:,} files, {arguments.files:,} of them mutated, seed {arguments.seed}"
        print(f"{head}: {took:.0f} s, exit code {done.returncode}")
        if done.returncode or "Traceback" in done.stderr:
            print(done.stdout[-2000:], done.stderr[-4000:])
            return 1
        wrong, reasons = faults(folder, out, total)
    if arguments.json:
        found = {"files": total, "mutated": arguments.files, "seconds": took, "reasons": reasons, "wrong": wrong}
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    for reason, times in reasons.most_common():
        print(f"  {times:6,} {reason}")
    print("\n".join(wrong) if wrong else "every file is accounted for, once")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
