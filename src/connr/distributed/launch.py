"""Starts the ranks of a run on this machine, hears from them, and takes them down together."""

import faulthandler
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, start_processes

from connr.distributed.communicator import SINGLE_PROCESS, Communicator, ProcessGroup
from connr.errors import Diverged, InputError, RankLost, Stopped
from connr.stops import HANGUP, SIGNALS

GRACE = 10.0  # seconds that the other ranks get to end by themselves once one has ended
LOOK = 0.2  # seconds between two looks at the ranks
CRASH = " It crashed in compiled code; the stack of its Python code is in the standard error output."
WHY = dict.fromkeys(("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"), CRASH) | {
    "SIGKILL": " The system does that when memory runs out."
}
GO_ON = "To continue from the last checkpoint, run the same command with --resume."

Send = Callable[..., None]  # send(what, *values): to be heard in the process that started the ranks


def backend_of(device: str) -> str:
    """`nccl` between GPUs, `gloo` between CPUs."""
    return "nccl" if device == "cuda" else "gloo"


def torchrun_communicator(device: str) -> Communicator:
    """The ranks that `torchrun` started, this process being one of them; alone where it did not."""
    if not under_torchrun() or int(os.environ["WORLD_SIZE"]) == 1:
        return SINGLE_PROCESS
    if not dist.is_initialized():
        if device == "cuda":
            torch.cuda.set_device(local_rank())
        dist.init_process_group(backend_of(device))
    return ProcessGroup()


def under_torchrun() -> bool:
    """Whether `torchrun` started this process; a variable of its own that was left in a shell is not enough."""
    wanted = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    return dist.is_torchelastic_launched() and all(name in os.environ for name in wanted)


def local_processes(asked: int) -> int:
    """How many ranks this machine is to have: as many as `torchrun` started, else as asked."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", asked)) if under_torchrun() else asked


def local_rank() -> int:
    """Which of this machine's ranks this is."""
    return int(os.environ.get("LOCAL_RANK", 0))


def run_in_processes(
    count: int, device: str, function: Callable[..., None], arguments: tuple[object, ...], forward_event: Callable[..., None]
) -> None:
    """Runs `function(ranks, send, *arguments)` in `count` processes, and what they send through `hear`, until all have ended.

    A SIGINT or SIGTERM to this process reaches every rank as SIGTERM, once; at the second they are killed.

    Args:
        function: importable by name, as the processes start afresh.
        device: `cpu` or `cuda`.

    Raises:
        Stopped: a signal came, and the ranks have stopped.
        InputError, Diverged, OSError: a rank raised it.
        RankLost: a rank ended in any other way; the others are ended too.
    """
    ends = [mp.get_context("spawn").Pipe(duplex=False) for _ in range(count)]
    raised: list[Exception] = []
    readers: list[Any] = [reader for reader, _ in ends]
    until, others, pids, codes = float("inf"), set(multiprocessing.active_children()), list[int](), list[int | None]()
    with tempfile.TemporaryDirectory() as place, _passing_on(pids) as asked:
        started = (count, device, Path(place) / "store", [writer for _, writer in ends], function, arguments)
        try:
            processes = start_processes(_rank, started, nprocs=count, join=False, start_method="spawn")
            assert processes is not None
            pids += processes.pids()
            for _, writer in ends:
                writer.close()
            if asked:  # while they were being started
                raise Stopped(asked[0])
            while True:
                wait(list(processes.sentinels), timeout=0 if readers else LOOK)
                codes = [process.exitcode for process in processes.processes]  # before join ends the others
                if processes.join(timeout=0, grace_period=GRACE):
                    break
                for reader in wait(readers, timeout=LOOK):
                    _listen(reader, readers, raised, forward_event)  # type: ignore[arg-type]
                if any(not isinstance(fault, Stopped) for fault in raised):
                    until = min(until, time.monotonic() + GRACE)
                if time.monotonic() > until:
                    break
        except (ProcessExitedException, ProcessRaisedException) as fault:
            for reader in list(readers):
                while reader in readers and reader.poll():
                    _listen(reader, readers, raised, forward_event)
            if asked and isinstance(fault, ProcessExitedException) and fault.signal_name in ("SIGTERM", "SIGKILL"):
                raised.append(Stopped(asked[0]))
            elif all(isinstance(each, Stopped) for each in raised):
                raise RankLost(_describe_exit(fault, codes, processes.pids())) from fault
        finally:
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
                process.join()
    for each in raised:
        if not isinstance(each, Stopped):
            raise each
    if raised:
        raise Stopped(asked[0] if asked else raised[0].args[0])


