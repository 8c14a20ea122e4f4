"""The training loop: the phases of a method over the epochs of a run, with passes over the whole set where needed."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from connr.data.batches import batches, fetched
from connr.data.rows import Rows
from connr.distributed import SINGLE_PROCESS, Communicator
from connr.distributed.batch_norm import average
from connr.engine import health, optimizers
from connr.engine.callbacks import Callback, Epoch
from connr.engine.pace import Pace
from connr.engine.plan import Plan
from connr.engine.state import State
from connr.engine.timeline import Segment, Timeline
from connr.engine.update import distributed, update
from connr.engine.whole_set import Clustering, cluster, neighbours_and_features
from connr.errors import Diverged, Stopped
from connr.methods.method import Batch, Context, Method, View
from connr.randomness import stream
from connr.views import Views


def train(
    fabric: Fabric,
    method: Method,
    images: Rows,
    plan: Plan,
    state: State,
    after_epoch: Callable[[Epoch], None],
    callback: Callback,
    communicator: Communicator = SINGLE_PROCESS,
    stop: Callable[[], bool] = lambda: False,
) -> Clustering:
    """Trains the remaining epochs and returns the clustering of all images.

    Args:
        fabric: `method` is on its device.
        method: to train.
        images: (n ...) as the views take them; on the device of `fabric`, or on the CPU.
        plan: the settings of the run.
        state: the position to start from; updated in place, before `after_epoch` is called.
        after_epoch: called with the record of every epoch.
        callback: its `on_step_end` is called after every step.
        communicator: between the processes that share each batch and each pass over the images. The batch size of the
            recipe is the global one.
        stop: called before every step; True stops the training.

    Raises:
        Stopped: `stop` returned True in any process. All processes stop before the same step, which `state` holds.
        Diverged: a loss or gradient is not finite; `after_epoch` is not called for its epoch.
    """
    timeline = Timeline(method.phases(), plan.epochs, len(images), plan.batch_size)
    device, pace = fabric.device, Pace(callback, timeline.steps - timeline.position(state.epoch, state.step), fabric.device)
    clustering: Clustering | None = None
    segment: Segment | None = None
    while state.epoch < plan.epochs:
        epoch, began = state.epoch, time.monotonic() - state.seconds
        if segment is not (segment := timeline.segment(epoch)):
            span = start_phase(segment, timeline, method, plan, state)
            step = distributed(method, communicator, segment.phase.find_unused_parameters)
            views = {name: (view, plan.views(view)) for name, view in segment.phase.views.items()}
            memory: dict[str, Tensor | None] = dict.fromkeys(views)
        first_step = timeline.position(epoch, 0)
        context = before_epoch(fabric, method, images, plan, state, segment, first_step, communicator)
        local = communicator.share(segment.batch_size)
        order = islice(batches(len(images), segment.batch_size, plan.seed, epoch), state.step, None)
        method.train()
        for indices, local_indices, rows in fetched(images, order, local, device):
            state.seconds = time.monotonic() - began
            if communicator.any(stop()):
                average(method, communicator)
                raise Stopped
            at = timeline.position(epoch, state.step)
            rate = optimizers.learning_rate(plan, segment, span, at)
            assert state.optimizer is not None  # set by `start_phase`
            optimizers.set_learning_rate(state.optimizer, segment, rate)
            neighbours = sample_neighbours(context, indices, segment, plan.seed, at)
            generator = stream(plan.seed, "views", at)
            for name, (view, transform) in views.items():
                local_neighbours = None if neighbours is None else neighbours[local].to(device)
                source = rows_of_view(view, images, rows, local_neighbours, device)
                memory[name] = compute_view(view, transform, source, len(indices), local, generator, memory[name])
            of_batch = None if neighbours is None else neighbours[local].to(device)
            batch = Batch(memory.copy(), local_indices, of_batch)  # type: ignore[arg-type]
            here = replace(context, step=at)
            metrics = update(method, state.optimizer, batch, here, at / timeline.steps, step=step, backward=fabric.backward)
            state.step_metrics.append(metrics)
            state.step += 1
            pace.on_step_end()

        means = mean_metrics(state.step_metrics, epoch, plan)
        state.epoch, state.step, state.step_metrics, state.seconds = epoch + 1, 0, [], 0.0
        state.clusters = state.assigner = None
        average(method, communicator)
        feature_std, warnings, clustering = None, list[str](), None
        if needs_clustering(timeline, state.epoch, plan):
            clustering = cluster(method, images, plan, state.epoch, device, communicator)
            state.clusters, state.assigner, feature_std = clustering.clusters, clustering.assigner, clustering.feature_std
            warnings = health.warnings(clustering.clusters, clustering.feature_std)
        after_epoch(
            Epoch(
                epoch=state.epoch,
                phase=segment.phase.name,
                metrics=means,
                lr=rate,
                seconds=time.monotonic() - began,
                clusters=state.clusters,
                feature_std=feature_std,
                warnings=warnings,
            )
        )
    if clustering is None:
        clustering = cluster(method, images, plan, state.epoch, device, communicator)
        state.clusters, state.assigner = clustering.clusters, clustering.assigner
    return clustering


def start_phase(segment: Segment, timeline: Timeline, method: Method, plan: Plan, state: State) -> tuple[Segment, ...]:
    """Prepares the optimiser of a phase, which consecutive phases may share, and freezes parameters.

    Args:
        segment: of the phase.
        timeline: of the run.
        method: whose parameters are optimised.
        plan: the settings of the run.
        state: its optimiser is set.

    Returns:
        The segments that the optimiser's schedule spans.
    """
    span = timeline.optimizer_span(segment)
    at_start = state.epoch == span[0].first_epoch and state.step == 0
    if state.optimizer is None or at_start:
        if state.optimizer is not None:
            optimizers.thaw(state.optimizer)
        state.optimizer = optimizers.optimizer_for(method, segment.phase.optimizer or plan.optimizer, plan.depths)
        if not at_start:
            optimizers.restore(state.optimizer, state.optimizer_tensors)
        state.optimizer_tensors = {}
    optimizers.freeze(state.optimizer, segment)
    if state.epoch == segment.first_epoch and state.step == 0:
        state.neighbours = state.features = None
    return span


def before_epoch(
    fabric: Fabric,
    method: Method,
    images: Rows,
    plan: Plan,
    state: State,
    segment: Segment,
    first_step: int,
    communicator: Communicator,
) -> Context:
    """The context of the steps of an epoch; recomputes clusters, neighbours and features where they are due.

    Args:
        fabric: `method` is on its device.
        method: that is trained.
        images: (n ...).
        plan: the settings of the run.
        state: updated with what is computed.
        segment: of the phase.
        communicator: between the processes.
    """
    phase, device = segment.phase, fabric.device
    since, needs = state.epoch - segment.first_epoch, phase.needs
    if needs.clusters and state.clusters is None:
        found = cluster(method, images, plan, state.epoch, device, communicator)
        state.clusters, state.assigner = found.clusters, found.assigner
    due = since == 0 or (needs.every > 0 and since % needs.every == 0)
    if due and state.step == 0:
        state.neighbours, state.features = neighbours_and_features(
            method, needs, images, plan, state.epoch, device, communicator
        )
    context = Context(
        phase=phase.name,
        epoch=state.epoch,
        epochs=plan.epochs,
        phase_epoch=since,
        batch_size=segment.batch_size,
        clusters=state.clusters if needs.clusters else None,
        neighbours=state.neighbours,
        features=state.features,
        seed=plan.seed,
        step=first_step,
        communicator=communicator,
        autocast=fabric.autocast,
    )
    if state.step == 0:
        method.eval()
        with torch.no_grad():
            method.before_epoch(context)
    return context


def needs_clustering(timeline: Timeline, finished: int, plan: Plan) -> bool:
    """Whether all images are clustered after `finished` epochs: for the next phase, for the log, or at the end."""
    if finished == plan.epochs or (plan.evaluate_every and finished % plan.evaluate_every == 0):
        return True
    return timeline.segment(finished).phase.needs.clusters


def sample_neighbours(context: Context, indices: Tensor, segment: Segment, seed: int, position: int) -> Tensor | None:
    """A random neighbour (b), on the CPU, of each image of the global batch; None if no view is of neighbours."""
    if context.neighbours is None or all(view.of == "image" for view in segment.phase.views.values()):
        return None
    k = context.neighbours.shape[1]
    which = torch.randint(k, (len(indices),), generator=stream(seed, "neighbours", position))
    of_batch = context.neighbours[indices.to(context.neighbours.device)].cpu()
    return of_batch.gather(1, which.unsqueeze(1)).squeeze(1)


def rows_of_view(view: View, images: Rows, rows: Tensor, neighbours: Tensor | None, device: torch.device) -> Tensor:
    """The rows to compute a view of: those of the batch, or those of its random neighbours."""
    if view.of == "image":
        return rows
    if neighbours is None:
        raise ValueError("a view of neighbours needs a phase with Needs(neighbours=...).")
    return images[neighbours.to(images.device)].to(device)


def compute_view(
    view: View,
    transform: Views,
    rows: Tensor,
    count: int,
    local: slice,
    generator: torch.Generator,
    reuse: Tensor | None,
) -> Tensor:
    """One view of the rows of this process. Parameters are drawn for all `count` rows of the global batch.

    Args:
        view: its kind.
        transform: computes views.
        rows: (b ...), the rows of this process.
        count: number of rows of the global batch.
        local: the position of `rows` in the global batch.
        generator: on the CPU.
        reuse: an earlier view whose memory may be overwritten.
    """
    if view.kind == "plain":
        return transform.normalise(rows)
    parameters = transform.draw(count, tuple(rows.shape[1:]), generator).rows(local)
    return transform.apply(rows, parameters, reuse)


def mean_metrics(steps: list[dict[str, Tensor]], epoch: int, plan: Plan) -> Mapping[str, float]:
    """The mean of every metric over the steps of an epoch. Synchronises with the device.

    Raises:
        Diverged: a loss or gradient is not finite; the message names the first such step.
    """
    columns: dict[str, list[Any]] = {name: [step[name] for step in steps] for name in steps[0]}
    table = {name: torch.stack([value.to(values[0]) for value in values]) for name, values in columns.items()}
    broken = ~(table["loss"].isfinite() & table["gradient"].isfinite())
    if bool(broken.any()):
        first = int(broken.nonzero()[0])
        raise Diverged(
            f"the loss became {float(table['loss'][first])} and the norm of its gradient {float(table['gradient'][first])} in "
            f"step {first + 1} of epoch {epoch + 1}; try a lower learning rate than train.base_lr={plan.optimizer.lr:g}."
        )
    return {name: float(values.mean()) for name, values in table.items()}
