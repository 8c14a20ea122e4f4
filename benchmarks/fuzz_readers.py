"""Files of a run folder and of data, changed at random in what they mean, through the readers: none may crash or hang.

A small run is made once. Each case copies it, changes one file (a value of its JSON or YAML, a cell, a row or a column of its
CSV, a name, type, shape or value of its tensors, a declared size; or its bytes), and reads it as the commands do. What may
come of it: it is read, or it is refused by one of connr's own errors. What may not: any other error, numbers that are not
finite, more than 10 seconds of computing, or more than 1 GiB of memory beyond what the process had. Exits with 1 if one does.

python benchmarks/fuzz_readers.py [--cases 2000] [--seed 0] [--only KIND] [--json FILE]
"""

import argparse
import io
import json
import math
import os
import pickle
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("MALLOC_ARENA_MAX", "1")  # each thread's arena would count as 64 MiB of address space

import numpy as np
import safetensors.torch
import torch
import yaml
from PIL import Image

from connr import networks, recipe, runs
from connr.data import cifar, open_images
from connr.data.feature_rows import open_features
from connr.data.named import BrokenDataset
from connr.engine import checkpoint
from connr.errors import Diverged, InputError, NotWritten
from connr.recipe import Recipe
from connr.report import page
from connr.report.reading import read
from connr.run_folder import RunFolder
from connr.sort import sort

ALLOWED = (InputError, Diverged, NotWritten, BrokenDataset)
SECONDS, BYTES = 10, 2**30
CLOCKS = (  # of the process itself, as others may run beside it; and of the wall, for what waits
    (signal.SIGPROF, signal.ITIMER_PROF, SECONDS),
    (signal.SIGALRM, signal.ITIMER_REAL, 12 * SECONDS),
)
IMAGES = 30
SETTINGS = (
    "data.size=16",
    "train.epochs=3",
    "train.batch_size=16",
    "train.keep_checkpoints=0",
    "train.evaluate_every=1",
    "method.group.neighbourhood.k=5",
    "method.group.neighbourhood.k1=5",
    "backbone.width=4",
    "backbone.stages=2",
    "method.base.hidden=16",
    "method.base.out=8",
    "kmeans.restarts=1",
)
TIMM = {
    "architecture": "vit_tiny_patch16_224",
    "num_classes": 7,
    "model_args": {"img_size": 32, "depth": 1},
    "pretrained_cfg": {
        "input_size": [3, 32, 32],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "crop_pct": 0.9,
        "classifier": "head",
        "first_conv": "patch_embed.proj",
        "fixed_input_size": True,
    },
}
DIGITS, DEEP = "@digits@", "@deep@"  # put into the text afterwards: no writer gives them
NASTY: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 7, 2**31, 2**63, 2**64, 10**12, 10**30, 1e300, -1e300, 1e-300, math.nan, math.inf, -math.inf),
    *("", "x", "1", "nan", "x" * 5000, "\0", "\ud800", "\udcff", "../../etc", "digits", "hf:a/b", "random", DIGITS, DEEP),
    *([], {}, [[]], [None], [1, 2, 3], {"name": "x"}, {"": 1}, [0.5] * 1000),
)


class Hang(BaseException):
    """A case took too long."""


