"""The truth on the CPU: what the allocator really gave the training loop's step, as torch's profiler wrote it down.

The same `Rehearsal` that is traced on meta tensors runs here with real ones. Every allocation and release of the CPU
allocator is an event of the profiler, so the peak is exact to the byte and has nothing to do with resident memory.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from runctl.config import RunConfig
from runctl.estimate.trace import Rehearsal
from runctl.estimate.tracker import Mark
from runctl.tasks.worldmodel.targets import PART

STEP = ("pass", "backward", "optimizer")


@dataclass(frozen=True)
class Measured:
    """Bytes: the highest in each phase, and what was held where each part began."""

    peaks: dict[str, int]
    marks: list[Mark]

    @property
    def step(self) -> int:
        """The highest of the training steps."""
        return max(size for phase, size in self.peaks.items() if phase.startswith(STEP))


def on_cpu(config: RunConfig, sample: int = 2 * PART) -> Measured:
    """Run two real steps and a validation of this config and read the allocator's events."""

    def say(phase: str, part: str) -> None:
        with record_function(f"mark:{phase}:{part}"):
            pass

    gc.collect()  # what earlier runs left must not be released within this one
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        rehearsal = Rehearsal(config, torch.device("cpu"), say)
        rehearsal.measure_scales(sample)
        rehearsal.step()
        rehearsal.step()
        rehearsal.evaluate()
        say("end", "")
    held, phase, peaks, marks = 0, "load", {"load": 0}, []
    for name, size in _events(seen):
        held += size
        if name:
            _, phase, part = name.split(":")
            marks.append(Mark(phase, part, held))
        peaks[phase] = max(peaks.get(phase, 0), held)
    return Measured(peaks, marks)


def _events(seen: profile) -> Iterable[tuple[str, int]]:
    """(name of a mark or "", bytes taken or given back), in order."""
    events = [
        event for event in seen.profiler.kineto_results.events() if event.name().startswith(("[memory]", "mark:"))
    ]
    for event in sorted(events, key=lambda event: (event.start_ns(), event.name())):
        yield ("", event.nbytes()) if event.name() == "[memory]" else (event.name(), 0)


def categories(marks: Sequence[Mark]) -> dict[str, int]:
    """What lasts, from the marks of a trace or of a measurement: weights are there when the model is built,
    activations are what the last forward pass leaves, gradients what the backward pass leaves, and the optimizer's
    state what the first step leaves."""

    def held(phase: str, part: str, number: int = -1) -> int:
        return [mark.held for mark in marks if (mark.phase, mark.part) == (phase, part)][number]

    first, second = (held("pass 1", "batch", number) for number in (0, 1))
    return {
        "weights": held("load", "scales"),
        "activations": held("backward 1", "loss") - second,
        "gradients": held("optimizer", "", 0) - first,
        "optimizer": second - first,
    }
