import faulthandler
import os
import signal
import threading

import pytest
import torch
from processes import RankFailed, run_in_processes

from connr.distributed import SINGLE_PROCESS, Communicator, ProcessGroup, launch
from connr.errors import RankLost


def told(total):
    """All that a rank can ask, of `total` rows."""
    ranks = ProcessGroup()
    own = torch.arange(total, dtype=torch.float32).view(-1, 1).repeat(1, 3)[ranks.share(total)]
    summed = torch.full((2,), ranks.rank + 0.1)
    assert ranks.sum(summed) is summed
    rows = [ranks.gather(own), ranks.gather(own[:, 0] > 1), ranks.gather(own[:0])]
    return ranks.rank, ranks.count, ranks.share(total), rows, summed


@pytest.mark.parametrize(("count", "total"), [(1, 5), (2, 5), (4, 2)])
def test_ranks_share_gather_and_sum(count, total):
    whole = torch.arange(total, dtype=torch.float32).view(-1, 1).repeat(1, 3)
    all_anchors = run_in_processes(count, told, total)
    for at, (rank, size, share, (rows, flags, none), summed) in enumerate(all_anchors):
        assert (rank, size) == (at, count)
        assert share.stop - share.start in (total // count, -(-total // count))
        assert torch.equal(rows, whole)
        assert torch.equal(flags, whole[:, 0] > 1)
        assert none.shape == (0, 3)
        assert torch.equal(summed, all_anchors[0][-1])
        assert summed.tolist() == pytest.approx([sum(range(count)) + 0.1 * count] * 2)


def test_shares_are_all_rows_once_in_order():
    for total in range(12):
        for count in range(1, 6):
            ranks = Communicator()
            ranks.count, rows = count, []
            for ranks.rank in range(count):
                rows += range(total)[ranks.share(total)]
            assert rows == list(range(total))


def test_alone_there_is_nothing_to_exchange():
    rows = torch.arange(6.0).view(3, 2)
    assert SINGLE_PROCESS.gather(rows) is rows
    assert SINGLE_PROCESS.sum(rows) is rows
    assert SINGLE_PROCESS.share(3) == slice(0, 3)


def fails_on_the_last(how):
    if ProcessGroup().rank == 1:
        if how == "raises":
            raise ValueError("rank one is unwell")
        if how == "dies":
            os._exit(7)
    threading.Event().wait()  # for ever


@pytest.mark.parametrize(
    ("how", "says"),
    [("raises", "rank one is unwell"), ("dies", "rank 1 died .* 7"), ("hangs", r"ranks \[0, 1\] gave .* in 1 s")],
)
def test_the_helper_itself_neither_hangs_nor_hides_a_failure(how, says):
    """A helper that waited for the ranks that go on for ever would say that they gave no answer."""
    with pytest.raises(RankFailed, match=says):
        run_in_processes(2, fails_on_the_last, how, **({"timeout": 1} if how == "hangs" else {}))


def dies_on_the_last(ranks, _, number):
    """The other rank waits for this one, and fails when it is gone."""
    assert faulthandler.is_enabled()
    if ranks.rank == 1:
        os.kill(os.getpid(), number)
    ranks.sum(torch.ones(3))


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (signal.SIGSEGV, r"rank 1 \(process \d+\) was ended by SIGSEGV\. It crashed in compiled code; .* with --resume\."),
        (signal.SIGKILL, r"rank 1 \(process \d+\) was ended by SIGKILL\. The system .* memory .* with --resume\."),
    ],
)
def test_a_rank_that_a_signal_ended_is_named_with_a_trace_and_how_to_go_on(number, says, capfd):
    with pytest.raises(RankLost, match=says):
        launch.run_in_processes(2, "cpu", dies_on_the_last, (int(number),), print)
    trace = capfd.readouterr().err
    if number == signal.SIGSEGV:
        assert "Fatal Python error: Segmentation fault" in trace
        assert "in dies_on_the_last" in trace
