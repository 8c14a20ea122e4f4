"""The processes of one run: what they exchange, how they are started, batch norm over all of them."""

from connr.distributed.communicator import SINGLE_PROCESS, Communicator, ProcessGroup

__all__ = ["SINGLE_PROCESS", "Communicator", "ProcessGroup"]
