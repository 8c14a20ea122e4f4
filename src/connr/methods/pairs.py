"""Methods that score pairs of a query and a key, and the one step that all of them share (Algorithm 1 of the paper).

    queries, keys = embed_both(view, other view)          line 3
    N(i)  among the keys: itself, local or contextual     lines 4-5, Eqs. 1, 2, 3-7
    kept  anchors: all, or those off a boundary           line 6, Eqs. 9-13
    loss  = mean over kept i of the mean over j in N(i) of pair_loss(query_i, key_j)    line 7, Eqs. 8, 14

With N(i) = {i} and all anchors it is the loss of BYOL, SimSiam and MoCo v2 (Eq. 1); both directions are averaged.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from connr.clustering.anchors import AnchorFilter, all_anchors
from connr.losses import group_mean, normalize_rows
from connr.methods.method import Batch, Context, Method, Phase, StepOutput, move_towards
from connr.neighbours import itself
from connr.recipe.plugins import MethodConfig
from connr.recipe.section import NonNegative, Section
from connr.schedules import target_momentum

Neighbourhood = Callable[[Tensor], Tensor]  # pool (p d) -> indices (p k)
Pool = Callable[[int, Tensor], Tensor]  # direction, keys (b d) -> keys to search neighbours among (p d), those first


class LearningRateFactors(Section):
    """Factors on the learning rate, for the parameters of each role; the encoder's are those of the projector too."""

    encoder: NonNegative = 1.0
    predictor: NonNegative = 1.0


class PairConfig(MethodConfig):
    """`lr_factors`: on the learning rate, where the method is trained by itself."""

    lr_factors: LearningRateFactors = LearningRateFactors()


class PairMethod(Method):
    """A method of queries and keys; alone it has one phase, in which every image is its own neighbour."""

    config: PairConfig

    @abstractmethod
    def embed_both(
        self, one: Float[Tensor, "b ..."], other: Float[Tensor, "b ..."]
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Both directions of a step: queries of `one` with gradient, L2-normalised keys of `other` without; then reversed."""

    @abstractmethod
    def pair_loss(self, queries: Float[Tensor, "b d"], positives: Float[Tensor, "b k d"]) -> Float[Tensor, "b k"]:
        """The loss of each query with each of its k positives, which are keys."""

    @property
    def needs_clusters(self) -> bool:
        """Whether its steps use the clusters that k-means finds before every epoch."""
        return False

    def before_step(self, batch: Batch, context: Context) -> None:
        """Called before `embed_both` of every step."""
        return

    def batch_term(self, direction: int, context: Context) -> Tensor | None:
        """A loss beside that of the pairs, of the step's embeddings: scalar, of the whole batch; None for none."""
        return None

    def remember(self, keys: Float[Tensor, "b d"]) -> None:
        """Given the keys of all processes, once for each direction of a step."""
        return

    def phases(self) -> Sequence[Phase]:
        return [Phase("instance", lr_factors=self.config.lr_factors.model_dump())]

    def training_step(self, batch: Batch, context: Context) -> StepOutput:
        return pair_step(self, batch, context, itself, all_anchors)


def keys_of_the_batch(direction: int, keys: Tensor) -> Tensor:  # noqa: ARG001 - a Pool
    """The pool that holds the keys of the batch alone."""
    return keys


def pair_step(
    method: PairMethod,
    batch: Batch,
    context: Context,
    neighbourhood: Neighbourhood,
    anchors: AnchorFilter,
    *,
    mean_over_all: bool = False,
    pool_of: Pool = keys_of_the_batch,
    loss_scale: float = 1.0,
) -> StepOutput:
    """The symmetric loss of one batch.

    Args:
        method: embeds and scores.
        batch: with the views `one` and `other`.
        context: of the step.
        neighbourhood: of every key of the pool; the first ones are those of the batch.
        anchors: which of the batch's images are anchors.
        mean_over_all: divides by all anchors, not by the kept ones, as the released program does.
        pool_of: the keys that neighbours are searched among, for each direction.
        loss_scale: multiplies the loss, and so its gradients.
    """
    one, other = batch.views["one"], batch.views["other"]
    losses, shares = [], []
    with torch.autocast(one.device.type, enabled=False):
        method.before_step(batch, context)
        with context.autocast():
            embedded = method.embed_both(one, other)
        for direction, (queries, keys) in enumerate(embedded):
            with torch.no_grad():
                of_batch = context.collect(keys)
                method.remember(of_batch)
                pool = pool_of(direction, of_batch)
                neighbours = neighbourhood(pool)
                kept = anchors(of_batch, context.collect(batch.indices))
            pairs = method.pair_loss(queries, pool[neighbours[: len(of_batch)][context.own]])
            total = kept.new_full((), len(kept), dtype=torch.int64) if mean_over_all else kept.sum()
            losses.append(group_mean(pairs, kept[context.own], total))
            shares.append(kept.float().mean())
        loss = (losses[0] + losses[1]) / 2 * (context.communicator.count * loss_scale)
        metrics = {"kept": (shares[0] + shares[1]) / 2}
        terms = [term for direction in (0, 1) if (term := method.batch_term(direction, context)) is not None]
        if terms:
            mean = torch.stack(terms).mean()
            loss, metrics["batch_term"] = loss + mean * loss_scale, mean.detach()
    return StepOutput(loss, metrics)


class TargetNetwork(PairMethod):
    """A pair method whose keys come from a moving average of the online network.

    A subclass sets `online`, `target` and `momenta`, the target's momentum at the start and the end of training.
    """

    online: nn.Module
    target: nn.Module
    momenta: tuple[float, float]

    @abstractmethod
    def query(self, view: Float[Tensor, "b ..."]) -> Float[Tensor, "b d"]:
        """Queries of a view, with gradient."""

    def embed_both(
        self, one: Float[Tensor, "b ..."], other: Float[Tensor, "b ..."]
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        return (self.query(one), self._keys(other)), (self.query(other), self._keys(one))

    def _keys(self, view: Float[Tensor, "b ..."]) -> Float[Tensor, "b d"]:
        with torch.no_grad():
            return normalize_rows(self.target(view))

    def after_step(self, progress: float) -> None:
        move_towards(self.target, self.online, target_momentum(progress, *self.momenta))

    def features(self) -> nn.Module:
        return self.target

    def trained_features(self) -> nn.Module:
        return self.online

    @property
    def backbone(self) -> nn.Module:
        return self.online.get_submodule("0")

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        return {"encoder": list(self.online.parameters())}
