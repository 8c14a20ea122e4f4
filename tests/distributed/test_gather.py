"""The rows of all processes with gradient: a loss of the whole batch has the gradients that autograd gives one process."""

import pytest
import torch
from conftest import unit_rows
from processes import run_in_processes
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from connr.distributed import SINGLE_PROCESS, ProcessGroup
from connr.losses import negative_mutual_information, nt_xent

LOSSES = {
    "columns": lambda rows, others: negative_mutual_information(rows.softmax(dim=1), others.softmax(dim=1)),
    "rows": lambda rows, others: nt_xent(rows, others, 0.3),
    "products": lambda rows, others: (rows @ others.T).pow(3).sum(),
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4)).double()


def gradients(communicator, name, n, twice):
    """Of the input rows of this process, and of the weights; the mean over the processes, as DDP takes it."""
    own, model = communicator.share(n), network()
    called = DistributedDataParallel(model) if communicator.count > 1 else model
    rows = unit_rows(n, 5, 3)[own].clone().requires_grad_()
    z = called(rows)
    other = communicator.gather_with_gradient(z * 2 if twice else z.detach().cos(), n)
    loss = LOSSES[name](communicator.gather_with_gradient(z, n), other)
    loss.backward()
    return loss.item(), rows.grad, [p.grad for p in model.parameters()]


def in_a_process(*arguments):
    return gradients(ProcessGroup(), *arguments)


@pytest.mark.parametrize("count", [2, 3])
def test_gradients_over_processes_are_those_of_the_whole_batch(count):
    """7 rows go into 2 as 3, 4, into 3 as 2, 2, 3."""
    for name in LOSSES:
        for twice in (True, False):
            loss, rows, weights = gradients(SINGLE_PROCESS, name, 7, twice)
            processes = run_in_processes(count, in_a_process, name, 7, twice)
            assert [found[0] for found in processes] == pytest.approx(count * [loss], rel=1e-12)
            assert len({len(found[1]) for found in processes}) == 2  # uneven shares
            theirs = torch.cat([found[1] for found in processes])
            assert torch.allclose(theirs, count * rows, rtol=1e-9, atol=1e-13)  # the sum of what all losses have for them
            for found in processes:
                for mine, expected in zip(found[2], weights, strict=True):
                    assert torch.allclose(mine, expected, rtol=1e-9, atol=1e-13)


def test_one_process_gives_its_rows():
    rows = unit_rows(5, 3, 0)
    assert SINGLE_PROCESS.gather_with_gradient(rows, 5) is rows
