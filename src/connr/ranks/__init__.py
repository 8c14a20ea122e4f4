"""The processes of one run: what they exchange, how they are started, batch norm over all of them."""

from connr.ranks.exchange import ALONE, ProcessGroup, Ranks

__all__ = ["ALONE", "ProcessGroup", "Ranks"]
