"""Maps epochs to phases and steps to positions in a run."""

from collections.abc import Sequence
from dataclasses import dataclass

from connr.methods.method import Phase


@dataclass(frozen=True)
class Segment:
    """The epochs of a phase.

    Attributes:
        phase: of the method.
        first_epoch: the first epoch of the phase.
        end_epoch: one past its last epoch.
        batch_size: global batch size.
        steps_per_epoch: number of complete batches.
        first_step: number of steps of all earlier segments.
    """

    phase: Phase
    first_epoch: int
    end_epoch: int
    batch_size: int
    steps_per_epoch: int
    first_step: int

    @property
    def steps(self) -> int:
        """Number of steps of the segment."""
        return (self.end_epoch - self.first_epoch) * self.steps_per_epoch


class Timeline:
    """The phases of a method mapped to the epochs of a run. A phase with less than half an epoch is left out.

    Args:
        phases: of the method, with shares that add up to more than 0.
        epochs: of the run.
        n_images: number of training images.
        batch_size: of phases that do not set one; limited to `n_images`.

    Raises:
        ValueError: a share is negative or not a number, or all are 0.
    """

    def __init__(self, phases: Sequence[Phase], epochs: int, n_images: int, batch_size: int) -> None:
        total, passed, first, step = sum(phase.share for phase in phases), 0.0, 0, 0
        shares = {phase.name: phase.share for phase in phases}
        if not (total > 0 and min(shares.values()) >= 0):
            raise ValueError(f"the shares of the phases {shares} should be at least 0 each, and not all 0.")
        self.segments: list[Segment] = []
        for number, phase in enumerate(phases, 1):
            passed += phase.share
            end = epochs if number == len(phases) else round(passed / total * epochs)
            size = min(phase.batch_size or batch_size, n_images)
            segment = Segment(phase, first, end, size, n_images // size, step)
            if end > first:
                self.segments.append(segment)
                first, step = end, step + segment.steps
        self.epochs, self.steps = epochs, step

    def segment(self, epoch: int) -> Segment:
        """The segment of an epoch, 0 <= epoch < epochs."""
        return next(segment for segment in self.segments if epoch < segment.end_epoch)

    def position(self, epoch: int, step: int) -> int:
        """The index in the run of a step of an epoch."""
        segment = self.segment(epoch) if epoch < self.epochs else self.segments[-1]
        return segment.first_step + (epoch - segment.first_epoch) * segment.steps_per_epoch + step

    def optimizer_span(self, segment: Segment) -> tuple[Segment, ...]:
        """The consecutive segments that share the optimiser and its schedule with this one."""
        if segment.phase.optimizer is not None:
            return (segment,)
        at = self.segments.index(segment)
        first = last = at
        while first and self.segments[first - 1].phase.optimizer is None:
            first -= 1
        while last + 1 < len(self.segments) and self.segments[last + 1].phase.optimizer is None:
            last += 1
        return tuple(self.segments[first : last + 1])
