"""Algorithm 1, all of it: two stages, told apart only by what they plug into the sockets (Eq. 15)."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from lightning.fabric import Fabric
from torch import Tensor

from connr import algorithm
from connr.augment import Augment
from connr.data.batches import batches
from connr.errors import Diverged
from connr.frameworks import Framework
from connr.kmeans import Clusters, kmeans
from connr.randomness import stream
from connr.schedules import target_momentum, warmup_cosine
from connr.training.events import Epoch, Listener
from connr.training.features import extract

STEPS_TO_ESTIMATE_FROM, SECONDS_TO_ESTIMATE_FROM = 5, 10.0  # whichever comes first


@dataclass(frozen=True)
class Stage:
    """What a stage plugs in. `sockets(epoch, clusters)` gives the neighbourhood and anchor filter of an epoch."""

    name: str
    sockets: Callable[[int, Clusters | None], algorithm.Sockets]
    needs_clusters: bool
    augment: Augment
    lr_factors: dict[str, float]


@dataclass(frozen=True)
class Plan:
    """The numbers of a whole run; t0 is the first epoch of stage 2, momenta those of the target at start and end."""

    epochs: int
    t0: int
    stages: tuple[Stage, Stage]
    batch_size: int
    base_lr: float
    warmup_epochs: float
    cosine_reaches_zero: bool
    momenta: tuple[float, float]
    n_clusters: int
    restarts: int
    max_iterations: int
    reseed_empty: bool
    evaluate_every: int
    seed: int

    def steps_per_epoch(self, n: int) -> int:
        return n // self.batch_size

    def clusters_due(self, finished: int) -> bool:
        """Whether k-means runs after so many epochs: every epoch from t0 on, at the end, and when the log asks for it."""
        logged = self.evaluate_every and finished % self.evaluate_every == 0
        return bool(finished >= self.t0 or finished == self.epochs or logged)


@dataclass
class State:
    """How far a run has come: epochs finished, and the clusters found after the last of them, if any were due."""

    epoch: int = 0
    clusters: Clusters | None = None


def train(
    fabric: Fabric,
    framework: Framework,
    optimizer: torch.optim.Optimizer,
    images: UInt8[Tensor, "n c h w"],
    plan: Plan,
    state: State,
    after_epoch: Callable[[Epoch], None],
    listener: Listener,
) -> Clusters:
    """Runs the epochs that are left and returns the final clusters.

    Raises:
        Diverged: the loss of an epoch is not finite; its checkpoint is not written.

    Args:
        fabric: `framework` and `images` are on its device.
        optimizer: one parameter group per role, each with a `role` key that `Stage.lr_factors` knows.
        state: where to go on from; updated after every epoch, before `after_epoch` is called.
    """
    n, per_epoch = len(images), plan.steps_per_epoch(len(images))
    steps, warmup = plan.epochs * per_epoch, round(plan.warmup_epochs * per_epoch)

    def cluster() -> Clusters:
        features = extract(framework.representation, images, plan.stages[0].augment.normalise, images.device)
        spread.append(features.std(dim=0, unbiased=False).mean() * features.shape[1] ** 0.5)
        generator = stream(plan.seed, "kmeans", state.epoch)
        return kmeans(
            features,
            plan.n_clusters,
            restarts=plan.restarts,
            max_iterations=plan.max_iterations,
            reseed_empty=plan.reseed_empty,
            generator=generator,
        )

    spread: list[Tensor] = []
    pace = _Pace(listener, steps - state.epoch * per_epoch, images.device)
    framework.train()
    for epoch in range(state.epoch, plan.epochs):
        began = time.monotonic()
        stage = plan.stages[epoch >= plan.t0]  # Eq. 15
        if stage.needs_clusters and state.clusters is None:
            state.clusters = cluster()
        sockets = stage.sockets(epoch, state.clusters)
        losses, kept = [], []
        for at, indices in enumerate(batches(n, plan.batch_size, plan.seed, epoch), start=epoch * per_epoch):
            lr = plan.base_lr * plan.batch_size / 256 * warmup_cosine(at, steps, warmup, plan.cosine_reaches_zero)
            for group in optimizer.param_groups:
                group["lr"] = lr * stage.lr_factors[group["role"]]
            momentum = target_momentum(at, steps, *plan.momenta)

            indices = indices.to(images.device)
            batch, generator = images[indices], stream(plan.seed, "views", at)
            views = stage.augment(batch, generator), stage.augment(batch, generator)
            concordance = algorithm.step(framework, views, indices, sockets, autocast=fabric.autocast)
            optimizer.zero_grad()
            fabric.backward(concordance.loss)
            optimizer.step()
            framework.after_step(momentum)

            losses.append(concordance.loss.detach())
            kept.append(concordance.kept)
            pace.stepped()

        loss = float(torch.stack(losses).mean())
        if not math.isfinite(loss):
            raise Diverged(f"the loss became {loss} in epoch {epoch + 1}; try a lower train.base_lr than {plan.base_lr:g}.")
        state.epoch = epoch + 1
        state.clusters = cluster() if plan.clusters_due(state.epoch) else None
        after_epoch(
            Epoch(
                epoch=state.epoch,
                stage=stage.name,
                loss=loss,
                kept=float(torch.stack(kept).mean()),
                lr=lr,
                target_momentum=momentum,
                seconds=time.monotonic() - began,
                clusters=state.clusters,
                feature_std=float(spread[-1]) if state.clusters else None,
            )
        )
    return state.clusters or cluster()


class _Pace:
    """Times a few steps after a warm-up one, and tells how long the steps that are left will take at their pace."""

    def __init__(self, listener: Listener, left: int, device: torch.device) -> None:
        self.listener, self.left, self.device, self.done, self.began = listener, left, device, 0, 0.0
        self.told = False

    def stepped(self) -> None:
        self.done += 1
        if not self.told:
            self._measure()
        self.listener.stepped()

    def _measure(self) -> None:
        if self.device.type != "cpu":
            torch.accelerator.synchronize()
        now = time.monotonic()
        if self.done == 1:
            self.began = now
        elif self.done == 1 + STEPS_TO_ESTIMATE_FROM or now - self.began > SECONDS_TO_ESTIMATE_FROM:
            self.told = True
            self.listener.estimated((now - self.began) / (self.done - 1) * (self.left - self.done))
