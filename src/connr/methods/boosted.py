"""DCBoost (Li et al. 2025): for the last epochs of any method, a term on the images whose cluster is certain.

    loss = the method's + weight * (pull together the kept images of one cluster + push apart the clusters' kept means)

An image is kept if its k nearest in the whole set are all of its cluster (`connr.clustering.reliable`). The phases of the
method stay where they are among the epochs; what is after `start` has the term as well.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from connr.clustering.assigners import Assigner
from connr.clustering.reliable import reliable
from connr.losses import boost_loss
from connr.methods.byol import BYOLConfig
from connr.methods.method import Batch, Context, Method, Phase, Setup, StepOutput, View
from connr.recipe.plugins import MethodConfig
from connr.recipe.section import Count, NonNegative, Share
from connr.registry import METHODS, Plugged

SUFFIX = "+boost"  # of the names of phases with the term
PAIR = ("boost_one", "boost_other")  # views that are added where the method has fewer than two random ones


class BoostedConfig(MethodConfig):
    """`base`: any method. `start`: the share of the epochs without the term. `most`: the largest k that is tried."""

    name: Literal["boosted"] = "boosted"
    base: Annotated[MethodConfig, Plugged(METHODS)] = BYOLConfig()
    start: Share = 0.8
    weight: NonNegative = 1.0
    most: Count = 50


@METHODS.register("boosted")
class Boosted(Method):
    """A method, and which images are kept."""

    Config = BoostedConfig
    kept: Tensor

    def __init__(self, config: BoostedConfig, setup: Setup) -> None:
        super().__init__()
        self.config, self.n_clusters = config, setup.n_clusters
        self.base: Method = METHODS[config.base.name](config.base, setup)
        self.register_buffer("kept", torch.zeros(setup.n_images, dtype=torch.bool))

    @classmethod
    def input_channels(cls, config: BoostedConfig, channels: int) -> int:
        found: int = METHODS[config.base.name].input_channels(config.base, channels)
        return found

    def phases(self) -> Sequence[Phase]:
        return list(self._phases())

    def _phases(self) -> Iterator[Phase]:
        phases = self.base.phases()
        total, before = sum(phase.share for phase in phases), 0.0
        for phase in phases:
            end = before + phase.share / total
            plain = min(max(self.config.start - before, 0.0), end - before)
            yield replace(phase, share=plain)
            whole_set = phase.needs.neighbours is not None or phase.needs.features
            needs = phase.needs._replace(clusters=True, features=True, every=phase.needs.every if whole_set else 1)
            views = {**phase.views, **{name: View() for name in PAIR if name in two_of(phase)}}
            yield replace(phase, name=phase.name + SUFFIX, share=end - before - plain, views=views, needs=needs)
            before = end

    def before_epoch(self, context: Context) -> None:
        if context.phase.endswith(SUFFIX):
            assert context.features is not None  # the phase needs both
            assert context.clusters is not None
            self.kept.copy_(reliable(context.features, context.clusters.assignments, self.config.most).kept)
        self.base.before_epoch(self._of_base(context))

    def training_step(self, batch: Batch, context: Context) -> StepOutput:
        own = self._of_base(context)
        phase = next(phase for phase in self.base.phases() if phase.name == own.phase)
        output: StepOutput = self.base(batch._replace(views={name: batch.views[name] for name in phase.views}), own)
        if not context.phase.endswith(SUFFIX):
            return output
        assert context.clusters is not None  # the phase needs them
        network, indices = self.base.trained_features(), context.collect(batch.indices)
        with context.autocast():
            rows = [network(batch.views[name]) for name in two_of(phase)]
        one, other = (context.gather(each) for each in rows)
        labels, kept = context.clusters.assignments[indices], self.kept[indices]
        boost = boost_loss(one, other, labels, kept, self.n_clusters)
        metrics = {**output.metrics, "boost": boost.detach(), "reliable": kept.to(boost).mean()}
        return StepOutput(output.loss + self.config.weight * boost, metrics)

    def _of_base(self, context: Context) -> Context:
        """The context as the base method's own phases have it."""
        return replace(context, phase=context.phase.removesuffix(SUFFIX))

    def after_step(self, progress: float) -> None:
        self.base.after_step(progress)

    def features(self) -> nn.Module:
        return self.base.features()

    def trained_features(self) -> nn.Module:
        return self.base.trained_features()

    def assigner(self) -> Assigner:
        return self.base.assigner()

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        return self.base.parameter_groups()

    def networks(self) -> Sequence[nn.Module]:
        return self.base.networks()

    @property
    def backbone(self) -> nn.Module | None:
        return self.base.backbone


def two_of(phase: Phase) -> tuple[Any, Any]:
    """The names of the two views that the term compares: random ones of the image itself, added where there are fewer."""
    random = [name for name, view in phase.views.items() if view.of == "image" and view.kind != "plain"]
    names = [*random[:2], *PAIR][:2]
    return names[0], names[1]
