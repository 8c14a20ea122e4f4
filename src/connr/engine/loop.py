"""Algorithm 1, all of it: two stages, told apart only by what they plug into the sockets (Eq. 15)."""

import time
from collections.abc import Callable
from itertools import islice

import torch
from lightning_fabric import Fabric
from torch import Tensor

from connr.clustering.kmeans import Clusters
from connr.data.batches import batches, fetched
from connr.data.rows import Rows
from connr.distributed import SINGLE_PROCESS, Communicator
from connr.distributed.batch_norm import average
from connr.engine import health
from connr.engine.callbacks import Callback, Epoch
from connr.engine.clustering import cluster
from connr.engine.pace import Pace
from connr.engine.plan import Plan
from connr.engine.state import State
from connr.engine.update import Updated, update
from connr.errors import Diverged, Stopped
from connr.frameworks import Framework
from connr.key_memory import KeyMemory
from connr.randomness import stream
from connr.schedules import target_momentum, warmup_cosine


def train(
    fabric: Fabric,
    framework: Framework,
    optimizer: torch.optim.Optimizer,
    images: Rows,
    plan: Plan,
    state: State,
    after_epoch: Callable[[Epoch], None],
    callback: Callback,
    communicator: Communicator = SINGLE_PROCESS,
    stop: Callable[[], bool] = lambda: False,
) -> Clusters:
    """Runs the epochs that are left and returns the final clusters.

    Args:
        fabric: `framework` is on its device.
        optimizer: parameter groups, each with a `role` that `Stage.lr_factors` knows, and a `factor` of its own if it has one.
        images: (n ...) as the stages' views take them; on the device of `fabric`, or on the CPU.
        state: where to go on from; kept up to date, also before `after_epoch` is called.
        ranks: share each batch and each pass over the images; the recipe's batch is that of all ranks.
        stop: asked before every step.

    Raises:
        Stopped: `stop` said so on any rank; all stop before the same step, and the state says which.
        Diverged: a loss or gradient is not finite; `after_epoch` is not called for its epoch.
    """
    n, per_epoch = len(images), plan.steps_per_epoch(len(images))
    steps, warmup = plan.epochs * per_epoch, round(plan.warmup_epochs * per_epoch)
    device, own, shape = fabric.device, communicator.share(plan.batch_size), tuple(images.shape[1:])
    pace = Pace(callback, steps - state.epoch * per_epoch - state.step, device)
    views: tuple[Tensor | None, Tensor | None] = None, None
    framework.train()
    for epoch in range(state.epoch, plan.epochs):
        began = time.monotonic() - state.seconds
        stage = plan.stages[epoch >= plan.t0]  # Eq. 15
        if stage.needs_clusters and state.clusters is None:
            state.clusters = cluster(framework, images, plan, epoch, device, communicator).clusters
        sockets = stage.sockets(epoch, state.clusters)
        # An epoch begins without memory: no image of a batch is then in the pool twice, and no key is older than an epoch.
        state.memory = KeyMemory(stage.memory, state.memory.keys if state.step else ())
        order = islice(batches(n, plan.batch_size, plan.seed, epoch), state.step, None)
        for batch, indices, rows in fetched(images, order, own, device):
            state.seconds = time.monotonic() - began
            if communicator.any(stop()):
                average(framework, communicator)
                raise Stopped
            at = epoch * per_epoch + state.step
            lr = plan.base_lr * plan.batch_size / 256 * warmup_cosine(at, steps, warmup, plan.cosine_reaches_zero)
            for group in optimizer.param_groups:
                group["lr"] = lr * stage.lr_factors[group["role"]] * group.get("factor", 1.0)
            momentum = target_momentum(at, steps, *plan.momenta)

            generator = stream(plan.seed, "views", at)
            drawn = [stage.views.draw(len(batch), shape, generator).rows(own) for _ in range(2)]
            # Those of the step before are done with. Fresh memory costs a sixth of the time for large images on a CPU.
            views = stage.views.apply(rows, drawn[0], views[0]), stage.views.apply(rows, drawn[1], views[1])
            told = update(
                framework,
                optimizer,
                views,
                indices,
                sockets,
                momentum,
                communicator=communicator,
                batch_size=len(batch),
                autocast=fabric.autocast,
                backward=fabric.backward,
                memory=state.memory,
                loss_scale=stage.loss_scale,
            )
            state.step_metrics.append(told)
            state.step += 1
            pace.on_step_end()

        loss, kept, gradient = means(state.step_metrics, epoch, plan)
        state.epoch, state.step, state.step_metrics, state.seconds, state.clusters = epoch + 1, 0, [], 0.0, None
        feature_std, warnings = None, list[str]()
        average(framework, communicator)
        if plan.clusters_due(state.epoch):
            state.clusters, feature_std = cluster(framework, images, plan, state.epoch, device, communicator)
            warnings = health.warnings(state.clusters, feature_std)
        after_epoch(
            Epoch(
                epoch=state.epoch,
                stage=stage.name,
                loss=loss,
                kept=kept,
                gradient=gradient,
                lr=lr,
                target_momentum=momentum,
                seconds=time.monotonic() - began,
                clusters=state.clusters,
                feature_std=feature_std,
                warnings=warnings,
            )
        )
    return state.clusters or cluster(framework, images, plan, state.epoch, device, communicator).clusters


def means(told: list[Updated], epoch: int, plan: Plan) -> tuple[float, float, float]:
    """Loss, share of anchors kept and norm of the gradient, means over the steps of an epoch; here the device is waited for.

    Raises:
        Diverged: one is not finite; the message names the first such step.
    """
    table = torch.stack([torch.stack(one) for one in told])  # (steps 3)
    for step, (loss, _, gradient) in enumerate(table.tolist()):
        if not torch.isfinite(torch.tensor([loss, gradient])).all():
            raise Diverged(
                f"the loss became {loss} and the norm of its gradient {gradient} in step {step + 1} of epoch {epoch + 1}; "
                f"try a lower train.base_lr than {plan.base_lr:g}."
            )
    loss, kept, gradient = table.mean(dim=0).tolist()
    return loss, kept, gradient
