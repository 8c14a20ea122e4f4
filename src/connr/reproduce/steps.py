"""Single training steps of a recipe on random images, for timing."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from connr import experiment
from connr.clustering.kmeans import Clusters
from connr.engine import Plan, update
from connr.engine.optimizers import optimizer_for, set_learning_rate
from connr.engine.timeline import Timeline
from connr.methods import Batch, Context, Method, Phase
from connr.methods.connr import ConNRConfig
from connr.methods.method import Autocast
from connr.randomness import stream
from connr.recipe import Recipe


def first_group_epoch(r: Recipe) -> int:
    """t0 of a recipe of ConNR; the number of its epochs for a method without that phase."""
    return r.method.first_group_epoch(r.train.epochs) if isinstance(r.method, ConNRConfig) else r.train.epochs


@dataclass
class Steps:
    """A method and the inputs of its steps; new views of random images are drawn for each step.

    Attributes:
        phases: of the method.
    """

    method: Method
    plan: Plan
    optimizer: torch.optim.Optimizer
    pixels: Tensor
    clusters: Clusters
    phases: Sequence[Phase]
    generator: torch.Generator

    def views(self, phase: Phase) -> dict[str, Tensor]:
        """The views of a phase."""
        return {name: self.plan.views(view)(self.pixels, self.generator) for name, view in phase.views.items()}

    def context(self, phase: Phase, autocast: Autocast = nullcontext) -> Context:
        """Of the first step of a phase."""
        first = next(s.first_epoch for s in self.timeline.segments if s.phase.name == phase.name)
        clusters = self.clusters if phase.needs.clusters else None
        return Context(phase.name, first, self.plan.epochs, 0, len(self.pixels), clusters=clusters, autocast=autocast)

    def run(self, phase: Phase, views: dict[str, Tensor] | None = None, autocast: Autocast = nullcontext) -> Any:
        """One step of a phase, on these views or on new ones, its networks within `autocast`."""
        batch = Batch(views or self.views(phase), torch.arange(len(self.pixels), device=self.pixels.device))
        return update(self.method, self.optimizer, batch, self.context(phase, autocast), 0.5)

    @property
    def timeline(self) -> Timeline:
        """Of a set that is one batch."""
        return Timeline(self.phases, self.plan.epochs, len(self.pixels), len(self.pixels))


def first_step(r: Recipe, batch: int, device: torch.device | None = None, rate: float = 1e-4) -> Steps:
    """A method with initial weights, and random images of the recipe's size.

    Args:
        r: a recipe for images.
        batch: images.
        device: of the method and the images.
        rate: the learning rate, the same in every phase.
    """
    device = device or torch.device("cpu")
    r = r.model_copy(update={"clusters": r.clusters or 10})
    plan = experiment.plan_for(r, [0.5] * r.data.channels, [0.25] * r.data.channels)
    method = experiment.build(r, n_images=batch).to(device).train()
    optimizer = optimizer_for(method, plan.optimizer)
    generator, k = stream(r.seed, "speed"), r.clusters or 10
    shape = (batch, r.data.channels, r.data.size, r.data.size)
    pixels = torch.randint(0, 256, shape, generator=generator).to(device, torch.uint8)
    with torch.no_grad():
        width = method.features().eval()(plan.normalise(pixels[:2])).shape[1]
    method.train()
    clusters = Clusters(torch.randn(k, width, generator=generator).to(device), torch.arange(batch, device=device) % k, 0.0)
    steps = Steps(method, plan, optimizer, pixels, clusters, method.phases(), generator)
    set_learning_rate(optimizer, steps.timeline.segments[0], rate)
    return steps
