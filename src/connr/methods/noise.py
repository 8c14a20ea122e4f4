"""Random numbers that a step draws: the same on every process, and the same after a resumed run as without a stop."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from connr.randomness import stream


class Noise(nn.Module):
    """Draws that depend on the seed of the weights and on how many were drawn before; both are part of the state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.seed, self.drawn = int(torch.randint(2**31, (), device="cpu")), 0

    def uniform(self, shape: Sequence[int], like: Tensor) -> Float[Tensor, "..."]:
        """In (0, 1), on the device of `like`, of its type."""
        generator = stream(self.seed, "noise", self.drawn)
        self.drawn += 1
        tiny = torch.finfo(like.dtype).tiny
        return torch.rand(tuple(shape), generator=generator, dtype=like.dtype, device="cpu").clamp(min=tiny).to(like.device)

    def get_extra_state(self) -> Tensor:
        return torch.tensor([self.seed, self.drawn], device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        self.seed, self.drawn = (int(value) for value in state)