def _rank(
    rank: int,
    count: int,
    device: str,
    store: Path,
    writers: list[Connection],
    function: Callable[..., None],
    arguments: tuple[object, ...],
) -> None:
    """A process of `on_ranks`, from start to end."""
    if not faulthandler.is_enabled():
        faulthandler.enable()
    parent, writer = os.getppid(), writers[rank]
    for other in writers:
        if other is not writer:
            other.close()

    def interrupted(number: int, _: FrameType | None) -> None:
        if os.getppid() != parent:  # torch sends SIGINT to the orphans of a process that was killed
            os._exit(128 + number)

    signal.signal(signal.SIGINT, interrupted)  # Ctrl-C reaches every process of a terminal: the parent passes it on
    if HANGUP:
        signal.signal(HANGUP, signal.SIG_IGN)  # and so does the terminal's end
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count))
    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    if device == "cuda":
        torch.cuda.set_device(rank)
    meeting = dist.FileStore(str(store), count)  # type: ignore[attr-defined]
    dist.init_process_group(backend_of(device), store=meeting, rank=rank, world_size=count)
    try:
        function(ProcessGroup(), lambda what, *values: writer.send((what, *values)), *arguments)
    except (Stopped, InputError, Diverged, OSError) as fault:
        writer.send((None, fault))
    finally:
        writer.close()
    dist.destroy_process_group()


def _listen(
    reader: Connection, readers: list[Connection], raised: list[Exception], forward_event: Callable[..., None]
) -> None:
    """Takes one message; a rank that has ended, or was killed within a message, is listened to no longer."""
    try:
        what, *values = reader.recv()
    except (EOFError, OSError):
        readers.remove(reader)
        return
    if what is None:
        raised += values
    else:
        forward_event(what, *values)


@contextmanager
def _passing_on(pids: list[int]) -> Iterator[list[int]]:
    """Signals to stop reach the ranks; yields the list of those that came."""
    asked: list[int] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        asked.append(number)
        for pid in pids:
            try:
                os.kill(pid, signal.SIGTERM if len(asked) == 1 else signal.SIGKILL)
            except ProcessLookupError:
                continue

    numbers = [number for number in SIGNALS if number != HANGUP or signal.getsignal(number) != signal.SIG_IGN]
    try:
        before = {number: signal.signal(number, pass_on) for number in numbers}
    except ValueError:  # not the main thread: signals go elsewhere
        before = {}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _describe_exit(
    fault: ProcessExitedException | ProcessRaisedException, codes: list[int | None], pids: list[int | None]
) -> str:
    """Which rank ended, and how. If one died by a signal, others may fail because it is gone: the first one is the cause."""
    if isinstance(fault, ProcessExitedException):
        codes = [fault.exit_code if rank == fault.error_index else code for rank, code in enumerate(codes)]
    for rank, code in enumerate(codes):
        if code is not None and code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            return f"rank {rank} (process {pids[rank]}) was ended by {name}.{WHY.get(name, '')} {GO_ON}"
    which = f"rank {fault.error_index} (process {fault.error_pid})"
    if isinstance(fault, ProcessExitedException):
        return f"{which} ended with exit code {fault.exit_code}. {GO_ON}"
    return f"{which} failed:\n{fault}"
