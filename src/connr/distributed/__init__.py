"""Distributed training: the communicator between processes, the launcher, and synchronised batch norm."""

from connr.distributed.communicator import SINGLE_PROCESS, Communicator, ProcessGroup

__all__ = ["SINGLE_PROCESS", "Communicator", "ProcessGroup"]
