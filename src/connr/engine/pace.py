"""An estimate of the duration of a run, made once after the first steps."""

import time

import torch

from connr.engine.callbacks import Callback

STEPS_TO_ESTIMATE_FROM, SECONDS_TO_ESTIMATE_FROM = 5, 10.0  # the estimate is made when one of them is reached


class Pace:
    """Times a few steps after a warm-up step and reports the estimated time of the remaining steps.

    Args:
        callback: its `on_step_end` and `on_time_estimate` are called.
        left: number of steps to train.
        device: of the method.
    """

    def __init__(self, callback: Callback, left: int, device: torch.device) -> None:
        self.callback, self.left, self.device, self.done, self.began = callback, left, device, 0, 0.0
        self.reported = False

    def on_step_end(self) -> None:
        self.done += 1
        if not self.reported:
            self._measure()
        self.callback.on_step_end()

    def _measure(self) -> None:
        if self.device.type != "cpu":
            torch.accelerator.synchronize()
        now = time.monotonic()
        if self.done == 1:
            self.began = now
        elif self.done == 1 + STEPS_TO_ESTIMATE_FROM or now - self.began > SECONDS_TO_ESTIMATE_FROM:
            self.reported = True
            self.callback.on_time_estimate((now - self.began) / (self.done - 1) * (self.left - self.done))
