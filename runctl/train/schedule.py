"""How long a run is, how fast it learns and when things are due: arithmetic only, no torch.

Everything counts in optimizer steps: one step reads `batch_size × accumulation` windows, whatever the number of
forward passes. An epoch's last step takes the windows that are left, so a step count is always rounded up.
"""

from __future__ import annotations

import math

from runctl.config.every import Every
from runctl.config.model import Training
from runctl.light import dataclass, replace


@dataclass(frozen=True)
class Base:
    """Where steps last changed their size (a resume with another batch size): after `step` steps, `offset` windows
    into `epoch`. Of a run whose steps never did, its start."""

    step: int = 0
    epoch: int = 0
    offset: int = 0

    def to_json(self) -> list[int]:
        return [self.step, self.epoch, self.offset]


@dataclass(frozen=True)
class Plan:
    """The run's totals: windows in an epoch, windows in a full step, steps in an epoch and steps in all.

    What was read before `base` was read in steps of another size: from there on, what is left of that epoch is cut
    anew, so that no window is read twice or left out.
    """

    windows: int
    step_windows: int
    steps_per_epoch: int
    total_steps: int
    base: Base = Base()

    @property
    def shift(self) -> int:
        """What is added to a step so that epochs begin at multiples of `steps_per_epoch`: 0 without a base."""
        left = max(1, math.ceil((self.windows - self.base.offset) / self.step_windows))
        return (self.base.epoch + 1) * self.steps_per_epoch - left - self.base.step

    @property
    def epochs(self) -> float:
        return self.epoch(self.total_steps)

    def epoch(self, step: int) -> float:
        """Epochs that lie behind after `step` optimizer steps."""
        return (step + self.shift) / self.steps_per_epoch

    def position(self, step: int) -> tuple[int, int]:
        """(epoch, windows of it already read) after `step` optimizer steps, from `base` on."""
        epoch, within = divmod(step + self.shift, self.steps_per_epoch)
        if epoch == self.base.epoch:
            return epoch, self.base.offset + (step - self.base.step) * self.step_windows
        return epoch, within * self.step_windows


def plan(training: Training, windows: int, base: Base | None = None) -> Plan:
    """The totals for a dataset of `windows` training windows; neither steps nor epochs given means one epoch."""
    step_windows = training.batch_size * training.accumulation
    per_epoch = max(1, math.ceil(windows / step_windows))
    found = Plan(windows, step_windows, per_epoch, 0, base or Base())
    if training.steps is not None:
        return replace(found, total_steps=training.steps)
    epochs = 1.0 if training.epochs is None else training.epochs
    return replace(found, total_steps=max(1, math.ceil(epochs * per_epoch - 1e-9) - found.shift))


def learning_rate(training: Training, plan: Plan, step: int) -> float:
    """`rate` in a run that may have a base: of a total in epochs, the curve follows what was read, not the steps."""
    shift = 0 if training.steps is not None else plan.shift
    return rate(training, plan.total_steps + shift, step + shift)


def rate(training: Training, total_steps: int, step: int) -> float:
    """Learning rate of optimizer step `step` (1 … total): a linear rise to `lr`, then half a cosine down to
    `lr × min_lr_ratio`, which the last step reaches exactly."""
    warmup = min(training.warmup_steps, total_steps)
    if step <= warmup:
        return training.lr * step / warmup
    progress = (step - warmup) / max(1, total_steps - warmup)
    floor = training.min_lr_ratio
    return training.lr * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


class Cadence:
    """When something recurs. In steps or epochs it depends on the step alone, hence a resumed run does the same
    at the same steps; in seconds it counts from the last time it was done in this attempt."""

    def __init__(self, every: Every | None, steps_per_epoch: int, now: float, shift: int = 0) -> None:
        """`shift` is the plan's: with it epochs end where they do after steps have changed their size."""
        self._seconds = every.seconds if every else None
        self._steps: float | None = None
        self._shift = 0
        if every and every.steps is not None:
            self._steps = float(every.steps)
        elif every and every.epochs is not None:
            self._steps, self._shift = max(1.0, every.epochs * steps_per_epoch), shift
        self._last = now

    def due(self, step: int, now: float) -> bool:
        """Whether it is due right after optimizer step `step`, at the monotonic time `now`."""
        if self._steps is not None:
            at = step + self._shift
            return _count(at, self._steps) > _count(at - 1, self._steps)
        return self._seconds is not None and now - self._last >= self._seconds

    def done(self, now: float) -> None:
        self._last = now


def _count(step: int, interval: float) -> int:
    """How many intervals end at or before `step`."""
    return math.floor((step + 1e-6) / interval)
