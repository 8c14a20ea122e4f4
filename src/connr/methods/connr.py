"""ConNR (NeurIPS 2023): a pair method whose positives become, in a second phase, the neighbours of each image.

    phase `instance`, t < t0:   N(i) = {i}, all anchors                       (Eq. 1)
    phase `group`, t >= t0:     N(i) contextual, anchors off the boundary     (Eqs. 3-14, 15)

The base method, the neighbourhood and the anchor filter of either phase are plug-ins of their own.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import nn

from connr.clustering.anchors import AllAnchors, AnchorsConfig, Boundary
from connr.methods.key_memory import KeyMemory
from connr.methods.method import Batch, Context, Method, Needs, Phase, Setup, StepOutput, View
from connr.methods.pairs import LearningRateFactors, PairConfig, PairMethod, keys_of_the_batch, pair_step
from connr.neighbours.contextual import ContextualConfig
from connr.neighbours.itself import ItselfConfig
from connr.neighbours.neighbourhood import NeighbourhoodConfig
from connr.recipe.plugins import MethodConfig
from connr.recipe.section import Fraction, Positive, Section, Share
from connr.registry import ANCHOR_FILTERS, METHODS, NEIGHBOURHOODS, Plugged


class InstancePhase(Section):
    """The first phase.

    `crop_scale` replaces that of `augment`; `lr_factors` multiply the learning rate of each parameter role; `memory` is the
    number of keys of earlier batches, of the same epoch, among which neighbours are searched as well, for batches with fewer
    than k images of a cluster; `loss_scale` multiplies the loss, and so its gradients.
    """

    neighbourhood: Annotated[NeighbourhoodConfig, Plugged(NEIGHBOURHOODS)] = ItselfConfig()
    anchors: Annotated[AnchorsConfig, Plugged(ANCHOR_FILTERS)] = AllAnchors()
    crop_scale: tuple[Fraction, Fraction] | None = None
    lr_factors: LearningRateFactors = LearningRateFactors()
    memory: Annotated[int, Field(ge=0, le=2**20)] = 0
    loss_scale: Positive = 1.0


class GroupPhase(InstancePhase):
    """The second phase."""

    neighbourhood: Annotated[NeighbourhoodConfig, Plugged(NEIGHBOURHOODS)] = ContextualConfig()
    anchors: Annotated[AnchorsConfig, Plugged(ANCHOR_FILTERS)] = Boundary()


class ConNRConfig(MethodConfig):
    """`base`: a pair method. `start`: t0 / T, the share of the epochs before the second phase; 1 leaves it out.

    `loss_mean`: over the `kept` anchors (Eq. 14), or over `all` with the dropped ones as zeros.
    """

    name: Literal["connr"] = "connr"
    base: Annotated[PairConfig, Plugged(METHODS)]
    start: Share = 0.8
    instance: InstancePhase = InstancePhase()
    group: GroupPhase = GroupPhase()
    loss_mean: Literal["kept", "all"] = "kept"

    def first_group_epoch(self, epochs: int) -> int:
        """t0, for a run of `epochs` epochs (Eq. 15)."""
        return round(self.start * epochs)


@METHODS.register("connr")
class ConNR(Method):
    """A base method, and the neighbourhoods and anchors of its two phases."""

    Config = ConNRConfig

    def __init__(self, config: ConNRConfig, setup: Setup) -> None:
        super().__init__()
        self.config = config
        base = METHODS[config.base.name](config.base, setup)
        if not isinstance(base, PairMethod):
            raise TypeError(f"method.base={config.base.name!r} should be a method of query-key pairs.")
        self.base: PairMethod = base
        self.neighbourhoods = {"instance": config.instance.neighbourhood.build(), "group": config.group.neighbourhood.build()}
        size = max(config.instance.memory, config.group.memory)
        self.memory = KeyMemory(size) if size else None

    def phases(self) -> Sequence[Phase]:
        parts = {"instance": (self.config.start, self.config.instance), "group": (1 - self.config.start, self.config.group)}
        return [self._phase(name, share, section) for name, (share, section) in parts.items()]

    def _phase(self, name: str, share: float, section: InstancePhase) -> Phase:
        changes: dict[str, Any] = {} if section.crop_scale is None else {"crop_scale": section.crop_scale}
        return Phase(
            name,
            share,
            views={"one": View(changes=changes), "other": View(changes=changes)},
            needs=Needs(clusters=section.anchors.needs_clusters or self.base.needs_clusters),
            lr_factors=section.lr_factors.model_dump(),
        )

    def training_step(self, batch: Batch, context: Context) -> StepOutput:
        section = self.config.group if context.phase == "group" else self.config.instance
        start = self.config.first_group_epoch(context.epochs)
        anchors = section.anchors.build(context.clusters, context.epoch, start, context.epochs)
        pool = partial(self.memory.pool, size=section.memory) if self.memory is not None else keys_of_the_batch
        neighbourhood, over_all = self.neighbourhoods[context.phase], self.config.loss_mean == "all"
        return pair_step(
            self.base,
            batch,
            context,
            neighbourhood,
            anchors,
            mean_over_all=over_all,
            pool_of=pool,
            loss_scale=section.loss_scale,
        )

    def before_epoch(self, context: Context) -> None:
        """An epoch begins without memory: no image is in a pool twice, and no key is older than an epoch."""
        if self.memory is not None:
            self.memory.clear()

    def after_step(self, progress: float) -> None:
        self.base.after_step(progress)

    def features(self) -> nn.Module:
        return self.base.features()

    def trained_features(self) -> nn.Module:
        return self.base.trained_features()

    def networks(self) -> Sequence[nn.Module]:
        return self.base.networks()

    @property
    def backbone(self) -> nn.Module | None:
        return self.base.backbone

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        return self.base.parameter_groups()


__all__ = ["ConNR", "ConNRConfig", "GroupPhase", "InstancePhase"]
