"""SIGKILL at many instants of a run on the digits; each is resumed, and must end in the very bytes of one left in peace.

python benchmarks/kill.py [--kills 30] [--devices 1] [--seed 0] [--epochs 11]

The instants, in turn: half-way through writing a checkpoint, before and just after its rename, within k-means, within a
step, between the event and its checkpoint, and any moment of a clock.
"""

import argparse
import multiprocessing
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

START = multiprocessing.get_context("forkserver")
START.set_forkserver_preload(["torch", "connr.runs", "sklearn.datasets"])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def nth(number: int, real: Callable[..., Any], before: bool) -> Callable[..., Any]:
    """`real`, but at its `number`-th call the process is killed, before or just after it."""
    calls = 0

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if before and calls == number:
            die()
        result = real(*arguments, **named)
        if calls == number:
            die()
        return result

    return counted


def half_written(number: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """`Path.write_bytes`, but the `number`-th checkpoint is only half there when the process is killed."""
    calls = 0

    def writing(path: Path, content: bytes) -> int:
        nonlocal calls
        calls += path.suffix == ".tmp" and ".safetensors" in path.name
        if calls == number:
            with open(path, "wb") as file:
                file.write(content[: len(content) // 2])
                file.flush()
            die()
        return real(path, content)

    return writing


INSTANTS = ("half a checkpoint", "before the rename", "after the rename", "in k-means", "in a step", "event only", "clock")


def arm(instant: str, number: int, seconds: float) -> None:
    """Has this process killed at an instant."""
    from connr import runs
    from connr.engine import checkpoint, loop, whole_set

    if instant == "half a checkpoint":
        Path.write_bytes = half_written(number, Path.write_bytes)  # type: ignore[method-assign]
    elif instant in ("before the rename", "after the rename"):
        real, killer = Path.replace, nth(number, lambda: None, before=True)

        def replace(path: Path, to: Path) -> Path:
            counts = to.suffix == ".safetensors"
            if counts and instant == "before the rename":
                killer()
            done = real(path, to)
            if counts and instant == "after the rename":
                killer()
            return done

        Path.replace = replace  # type: ignore[assignment, method-assign]
    elif instant == "in k-means":
        whole_set.kmeans = nth(number, whole_set.kmeans, before=True)
    elif instant == "in a step":
        loop.update = nth(number, loop.update, before=False)
    elif instant == "event only":
        checkpoint.save = nth(number, checkpoint.save, before=True)
        runs.checkpoint = checkpoint
    else:
        threading.Timer(seconds, die).start()


def fit(place: Path, settings: list[str], devices: int, resume: bool, kill: tuple[str, int, float] | None) -> None:
    """A run on the digits into `place`, in a process of its own."""
    import torch

    from connr import recipe, runs
    from connr.data import open_images
    from connr.run_folder import RunFolder

    torch.set_num_threads(1)
    folder = RunFolder(place)
    if kill:
        arm(*kill)
    r = recipe.load("digits", settings)
    runs.fit(r, open_images("digits", 8, 1), folder, resume=resume and folder.holds_a_run(), devices=devices, device="cpu")


def in_a_process(*arguments: Any) -> int | None:
    """Exit code of `fit`; -9 is SIGKILL."""
    process = START.Process(target=fit, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def result(place: Path) -> list[bytes]:
    return [(place / name).read_bytes() for name in ("assignments.csv", "model.safetensors")]


def one_kill(peace: Path, place: Path, settings: list[str], devices: int, kill: tuple[str, int, float]) -> tuple[bool, bool]:
    """Kills a run, and resumes it: whether it was killed before its end, and whether it ended as the one left in peace."""
    killed = in_a_process(place, settings, devices, False, kill) == -signal.SIGKILL
    written = list((place / "checkpoints").glob("epoch-*"))
    ended = in_a_process(place, settings, devices, True, None) == 0
    return killed, ended and all(path.is_file() for path in written) and result(place) == result(peace)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=11)
    arguments = parser.parse_args()
    settings, chance = [f"train.epochs={arguments.epochs}", "train.keep_checkpoints=0"], random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        peace = Path(folder) / "peace"
        began = time.monotonic()
        if in_a_process(peace, settings, arguments.devices, False, None):
            raise SystemExit("the run left in peace did not end")
        seconds = time.monotonic() - began
        same = killed = 0
        for number in range(arguments.kills):
            instant = INSTANTS[number % len(INSTANTS)]
            most = {"in k-means": 3, "in a step": 14 * arguments.epochs}.get(instant, arguments.epochs)
            at = chance.randint(1, most), chance.uniform(0, seconds)
            was, equal = one_kill(peace, Path(folder) / str(number), settings, arguments.devices, (instant, *at))
            same, killed = same + equal, killed + was
            what = f"{'killed' if was else 'ended first'}, {'same' if equal else 'DIFFERENT'}"
            print(f"{number + 1:3d} {instant:18s} {what}", flush=True)
    print(f"{killed} of {arguments.kills} runs were killed; {same} of them all ended bit for bit as the one left in peace.")
    raise SystemExit(same < arguments.kills)


if __name__ == "__main__":
    main()
