"""Metrics of the steps since the last row, summed on the device and read once a row.

A sum that is not finite betrays that some step was not; the losses and gradient norms of the last steps are kept
(on the device as well), so that the message can name the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from runctl.errors import RunFailed

KEPT_STEPS = 4096


class NonFinite(RunFailed):
    """A loss, gradient or weight is NaN or infinite: the weights from here on are worth nothing."""

    def __init__(self, what: str, step: int) -> None:
        super().__init__(
            f"non-finite {what} at step {step}",
            hint="lower training.lr, lengthen training.warmup_steps, or look for NaN columns in the dataset's audit; "
            "the checkpoints before it are whole",
        )


class Sums:
    """Sums of the loss and its parts over windows, and of the gradient norm over steps; float64 on the device. Of
    several processes each sums what it reads, `total` adds that up, and whoever asks one of these sums asks in all."""

    def __init__(self, device: torch.device, total: Callable[[Tensor], Tensor] = lambda values: values) -> None:
        self._total = total
        self.names: list[str] = []
        self.values = torch.zeros(0, dtype=torch.float64, device=device)
        self.norm = torch.zeros((), dtype=torch.float64, device=device)
        self.windows = 0
        self.steps = 0
        self._recent = torch.zeros(KEPT_STEPS, 2, device=device)  # (loss, gradient norm) of step s at row s % KEPT

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
        if not self.names:
            self.names = ["loss", *parts[0][1]]
            self.values = self.values.new_zeros(len(self.names))
        loss = parts[0][0]
        if len(parts) > 1:
            loss = torch.zeros((), device=self.values.device)
        for total, named, count in parts:
            self.values.add_(torch.stack([total, *named.values()]), alpha=count)
            if len(parts) > 1:
                loss.add_(total, alpha=count / windows)
        self.norm.add_(norm)
        self.windows += windows
        self.steps += 1
        torch.stack([loss, norm], out=self._recent[step % KEPT_STEPS])

    def check(self, step: int) -> None:
        """Wait for the device; raise NonFinite naming the first bad step at or before `step`."""
        if math.isfinite(float(self._total(self.values).sum() + self.norm)):
            return
        recent = self._recent.cpu()
        recent[:, 0] = self._total(recent[:, 0])
        for earlier in range(max(1, step - KEPT_STEPS + 1), step + 1):
            loss, norm = recent[earlier % KEPT_STEPS].tolist()
            if not math.isfinite(loss):
                raise NonFinite("loss", earlier)
            if not math.isfinite(norm):
                raise NonFinite("gradient norm", earlier)
        raise NonFinite("loss", step)

    def last(self, step: int) -> float:
        """The loss of a step that is still kept; waits for the device."""
        return float(self._recent[step % KEPT_STEPS, 0])

    def take(self, step: int) -> dict[str, float]:
        """The means since the last call, as they stand in a row, and start over; raises NonFinite."""
        self.check(step)
        means = (self._total(self.values) / max(1, self.windows)).tolist()
        row = {f"train/{name}": value for name, value in zip(self.names, means, strict=True)}
        row["train/grad_norm"] = float(self.norm) / max(1, self.steps)
        self.values.zero_()
        self.norm.zero_()
        self.windows = self.steps = 0
        return row

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(tensors, JSON) from which `restore` continues, with whatever number of processes."""
        tensors = {"sums/values": self._total(self.values), "sums/norm": self.norm}
        return tensors, {"names": self.names, "windows": self.windows, "steps": self.steps}

    def restore(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any], *, first: bool = True) -> None:
        """Go on from `state`; of several processes only the `first` holds what was summed before."""
        self.names = list(state["names"])
        self.values = tensors["sums/values"].to(self.values.device, copy=True)
        if not first:
            self.values.zero_()
        self.norm = tensors["sums/norm"].to(self.norm.device, copy=True)
        self.windows, self.steps = int(state["windows"]), int(state["steps"])
