"""MoCo v2 (Chen et al. 2020): queries F_o(t(x)), keys F_t(t'(x)), pair loss InfoNCE with negatives from a queue.

With neighbours it is Eq. 17, the mean over i's neighbours k+ of
    -log( exp(<q, k+> / tau) / (exp(<q, k+> / tau) + sum over the queue exp(<q, k_j> / tau)) ).
"""

from copy import deepcopy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from connr.frameworks.framework import Framework, move_towards, on_sphere


class MoCo(Framework):
    """Query network, key network that follows it, and a queue of past keys.

    Args:
        encoder: images (b c h w) -> features (b f).
        projector: features (b f) -> projections (b d).
        width: d.
        queue: negatives remembered; the oldest make room for the newest.
        temperature: tau > 0.
    """

    def __init__(self, encoder: nn.Module, projector: nn.Module, width: int, queue: int, temperature: float) -> None:
        super().__init__()
        self.online = nn.Sequential(encoder, projector)
        self.target = deepcopy(self.online).requires_grad_(False)
        self.temperature = temperature
        self.register_buffer("queue", on_sphere(torch.randn(queue, width)))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.int64))
        self.queue: Tensor
        self.oldest: Tensor
        self._new_keys: list[Tensor] = []

    def embed(
        self, query_view: Float[Tensor, "b ..."], key_view: Float[Tensor, "b ..."]
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]:
        queries = self.online(query_view)
        with torch.no_grad():
            keys = on_sphere(self.target(key_view))
        return queries, keys

    def remember(self, keys: Float[Tensor, "b d"]) -> None:
        self._new_keys.append(keys)

    def pair_loss(self, queries: Float[Tensor, "b d"], positives: Float[Tensor, "b k d"]) -> Float[Tensor, "b k"]:
        unit = on_sphere(queries)
        positive = torch.einsum("bd,bkd->bk", unit, on_sphere(positives)) / self.temperature
        negatives = torch.logsumexp(unit @ self.queue.to(unit.dtype).T / self.temperature, dim=1, keepdim=True)
        return torch.logaddexp(positive, negatives) - positive

    def after_step(self, target_momentum: float) -> None:
        """Moves the key network, and puts the keys of both directions into the queue."""
        move_towards(self.target, self.online, target_momentum)
        keys = torch.cat(self._new_keys)[-len(self.queue) :]
        places = (self.oldest + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[places] = keys.to(self.queue.dtype)
        self.oldest.add_(len(keys)).remainder_(len(self.queue))
        self._new_keys.clear()

    @property
    def representation(self) -> nn.Module:
        return self.target

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"encoder": list(self.online.parameters())}
