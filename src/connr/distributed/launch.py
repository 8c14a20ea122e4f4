"""Starts the processes (ranks) of a run on this machine, receives their events, and stops them together."""

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

GRACE_SECONDS = 10.0  # that the other ranks have to exit by themselves after one has ended
POLL_SECONDS = 0.2  # between two checks of the ranks
CRASH = " It crashed in compiled code; its Python stack is in the standard error output."
SIGNAL_HINTS = dict.fromkeys(("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"), CRASH) | {
    "SIGKILL": " The system sends it when memory runs out."
}
RESUME_HINT = "To continue from the last checkpoint, run the same command with --resume."

Send = Callable[..., None]  # send(event, *values): to the process that started the ranks


def backend_of(device: str) -> str:
    """`nccl` between GPUs, `gloo` between CPUs."""
    return "nccl" if device == "cuda" else "gloo"


def torchrun_communicator(device: str) -> Communicator:
    """The communicator of the processes that `torchrun` started; `SINGLE_PROCESS` without torchrun."""
    if not under_torchrun() or int(os.environ["WORLD_SIZE"]) == 1:
        return SINGLE_PROCESS
    if not dist.is_initialized():
        if device == "cuda":
            torch.cuda.set_device(local_rank())
        dist.init_process_group(backend_of(device))
    return ProcessGroup()


def under_torchrun() -> bool:
    """Whether `torchrun` started this process. All its variables must be set, as one may be left over in a shell."""
    variables = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    return dist.is_torchelastic_launched() and all(name in os.environ for name in variables)


