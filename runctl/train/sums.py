"""Metrics of the steps since the last row: one small row on the device for each forward pass, read once a row.

A pass costs one operation there: its loss, its parts and the gradient norm are stacked into the next row of a kept
buffer. Where the numbers are wanted, for a row of metrics or a checkpoint, the buffer is copied to the host at once and
summed in float64, pass after pass: so the sums do not depend on when they were asked for, nor does a resumed run's.

A sum that is not finite betrays that some step was not; the losses and gradient norms of the last steps are kept, so
that the message can name the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from runctl.errors import RunFailed

KEPT_STEPS = 4096
FLOATS = 8192  # of the buffer on the device: some hundred passes


class NonFinite(RunFailed):
    """A loss, gradient or weight is NaN or infinite: the weights from here on are worth nothing."""

    def __init__(self, what: str, step: int) -> None:
        super().__init__(
            f"non-finite {what} at step {step}",
            hint="lower training.lr, lengthen training.warmup_steps, or look for NaN columns in the dataset's audit; "
            "the checkpoints before it are whole",
        )


class Sums:
    """Sums of the loss and its parts over windows, and of the gradient norm over steps; float64 on the host. Of
    several processes each sums what it reads, `total` adds that up, and whoever asks one of these sums asks in all."""

    def __init__(self, device: torch.device, total: Callable[[Tensor], Tensor] | None = None) -> None:
        self._total = total
        self.names: list[str] = []
        self.windows = 0
        self.steps = 0
        self._values: list[float] = []
        self._norm = 0.0
        self.room = torch.zeros(FLOATS, device=device)
        self._rows: Sequence[Tensor] = ()  # of `room`, one for each pass
        self._waiting: list[tuple[int, int, int]] = []  # (step, windows of the pass, of the step) of the rows in use
        self._reached = 0  # the last step of which a row was read
        self._losses = [0.0] * KEPT_STEPS  # of step s at s % KEPT_STEPS
        self._norms = [0.0] * KEPT_STEPS

    def add(
        self,
        step: int,
        parts: Sequence[tuple[Tensor, Mapping[str, Tensor], int]],
        norm: Tensor,
        windows: int | None = None,
    ) -> None:
        """One optimizer step: (loss, its parts, windows) of each forward pass here, the norm before clipping, and the
        step's windows in all processes (those of the passes, if there is one process)."""
        windows = sum(count for _, _, count in parts) if windows is None else windows
        if not self._rows:
            self._begin(["loss", *parts[0][1]])
        for loss, named, count in parts:
            if len(self._waiting) == len(self._rows):
                self._read()
            torch.stack([loss, *named.values(), norm], out=self._rows[len(self._waiting)])
            self._waiting.append((step, count, windows))
        self.windows += windows
        self.steps += 1

    def check(self, step: int) -> None:
        """Wait for the device; raise NonFinite naming the first bad step at or before `step`."""
        self._check(self._totals(), step)

    def last(self, step: int) -> float:
        """The loss of a step that is still kept; waits for the device."""
        self._read()
        return self._losses[step % KEPT_STEPS]

    def take(self, step: int) -> dict[str, float]:
        """The means since the last call, as they stand in a row, and start over; raises NonFinite."""
        totals = self._totals()
        self._check(totals, step)
        windows = max(1, self.windows)
        row = {f"train/{name}": value / windows for name, value in zip(self.names, totals, strict=True)}
        row["train/grad_norm"] = self._norm / max(1, self.steps)
        self._values = [0.0] * len(self.names)
        self._norm = 0.0
        self.windows = self.steps = 0
        return row

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(tensors, JSON) from which `restore` continues, with whatever number of processes."""
        totals = torch.tensor(self._totals(), dtype=torch.float64)
        tensors = {"sums/values": totals, "sums/norm": torch.tensor(self._norm, dtype=torch.float64)}
        return tensors, {"names": self.names, "windows": self.windows, "steps": self.steps}

    def restore(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any], *, first: bool = True) -> None:
        """Go on from `state`; of several processes only the `first` holds what was summed before."""
        self._waiting.clear()
        self._reached = 0
        if state["names"]:
            self._begin(list(state["names"]))
        self._values = tensors["sums/values"].tolist() if first else [0.0] * len(self.names)
        self._norm = float(tensors["sums/norm"])
        self.windows, self.steps = int(state["windows"]), int(state["steps"])

    def _begin(self, names: list[str]) -> None:
        """Cut the room into rows of these names and the norm."""
        self._values = [0.0] * len(names)
        self.names, width = names, len(names) + 1
        self._rows = self.room[: FLOATS // width * width].view(-1, width).unbind()

    def _read(self) -> None:
        """Bring the rows in use to the host, in one copy, and add them up."""
        count, width = len(self._waiting), len(self.names) + 1
        rows = self.room[: count * width].view(count, width).tolist() if count else []
        values = self._values
        for (step, windows, of), row in zip(self._waiting, rows, strict=True):
            norm = row.pop()
            values = [value + windows * one for value, one in zip(values, row, strict=True)]
            place = step % KEPT_STEPS
            if step != self._reached:
                self._norm += norm
                self._losses[place], self._norms[place] = 0.0, norm
            self._losses[place] += windows / of * row[0]
            self._reached = step
        self._values = values
        self._waiting.clear()

    def _totals(self) -> list[float]:
        """The sums over all processes."""
        self._read()
        return self._summed(self._values)

    def _summed(self, values: list[float]) -> list[float]:
        if self._total is None:
            return values
        return self._total(torch.tensor(values, dtype=torch.float64)).tolist()

    def _check(self, totals: Sequence[float], step: int) -> None:
        if math.isfinite(sum(totals) + self._norm):
            return
        losses = self._summed(self._losses)
        for earlier in range(max(1, step - KEPT_STEPS + 1), step + 1):
            if not math.isfinite(losses[earlier % KEPT_STEPS]):
                raise NonFinite("loss", earlier)
            if not math.isfinite(self._norms[earlier % KEPT_STEPS]):
                raise NonFinite("gradient norm", earlier)
        raise NonFinite("loss", step)
