"""MoCo v2 (Chen et al. 2020): queries F_o(t(x)), keys F_t(t'(x)), pair loss InfoNCE with negatives from a queue.

With neighbours it is Eq. 17, the mean over i's neighbours k+ of
    -ln( exp(<q, k+> / tau) / (exp(<q, k+> / tau) + sum over the queue exp(<q, k_j> / tau)) ).
"""

from copy import deepcopy
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from connr.losses import info_nce, normalize_rows
from connr.methods.method import Setup
from connr.methods.pairs import PairConfig, TargetNetwork
from connr.networks.heads import mlp
from connr.recipe.section import Count, Positive, Share, Width
from connr.registry import METHODS


class MoCoConfig(PairConfig):
    """Widths of the projector, the queue of negatives, the temperature, the momentum of the key network."""

    name: Literal["moco"] = "moco"
    hidden: Width = 512
    out: Width = 128
    queue: Count = 65536
    temperature: Positive = 0.2
    target_momentum: Share = 0.999
    final_momentum: Share = 0.999


@METHODS.register("moco")
class MoCo(TargetNetwork):
    """Query network, key network that follows it, and a queue of past keys, in which the newest replace the oldest."""

    Config = MoCoConfig
    config: MoCoConfig
    queue: Tensor
    oldest: Tensor

    def __init__(self, config: MoCoConfig, setup: Setup) -> None:
        super().__init__()
        self.config, self.momenta = config, (config.target_momentum, config.final_momentum)
        projector = mlp(setup.width, config.hidden, config.out, batch_norm=False)
        self.online = nn.Sequential(setup.encoder, projector)
        self.target = deepcopy(self.online).requires_grad_(False)
        self.register_buffer("queue", normalize_rows(torch.randn(config.queue, config.out)))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.int64))
        self._new_keys: list[Tensor] = []

    def query(self, view: Float[Tensor, "b ..."]) -> Float[Tensor, "b d"]:
        queries: Tensor = self.online(view)
        return queries

    def pair_loss(self, queries: Float[Tensor, "b d"], positives: Float[Tensor, "b k d"]) -> Float[Tensor, "b k"]:
        return info_nce(queries, positives, self.queue, self.config.temperature)

    def remember(self, keys: Float[Tensor, "b d"]) -> None:
        self._new_keys.append(keys)

    def after_step(self, progress: float) -> None:
        """Moves the key network, and puts the keys of both directions into the queue."""
        super().after_step(progress)
        keys = torch.cat(self._new_keys)[-len(self.queue) :]
        places = (self.oldest + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[places] = keys.to(self.queue.dtype)
        self.oldest.add_(len(keys)).remainder_(len(self.queue))
        self._new_keys.clear()