def local_processes(requested: int) -> int:
    """The number of processes on this machine: that of `torchrun` if it started this one, else `requested`."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", requested)) if under_torchrun() else requested


def local_rank() -> int:
    """The index of this process among those of this machine."""
    return int(os.environ.get("LOCAL_RANK", 0))


def run_in_processes(
    count: int, device: str, function: Callable[..., None], arguments: tuple[object, ...], forward_event: Callable[..., None]
) -> None:
    """Runs `function(communicator, send, *arguments)` in `count` processes and returns when all have ended.

    The first SIGINT or SIGTERM to this process is forwarded to every rank as SIGTERM; the second kills them.

    Args:
        count: number of processes.
        device: `cpu` or `cuda`.
        function: must be importable by name, as the processes are spawned.
        arguments: passed to `function` after `communicator` and `send`.
        forward_event: called as `forward_event(event, *values)` for each `send(event, *values)` of a rank.

    Raises:
        Stopped: a signal was received, and the ranks have stopped.
        InputError: a rank raised it.
        Diverged: a rank raised it.
        OSError: a rank raised it.
        RankLost: a rank ended in any other way; the others are stopped too.
    """
    pipes = [mp.get_context("spawn").Pipe(duplex=False) for _ in range(count)]
    raised: list[Exception] = []
    readers: list[Any] = [reader for reader, _ in pipes]
    deadline, children_before = float("inf"), set(multiprocessing.active_children())
    pids, codes = list[int](), list[int | None]()
    with tempfile.TemporaryDirectory() as directory, _forward_signals(pids) as received:
        rank_arguments = (count, device, Path(directory) / "store", [writer for _, writer in pipes], function, arguments)
        try:
            processes = start_processes(_run_rank, rank_arguments, nprocs=count, join=False, start_method="spawn")
            assert processes is not None
            pids += processes.pids()
            for _, writer in pipes:
                writer.close()
            if received:  # during the start
                raise Stopped(received[0])
            while True:
                wait(list(processes.sentinels), timeout=0 if readers else POLL_SECONDS)
                codes = [process.exitcode for process in processes.processes]  # read before join terminates the others
                if processes.join(timeout=0, grace_period=GRACE_SECONDS):
                    break
                for reader in wait(readers, timeout=POLL_SECONDS):
                    _receive(reader, readers, raised, forward_event)  # type: ignore[arg-type]
                if any(not isinstance(fault, Stopped) for fault in raised):
                    deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
                if time.monotonic() > deadline:
                    break
        except (ProcessExitedException, ProcessRaisedException) as fault:
            for reader in list(readers):
                while reader in readers and reader.poll():
                    _receive(reader, readers, raised, forward_event)
            if received and isinstance(fault, ProcessExitedException) and fault.signal_name in ("SIGTERM", "SIGKILL"):
                raised.append(Stopped(received[0]))
            elif all(isinstance(exception, Stopped) for exception in raised):
                raise RankLost(_describe_exit(fault, codes, processes.pids())) from fault
        finally:
            for process in set(multiprocessing.active_children()) - children_before:
                process.kill()
                process.join()
    for exception in raised:
        if not isinstance(exception, Stopped):
            raise exception
    if raised:
        raise Stopped(received[0] if received else raised[0].args[0])


def _run_rank(
    rank: int,
    count: int,
    device: str,
    store: Path,
    writers: list[Connection],
    function: Callable[..., None],
    arguments: tuple[object, ...],
) -> None:
    """The main function of each process of `run_in_processes`."""
    if not faulthandler.is_enabled():
        faulthandler.enable()
    parent, writer = os.getppid(), writers[rank]
    for other in writers:
        if other is not writer:
            other.close()

    def on_sigint(number: int, _: FrameType | None) -> None:
        if os.getppid() != parent:  # torch sends SIGINT to the children of a killed process
            os._exit(128 + number)

    signal.signal(signal.SIGINT, on_sigint)  # Ctrl-C reaches every process of a terminal: the parent forwards it
    if HANGUP:
        signal.signal(HANGUP, signal.SIG_IGN)  # and so does SIGHUP
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count))
    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    if device == "cuda":
        torch.cuda.set_device(rank)
    file_store = dist.FileStore(str(store), count)  # type: ignore[attr-defined]
    dist.init_process_group(backend_of(device), store=file_store, rank=rank, world_size=count)
    try:
        function(ProcessGroup(), lambda what, *values: writer.send((what, *values)), *arguments)
    except (Stopped, InputError, Diverged, OSError) as fault:
        writer.send((None, fault))
    finally:
        writer.close()
    dist.destroy_process_group()


def _receive(
    reader: Connection, readers: list[Connection], raised: list[Exception], forward_event: Callable[..., None]
) -> None:
    """Receives one message. Removes the reader of a rank that has ended or was killed while it wrote."""
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
def _forward_signals(pids: list[int]) -> Iterator[list[int]]:
    """Forwards stop signals to the ranks; yields the list of received signal numbers."""
    received: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        received.append(number)
        for pid in pids:
            try:
                os.kill(pid, signal.SIGTERM if len(received) == 1 else signal.SIGKILL)
            except ProcessLookupError:
                continue

    numbers = [number for number in SIGNALS if number != HANGUP or signal.getsignal(number) != signal.SIG_IGN]
    try:
        before = {number: signal.signal(number, forward) for number in numbers}
    except ValueError:  # not the main thread, which alone can set handlers
        before = {}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _describe_exit(
    fault: ProcessExitedException | ProcessRaisedException, codes: list[int | None], pids: list[int | None]
) -> str:
    """Which rank ended, and how. If a signal ended one, others may fail as a consequence: report the one with the signal."""
    if isinstance(fault, ProcessExitedException):
        codes = [fault.exit_code if rank == fault.error_index else code for rank, code in enumerate(codes)]
    for rank, code in enumerate(codes):
        if code is not None and code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            return f"rank {rank} (process {pids[rank]}) was ended by {name}.{SIGNAL_HINTS.get(name, '')} {RESUME_HINT}"
    which = f"rank {fault.error_index} (process {fault.error_pid})"
    if isinstance(fault, ProcessExitedException):
        return f"{which} ended with exit code {fault.exit_code}. {RESUME_HINT}"
    return f"{which} failed:\n{fault}"
