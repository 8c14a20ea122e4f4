"""N processes on this machine as the ranks of one run (gloo). None outlives the call.

Timeouts only end what hangs: they are far longer than a busy machine takes, and no assertion depends on them.
"""

import multiprocessing
import os
import pickle
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import last_bits
import torch
import torch.distributed as dist

START = multiprocessing.get_context("forkserver")  # imports torch once, and each rank is a fork of that clean process
START.set_forkserver_preload(["connr.runs"])


HANGS = 600.0  # seconds after which something counts as hung


class RankFailed(AssertionError):
    """A rank raised, died, or did not answer in time. The message holds its traceback or its exit code."""


def run_in_processes(count: int, function: Callable[..., Any], *arguments: Any, timeout: float = HANGS) -> list[Any]:
    """What `function(*arguments)` returns in each of `count` ranks, in rank order; it may use torch.distributed.

    Args:
        function: at the top of a module that can be imported; arguments and answers are pickled.
        timeout: seconds until all are killed.

    Raises:
        RankFailed: as soon as one rank fails; the others are killed.
    """
    processes, pipes, answers = [], [], {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            for rank in range(count):
                ours, theirs = START.Pipe(duplex=False)
                job = (Path(folder) / "store", rank, count, theirs, function, arguments)
                process = START.Process(target=_rank, args=job, daemon=True)
                process.start()
                theirs.close()  # so that its death is an end of file here
                processes.append(process)
                pipes.append(ours)
            deadline = time.monotonic() + timeout
            while len(answers) < count:
                ready = wait([pipe for at, pipe in enumerate(pipes) if at not in answers], deadline - time.monotonic())
                if not ready:
                    raise RankFailed(f"ranks {sorted(set(range(count)) - set(answers))} gave no answer in {timeout:g} s")
                for pipe in ready:
                    answers[pipes.index(pipe)] = _answer(pipe, pipes.index(pipe), processes)
        finally:
            for process in processes:
                process.join(0 if len(answers) < count else HANGS)
                process.kill()
                process.join()
            for pipe in pipes:
                pipe.close()
    return [answers[rank] for rank in range(count)]


def _answer(pipe: Connection, rank: int, processes: list) -> Any:
    try:
        answer, trace = pickle.loads(pipe.recv_bytes())
    except EOFError:
        processes[rank].join(HANGS)
        raise RankFailed(f"rank {rank} died with exit code {processes[rank].exitcode}") from None
    if trace:
        raise RankFailed(f"rank {rank} raised\n{trace}")
    return answer


def _rank(store: Path, rank: int, count: int, pipe: Connection, function: Callable[..., Any], arguments: tuple) -> None:
    torch.set_num_threads(1)
    try:
        # Longer than `on_ranks` waits, so that it is always the caller that says what hung.
        guard = timedelta(seconds=2 * HANGS)
        dist.init_process_group("gloo", init_method=store.as_uri(), rank=rank, world_size=count, timeout=guard)
        with last_bits.moved() if os.environ.get("CONNR_TEST_ULP_NOISE") == "1" else nullcontext():
            answer, trace = function(*arguments), None
        dist.barrier()  # nobody leaves while another still talks
        dist.destroy_process_group()
    except BaseException:
        answer, trace = None, traceback.format_exc()
    pipe.send_bytes(pickle.dumps((answer, trace)))
