"""A neighbourhood as a plug-in: a config that builds a function from L2-normalised rows (b d) to indices (b k)."""

from abc import abstractmethod
from collections.abc import Callable

from torch import Tensor

from connr.recipe.section import Section

Neighbourhood = Callable[[Tensor], Tensor]


class NeighbourhoodConfig(Section):
    """The numbers of a neighbourhood. Sizes that a batch must have are named `k`, `k1` or `k2`."""

    name: str

    @abstractmethod
    def build(self) -> Neighbourhood:
        """L2-normalised rows (b d) to the indices (b k) of each row's neighbours, the row itself first."""
