"""How long a run will take, told once, after its first steps."""

import time

import torch

from connr.training.events import Listener

STEPS_TO_ESTIMATE_FROM, SECONDS_TO_ESTIMATE_FROM = 5, 10.0  # whichever comes first


class Pace:
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
