"""The seam between the loop and a task: the loop knows a run by this and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Metrics(Protocol):
    """Sums over a validation: everything stays on the device until `compute`."""

    def update(self, batch: Tensor) -> None:
        """Add one batch; runs the model, which is in eval mode and under no_grad."""

    def sums(self) -> Sequence[Tensor]:
        """The tensors that are summed up: of several processes, each holds the sum over all before `compute`."""

    def compute(self) -> dict[str, float]:
        """Names as they stand in metrics.jsonl: `val/loss`, `val/…`, `baseline/<name>/…`, `val/frames/…`."""


class Head(Protocol):
    """One category head on one batch, in nats: its `loss`, that against the targets of other windows (`shuffled`),
    the entropy of the targets (`floor`), and the loss of a head that knows nothing (`untrained`)."""

    @property
    def name(self) -> str: ...
    @property
    def classes(self) -> int: ...
    @property
    def loss(self) -> float: ...
    @property
    def shuffled(self) -> float: ...
    @property
    def floor(self) -> float: ...
    @property
    def untrained(self) -> float: ...


class Job(Protocol):
    """What is trained: data, model, loss and metrics, ready on its device.

    A job may also have `ahead(windows, *, validation)`: begin to read what the next call of `batch` will most likely
    ask for; `close()`: end what it has begun beside the steps; `rehearsal()`: metrics for the validation that is only
    tried before the first step, whose values nobody reads."""

    train_windows: int
    validation_windows: int
    data_source: str  # for people: where the examples come from; `simulated` if they do
    identity: Mapping[str, str]  # what the weights belong to, key by key: a resume compares them
    model: nn.Module

    def batch(self, windows: Tensor, validation: bool) -> Tensor:
        """The windows of those numbers (int64, on the CPU) on the device; valid until the next call."""

    def loss(
        self, batch: Tensor, *, generator: torch.Generator, progress_epochs: float, train: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(mean over the batch, its parts as detached scalars, the same names every time). All randomness of the
        task's own comes from `generator`; `progress_epochs` counts the epochs done so far."""

    def metrics(self) -> Metrics:
        """A fresh accumulator."""

    def expected(self) -> Mapping[str, Any]:
        """What the config promises of `batch` (its shape) and `parameters` (their number): a probe compares."""

    def startup_data(self) -> str:
        """What the start-up depends on besides the model: two runs of which it is equal start up alike."""

    def strays(self, batch: Tensor) -> float:
        """By how much predictions change with what the model must not see of a batch; 0 if it sees none of it."""

    def heads(self, batch: Tensor) -> Sequence[Head]:
        """The category heads on one batch, as a probe judges them; draws no random numbers."""