class Made:
    """What is changed: a run folder, a folder of a timm model, arrays, CIFAR-10's files."""

    def __init__(self, place: Path) -> None:
        self.pictures, self.run = place / "pictures", place / "run"
        rng = np.random.default_rng(0)
        for index in range(IMAGES):
            folder = self.pictures / ("a", "b")[index % 2]
            folder.mkdir(parents=True, exist_ok=True)
            pixels = np.clip(np.eye(3)[index % 3] * 180 + rng.normal(0, 40, (16, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{index:02d}.png")
        self.images = open_images(self.pictures, 16, 3, labels_from_folders=True)
        self.recipe: Recipe = runs.clamp_to_data(recipe.load("photos", SETTINGS, clusters=3), IMAGES)
        runs.fit(self.recipe, self.images, RunFolder(self.run), device="cpu")
        (self.run / "skipped.csv").write_text('path,reason\nx.png,"UnidentifiedImageError: no, not a picture"\ny.jpg,empty\n')
        (self.run / "log").mkdir()
        self.arrays: dict[str, Any] = {
            "images": rng.integers(0, 256, (12, 16, 16, 3), dtype=np.uint8),
            "labels": np.arange(12) % 3,
            "class_names": np.array(["a", "b", "c"]),
        }
        self.rows: dict[str, Any] = {
            "features": rng.normal(size=(12, 5)).astype(np.float32),
            "labels": np.arange(12) % 3,
            "names": np.array([f"row {i}" for i in range(12)]),
        }


def any_of(chance: random.Random, value: Any) -> tuple[Any, Any] | None:
    """A random place in a tree of lists and objects: (its parent, its key); None where there is none."""
    places = [(value, key) for key in (value if isinstance(value, dict) else range(len(value)))]
    for parent, key in places:
        if isinstance(parent[key], dict | list) and len(places) < 5000:
            places += [(parent[key], k) for k in (parent[key] if isinstance(parent[key], dict) else range(len(parent[key])))]
    return chance.choice(places) if places else None


def changed_tree(chance: random.Random, tree: Any) -> Any:
    """The tree with one to three faults."""
    tree = json.loads(json.dumps(tree))
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        place = any_of(chance, tree)
        if place is None:
            break
        parent, key = place
        value = parent[key]
        match chance.randrange(8):
            case 0:
                del parent[key]
            case 1 if isinstance(parent, dict):
                parent[chance.choice((f"{key}x", "name", "extends", ""))] = parent.pop(key)
            case 2 if isinstance(value, list):
                parent[key] = chance.choice((value * 2, value[:-1], [value], value * 1000))
            case 3 if isinstance(value, int | float) and not isinstance(value, bool):
                parent[key] = chance.choice((-value, value + 1, value * 1000, value / 1e6, str(value), float(value)))
            case 4 if other := any_of(chance, tree):
                parent[key] = json.loads(json.dumps(other[0][other[1]]))
            case _:
                parent[key] = chance.choice(NASTY)
    return tree


def with_giants(text: str) -> str:
    """The text with numbers of many digits and lists in lists in lists where they were asked for."""
    deep = "[" * 20_000 + "]" * 20_000
    for mark, giant in ((DIGITS, "9" * 5000), (DEEP, deep)):
        for quoted in (f'"{mark}"', f"'{mark}'", mark):
            text = text.replace(quoted, giant)
    return text


def changed_bytes(chance: random.Random, content: bytes) -> bytes:
    """Bits flipped, cut short, bytes put in or left out."""
    raw, at = bytearray(content), chance.randrange(max(1, len(content)))
    match chance.randrange(5):
        case 0:
            for _ in range(chance.choice((1, 8, 64))):
                place = chance.randrange(min(len(raw), chance.choice((300, len(raw)))))
                raw[place] ^= 1 << chance.randrange(8)
        case 1:
            del raw[at:]
        case 2:
            raw[at:at] = chance.randbytes(chance.randint(1, 200))
        case 3:
            del raw[at : at + chance.randint(1, 50)]
        case _:
            raw[at:at] = raw[: chance.randint(1, 500)]
    return bytes(raw)


def changed_json(chance: random.Random, content: bytes) -> bytes:
    if chance.random() < 0.2:
        return changed_bytes(chance, content)
    return with_giants(json.dumps(changed_tree(chance, json.loads(content)))).encode()


def changed_lines(chance: random.Random, content: bytes) -> bytes:
    """One or two lines of JSON lines changed, swapped, doubled or left out."""
    lines = content.splitlines(keepends=True)
    at = chance.randrange(len(lines))
    match chance.randrange(6):
        case 0:
            lines[at:at] = [chance.choice(lines)]
        case 1:
            chance.shuffle(lines)
        case 2:
            del lines[at]
        case _:
            lines[at] = changed_json(chance, lines[at].strip()) + b"\n"
    return b"".join(lines)


def changed_yaml(chance: random.Random, content: bytes) -> bytes:
    draw, text = chance.random(), content.decode()
    if draw < 0.15:
        return changed_bytes(chance, content)
    if draw < 0.3:
        lines = text.splitlines(keepends=True)
        extra = (
            "extends: run/recipe.yaml\n",
            "a: &a [1]\nb: *a\n",
            "!!python/object:os.system {}\n",
            "? [1]\n: 2\n",
            "<<: {a: 1}\n",
        )
        extra += (
            "<<: {a: 1}\n",
            "a: 2020-99-99\n",
            "a: 1:99:99\n",
            "a: !!binary x\n",
            f"a: 0x{'f' * 9000}\n",
            "--- 1\n",
            "a: [\n",
            "\t\n",
        )
        lines.insert(chance.choice((0, len(lines))), chance.choice((chance.choice(lines), *extra)))
        return "".join(lines).encode()
    tree = changed_tree(chance, yaml.safe_load(text))
    return with_giants(yaml.dump(tree, sort_keys=False)).encode(errors="surrogatepass")


def changed_csv(chance: random.Random, content: bytes) -> bytes:
    """A cell, a row or a column changed."""
    if chance.random() < 0.2:
        return changed_bytes(chance, content)
    table = [line.split(",") for line in content.decode().splitlines()]
    nasty = (
        "nan",
        "inf",
        "-inf",
        "-1",
        "1e999",
        "1e-999",
        "9" * 5000,
        "",
        '"',
        "\0",
        "x" * 200_000,
        "1_0",
        " 1 ",
        "٣",
        "0x1",
        "3.0",
    )
    for _ in range(chance.choice((1, 1, 3))):
        row, column = chance.randrange(len(table)), chance.randrange(5)
        match chance.randrange(7):
            case 0:
                del table[row][column:]
            case 1:
                del table[row]
            case 2:
                for each in table:
                    del each[column : column + 1]
            case 3:
                table.insert(row, list(chance.choice(table or [[""]])))
            case 4:
                table = [list(reversed(each)) for each in table]
            case _:
                cells = table[row]
                if column < len(cells):
                    cells[column] = chance.choice(nasty)
        if not table:
            break
    return "\r\n".join(",".join(row) for row in table).encode(errors="surrogateescape") + b"\r\n"


def changed_array(chance: random.Random, array: torch.Tensor) -> torch.Tensor:
    """Another type, shape or value."""
    match chance.randrange(9):
        case 0:
            return array.to(
                chance.choice((torch.float16, torch.float64, torch.int64, torch.bool, torch.bfloat16, torch.uint8))
            )
        case 1:
            return array.flatten()
        case 2:
            return array.unsqueeze(0)
        case 3:
            return torch.cat([array, array]) if array.ndim else array.repeat(2)
        case 4:
            return array[:0] if array.ndim else array.reshape(1)[:0]
        case 5:
            return array.mT.contiguous() if array.ndim > 1 else array.reshape(-1, 1)
        case 6:
            return array[..., :-1].contiguous() if array.ndim else array
        case _:
            found = array.clone()
            value = chance.choice((math.nan, math.inf, -math.inf, 3e38, -3e38, 1e-40, 0.0, -1.0, 2.0**62))
            if found.is_floating_point():
                found.flatten()[chance.randrange(max(1, found.numel())) :][: chance.choice((1, 10**6))] = value
            elif found.dtype == torch.int64 and math.isfinite(value):
                found.flatten()[: chance.choice((1, 10**6))] = int(min(max(value, -(2.0**62)), 2.0**62))
            return found


def changed_tensors(chance: random.Random, content: bytes, sign: bool = False) -> bytes:
    """Tensors or metadata changed; `sign`: with the digest that belongs to them, as whoever means it would write."""
    draw = chance.random()
    if draw < 0.15:
        return changed_bytes(chance, content)
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    if draw < 0.35:  # of safetensors itself: types, shapes, places
        text = with_giants(json.dumps(changed_tree(chance, header))).encode()
        return struct.pack("<Q", chance.choice((len(text), len(text), len(text), 2**40, 0))) + text + content[8 + length :]
    metadata: dict[str, str] = header.get("__metadata__", {})
    tensors = safetensors.torch.load(content)
    if draw < 0.55 and metadata:
        run_header = changed_tree(chance, json.loads(metadata["run"]))
    else:
        run_header = json.loads(metadata["run"]) if metadata else {}
        name = chance.choice(sorted(tensors))
        match chance.randrange(6):
            case 0:
                del tensors[name]
            case 1:
                tensors[
                    chance.choice((f"{name}x", "centroids", "assigner.centroids", "optimizer.999.momentum_buffer", "x" * 300))
                ] = tensors.pop(name)
            case 2:
                tensors["another"] = torch.zeros(3)
            case _:
                tensors[name] = changed_array(chance, tensors[name])
    if sign and "digest" in run_header:
        run_header["digest"] = checkpoint.digest(checkpoint.on_cpu(tensors))
    told = {"run": with_giants(json.dumps(run_header))} if metadata else None
    return safetensors.torch.save({name: value.contiguous() for name, value in tensors.items()}, told)


def changed_numpy(chance: random.Random, array: Any) -> Any:
    """Another type, shape or value, without a warning where numbers do not fit."""
    shape = array.shape
    with np.errstate(all="ignore"):
        match chance.randrange(8):
            case 0 if array.dtype.kind != "U":
                return array.astype(chance.choice(("<f2", "<f8", "<i1", "<u8", "|b1", "<U5", "<c8", "|S3")))
            case 1:
                return array.reshape(-1)
            case 2:
                return array[: chance.choice((0, -1))]
            case 3:
                return np.asfortranarray(np.concatenate([array, array]))
            case 4:
                return np.array(3)
            case 5:
                return np.full(shape, chance.choice((np.nan, -5, 1e39)))
            case 6:
                return np.full(shape, 2**63, dtype=np.uint64)
            case _:
                return array[::-1]


def changed_member(chance: random.Random, array: Any) -> bytes:
    """An `.npy` of the array, declared larger than it is, of objects, or changed."""
    file, draw = io.BytesIO(), chance.random()
    if draw < 0.4:
        shape = chance.choice(((10**12,), (10**9, 10), (-1,), (0,), (2**63,), (1,) * 40, (3, 10**10)))
        kind = chance.choice((array.dtype.str, "<f8", "|O", "<U1000000", "<M8[s]", "<c16"))
        header = {"descr": kind, "fortran_order": chance.random() < 0.3, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(array.tobytes())
    elif draw < 0.5:
        np.lib.format.write_array(file, np.array([{}, None, "x"], dtype=object), allow_pickle=True)
    else:
        np.lib.format.write_array(file, np.asarray(changed_numpy(chance, array)))
    return file.getvalue()


def changed_npz(chance: random.Random, arrays: dict[str, Any]) -> bytes:
    """An `.npz` with an array changed, left out, declared larger than it is, or of objects."""
    victim, members = chance.choice(sorted(arrays)), dict[str, bytes]()
    for name, array in arrays.items():
        file = io.BytesIO()
        np.lib.format.write_array(file, array)
        members[name] = file.getvalue() if name != victim else changed_member(chance, array)
    if chance.random() < 0.15:
        del members[victim]
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    content = whole.getvalue()
    return changed_bytes(chance, content) if chance.random() < 0.2 else content


def use_model(made: Made, folder: RunFolder, chance: random.Random) -> None:
    """What predict, sort, export, `run:` and report do with a run."""
    r, model = runs.load_model(folder, "cpu")
    assigned = model.assign(made.images.images)
    assert assigned.distances.isfinite().all(), "distances that are not finite"
    assert assigned.ratios.isfinite().all(), "ratios that are not finite"
    assert model.n_clusters == r.clusters
    networks.expects(f"run:{folder.path}")
    networks.open_backbone(f"run:{folder.path}", None, 0)
    sort(folder, folder.path.parent / "sorted", pictures=made.pictures)
    if chance.random() < 0.1:
        page.write(folder, made.images, device="cpu")


def use_table(made: Made, folder: RunFolder, chance: random.Random) -> None:
    runs.evaluate(folder)
    rows = read(folder).rows
    assert rows is not None
    assert rows.assigned.distances.isfinite().all(), "distances that are not finite"
    sort(folder, folder.path.parent / "sorted", pictures=made.pictures)
    if chance.random() < 0.1:
        page.write(folder, made.images, device="cpu")


def use_events(made: Made, folder: RunFolder, chance: random.Random) -> None:
    """The report of an unfinished run, and going on with it."""
    folder.model.unlink()
    page.write(folder)
    if chance.random() < 0.2:
        runs.fit(made.recipe, made.images, folder, resume=True, device="cpu")


def use_recipe(made: Made, folder: RunFolder, chance: random.Random) -> None:
    recipe.load(str(folder.recipe)).to_yaml()
    folder.model.unlink()
    page.write(folder)


def use_checkpoint(made: Made, folder: RunFolder, chance: random.Random) -> None:
    runs.fit(made.recipe, made.images, folder, resume=True, device="cpu")


def use_skipped(made: Made, folder: RunFolder, chance: random.Random) -> None:
    page.diagnostics(read(folder))


Case = Callable[[Made, Path, random.Random], None]


def in_a_run(
    name: str,
    change: Callable[[random.Random, bytes], bytes],
    use: Callable[[Made, RunFolder, random.Random], None],
) -> Case:
    """Changes a file of a copy of the run."""

    def case(made: Made, place: Path, chance: random.Random) -> None:
        shutil.copytree(made.run, place / "run")
        found = sorted((place / "run").glob(name))
        at = chance.choice(found)
        for later in found[found.index(at) + 1 :]:
            later.unlink()
        at.write_bytes(change(chance, at.read_bytes()))
        use(made, RunFolder(place / "run"), chance)

    return case


def timm_case(made: Made, place: Path, chance: random.Random) -> None:
    content = {**TIMM} if chance.random() < 0.7 else {"architecture": "resnet10t", **TIMM["pretrained_cfg"]}  # type: ignore[dict-item]
    (place / "config.json").write_bytes(changed_json(chance, json.dumps(content).encode()))
    networks.expects(f"hub:{place}")


def npz_case(made: Made, place: Path, chance: random.Random) -> None:
    (place / "x.npz").write_bytes(changed_npz(chance, made.arrays))
    open_images(place / "x.npz", 16, 3)


def features_case(made: Made, place: Path, chance: random.Random) -> None:
    if chance.random() < 0.8:
        (place / "x.npz").write_bytes(changed_npz(chance, made.rows))
        open_features(place / "x.npz")
        return
    content = changed_member(chance, made.rows["features"])
    (place / "x.npy").write_bytes(changed_bytes(chance, content) if chance.random() < 0.2 else content)
    open_features(place / "x.npy")


def cifar_case(made: Made, place: Path, chance: random.Random) -> None:
    folder, files, meta = cifar.FILES["cifar10"]
    (place / folder).mkdir()
    pixels = np.zeros((4, 3072), dtype=np.uint8)
    victim = chance.choice((*files, meta))
    for file in (*files, meta):
        labels = {"labels": [0, 1, 2, 1]} if file != meta else {"label_names": ["a", "b", "c"]}
        content: Any = changed_tree(chance, labels) if file == victim else labels
        whole = {**content, "data": pixels} if isinstance(content, dict) else content
        raw = pickle.dumps(whole, protocol=2)
        (place / folder / file).write_bytes(changed_bytes(chance, raw) if file == victim and chance.random() < 0.2 else raw)
    cifar.read("cifar10", place)


KINDS: dict[str, Case] = {
    "config.json": in_a_run("config.json", changed_json, use_model),
    "model.safetensors": in_a_run("model.safetensors", changed_tensors, use_model),
    "recipe.yaml": in_a_run("recipe.yaml", changed_yaml, use_recipe),
    "events.jsonl": in_a_run("events.jsonl", changed_lines, use_events),
    "assignments.csv": in_a_run("assignments.csv", changed_csv, use_table),
    "skipped.csv": in_a_run("skipped.csv", changed_csv, use_skipped),
    "checkpoint": in_a_run(
        "checkpoints/*.safetensors", lambda chance, content: changed_tensors(chance, content, sign=True), use_checkpoint
    ),
    "timm's config.json": timm_case,
    "images.npz": npz_case,
    "features": features_case,
    "cifar-10": cifar_case,
}


def outcome(case: Case, made: Made, chance: random.Random) -> str:
    """`read`, `refused`, or what went wrong."""

    def late(*_: object) -> None:
        raise Hang

    for number, clock, seconds in CLOCKS:
        signal.signal(number, late)
        signal.setitimer(clock, seconds)
    try:
        with tempfile.TemporaryDirectory() as place:
            case(made, Path(place), chance)
        return "read"
    except Hang:
        return f"hung for more than {SECONDS} s of its processor, or {12 * SECONDS} s"
    except ALLOWED as fault:
        return f"memory: {fault}" if ran_out(fault) else "refused"
    except BaseException:
        return traceback.format_exc()
    finally:
        for number, clock, _ in CLOCKS:
            signal.setitimer(clock, 0)
            signal.signal(number, signal.SIG_DFL)


def ran_out(fault: BaseException | None) -> bool:
    """Whether a refusal was in truth the end of the memory."""
    while fault is not None:
        if isinstance(fault, MemoryError) or "alloc" in str(fault).lower() or "not enough memory" in str(fault):
            return True
        fault = fault.__cause__ or fault.__context__
    return False


def limit_memory() -> None:
    """No more than `BYTES` beyond what there is."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--cases", type=int, default=2000)
    found.add_argument("--seed", type=int, default=0)
    found.add_argument("--only", choices=list(KINDS))
    found.add_argument("--json", type=Path)
    return found


def main() -> int:
    arguments = parser().parse_args()
    torch.set_num_threads(1)
    kinds = [arguments.only] if arguments.only else list(KINDS)
    counts, wrong, slowest = Counter[str](), list[dict[str, Any]](), 0.0
    with tempfile.TemporaryDirectory() as place:
        made = Made(Path(place))
        page.write(RunFolder(made.run), made.images, device="cpu")  # all that is imported late is there before the limit
        networks.expects("timm:resnet10t")
        limit_memory()
        began = time.monotonic()
        for number in range(arguments.cases):
            kind = kinds[number % len(kinds)]
            start = time.process_time()
            found = outcome(KINDS[kind], made, random.Random(f"{arguments.seed} {kind} {number}"))
            slowest = max(slowest, time.process_time() - start)
            counts[f"{kind}: {found if found in ('read', 'refused') else 'WRONG'}"] += 1
            if found not in ("read", "refused"):
                wrong.append({"kind": kind, "case": number, "what": found})
                print(f"case {number}, {kind}:\n{found[-3000:]}")
    took = time.monotonic() - began
    print(f"{arguments.cases:,} cases, seed {arguments.seed}: {took:.0f} s, the slowest case {slowest:.1f} s of computing")
    for name, times in sorted(counts.items()):
        print(f"  {times:6,} {name}")
    print(f"{len(wrong)} went wrong")
    if arguments.json:
        found_all = {"cases": arguments.cases, "seconds": took, "slowest": slowest, "counts": counts, "wrong": wrong}
        arguments.json.write_text(json.dumps(found_all, indent=2) + "\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
