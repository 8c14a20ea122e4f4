"""Schedules: functions of the position in training."""

import math


def linear_fraction(epoch: float, start: float, end: float, initial: float = 0.8, final: float = 1.0) -> float:
    """The fraction of anchors kept (Eq. 12): fr(t) = fr(t0) + (final - fr(t0)) (t - t0) / (end - t0), then constant.

    Args:
        epoch: t; before `start` the value is `initial`, from `end` on it is `final`.
        start: t0, the first epoch of group concordance.
        end: T in the paper.
        initial: fr(t0), in (0, 1].
        final: reached at `end`; if equal to `initial`, progressive relaxation is off.
    """
    if epoch < start:
        return initial
    if epoch >= end:
        return final
    return initial + (final - initial) * (epoch - start) / (end - start)


def warmup_cosine(step: int, steps: int, warmup: int, reaches_zero: bool = True) -> float:
    """The factor of the learning rate: 0 -> 1 linearly over `warmup` steps, then 1 -> 0 along a half cosine.

    Args:
        step: 0 <= step < steps.
        steps: of the whole training, both stages.
        warmup: number of first steps that rise; the first is 1 / warmup, not 0.
        reaches_zero: False divides by all steps instead of those after the warm-up, as the released program does.
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup if reaches_zero else steps)))


def target_momentum(progress: float, initial: float, final: float = 1.0) -> float:
    """The momentum of the target network, from `initial` to `final` along a half cosine (BYOL, Grill et al. 2020).

    Args:
        progress: finished steps / all steps, in [0, 1].
        initial, final: in [0, 1].

    Raises:
        ValueError: one of them is outside [0, 1].
    """
    if not 0 <= progress <= 1:
        raise ValueError(f"progress={progress} should be in [0, 1]: finished steps / all steps.")
    for name, value in (("initial", initial), ("final", final)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name}={value} should be in [0, 1].")
    return final - (final - initial) * 0.5 * (1 + math.cos(math.pi * progress))
