"""The judge of memory: the training loop's own step, with the real model, loss and optimizer, on meta tensors.

Nothing is computed and nothing is allocated, so a model of any size is traced in about a second. Two optimizer
steps are run (the first one creates the optimizer's state), then a batch of validation. With gradient accumulation
a step has two forward passes: more of them change nothing.

`Rehearsal` is the step itself. It also runs on a real device, which is how estimates are held against the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from runctl.config import RunConfig
from runctl.config.model import Training
from runctl.estimate import allocator
from runctl.estimate.traced import Shape
from runctl.estimate.tracker import Block, Casting, Event, Mark, Tracker
from runctl.tasks.worldmodel import encoding as encodings
from runctl.tasks.worldmodel.baselines import Lookup
from runctl.tasks.worldmodel.model import WorldModel
from runctl.tasks.worldmodel.targets import PART
from runctl.tasks.worldmodel.task import WorldModelJob
from runctl.train import loop, optimizer
from runctl.train.ranks import Alone
from runctl.train.sums import Sums
from runctl.train.timing import Timing

CATEGORIES = ("weights", "gradients", "optimizer", "activations", "weight copies", "workspace", "batch", "sums")
LOOKUP = 4_096  # entries of the lookup baseline; a real one has some thousands

Say = Callable[[str, str], None]  # (phase, part)


@dataclass(frozen=True)
class Trace:
    """All blocks of two steps and a validation, and the events in order."""

    blocks: list[Block]
    events: list[Event]
    marks: list[Mark]

    def allocations(self) -> list[allocator.Event]:
        """The events as the allocator's model takes them."""
        return [(event.block, self.blocks[event.block].size, event.change) for event in self.events]

    def peak(self, *phases: str) -> Peak:
        """The moment when most is held, in the given phases or in all."""
        now: dict[str, int] = dict.fromkeys(CATEGORIES, 0)
        total, best = 0, Peak(0, dict(now), "", "", -1)
        for index, event in enumerate(self.events):
            block = self.blocks[event.block]
            total += event.change * block.size
            now[block.category] += event.change * block.size
            if total > best.total and (not phases or event.phase in phases):
                best = Peak(total, dict(now), event.phase, event.part, index)
        return best


@dataclass(frozen=True)
class Peak:
    """Bytes held at the highest moment, by category; `phase` and `part` say when that was."""

    total: int
    parts: dict[str, int]
    phase: str
    part: str
    event: int


def trace(config: RunConfig, *, device: str = "cpu", sample: int = 2 * PART, brief: bool = False) -> Trace:
    """The step of this config as it would run on `device`, `cpu` or `cuda`, after `sample` windows were measured
    (in parts, of which more than two hold no more than two).
    `brief` leaves out the first step, which holds less than the second. Raises ValueError for impossible shapes."""
    tracker = Tracker()
    casting = Casting(device, lambda copy: tracker.label(copy, "weight copies"))
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(torch, "autocast", _stand_in(casting)))
        # Recomputing a block takes autocast up again as it was in the forward pass.
        stack.enter_context(mock.patch.object(torch.amp, "autocast", _stand_in(casting)))
        stack.enter_context(mock.patch.object(torch, "is_autocast_enabled", casting.is_enabled))
        stack.enter_context(casting)
        stack.enter_context(tracker)
        rehearsal = Rehearsal(config, torch.device("meta"), tracker.enter)
        model = rehearsal.job.model

        def say(phase: str, part: str) -> None:
            tracker.enter(phase, part)
            if part == "loss":  # what outlives the forward pass was saved for the backward pass
                tracker.relabel("workspace", "activations")
            elif phase == "optimizer":
                for parameter in rehearsal.parameters:
                    if parameter.grad is not None:
                        tracker.label(parameter.grad, "gradients")

        rehearsal.hear(say)
        for tensor in (*model.parameters(), *model.buffers()):
            tracker.label(tensor, "weights")
        rehearsal.measure_scales(sample)
        if brief:
            rehearsal.create_optimizer_state()
        else:
            rehearsal.step()
        rehearsal.step()
        rehearsal.evaluate()
        for category, tensors in rehearsal.kept().items():
            for tensor in tensors:
                tracker.label(tensor, category)
        tracker.enter("end", "")
    return Trace(tracker.blocks, tracker.events, tracker.marks)


def _stand_in(casting: Casting) -> Callable[..., Any]:
    def autocast(device_type: str, dtype: Any = None, enabled: bool = True, cache_enabled: Any = None) -> Any:
        return casting.region(enabled)

    return autocast


def config_of(shape: Shape) -> RunConfig:
    """A config that trains this shape."""
    return RunConfig(
        name="shape",
        encoding=shape.encoding,
        model=shape.model,
        training=Training(
            batch_size=shape.batch,
            accumulation=shape.accumulation,
            precision=shape.precision,
            activation_checkpointing=shape.recompute,
            scheduled_sampling=0.5 if shape.corrupt else 0.0,
            ss_corrupt_frames=shape.corrupt or 1,
            delta_target="residual",
            targets="all" if shape.every else "last",
        ),
    )


def of(shape: Shape, device: str = "cpu") -> Trace:
    """The trace of a shape, in brief."""
    sample = 2 * PART if shape.windows is None else min(2 * PART, shape.windows)
    return trace(config_of(shape), device=device, sample=sample, brief=True)


class Rehearsal(loop.Loop):
    """The loop's `step` without a run around it: no dataset, no files, batches of zeros.

    `say` is told the phase and the part of the model that is at work."""

    def __init__(self, config: RunConfig, device: torch.device, say: Say = lambda phase, part: None) -> None:
        training = config.training
        self.config, self.say = config, say
        self.job: Any = _Job(config, device, say)
        model = self.job.model
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        generator = None if device.type == "meta" else torch.Generator(device)
        self.state: Any = SimpleNamespace(
            step=0, generator=generator, optimizer=optimizer.adamw(model, training), sums=Sums(device)
        )
        passes = min(2, training.accumulation)
        windows = torch.zeros(1, dtype=torch.int64).expand(training.batch_size * passes)  # their numbers do not matter
        self.order: Any = SimpleNamespace(windows=lambda step: windows)
        self.plan: Any = SimpleNamespace(total_steps=10**9, shift=0, epoch=lambda step: 1e9)  # all annealing is over
        self.timing = Timing()
        self.rate: Any = SimpleNamespace(add=lambda windows: None)
        beat = SimpleNamespace(beat=lambda: self.say("optimizer", ""))
        self.ranks: Any = Alone()
        self.loss = self.ranks.wrap(cast(Any, self.job))
        self.place: Any = SimpleNamespace(device=device, heartbeat=beat, ranks=self.ranks)
        self.held_out = windows[: training.batch_size]

    def hear(self, say: Say) -> None:
        """Tell `say` from now on."""
        self.say = self.job.say = say

    def kept(self) -> dict[str, list[Tensor]]:
        """What stays on the device from step to step, besides the weights, by category."""
        state = [value for values in self.state.optimizer.state.values() for value in values.values()]
        sums = self.state.sums
        return {
            "optimizer": state,
            "sums": [sums.room],
            "batch": [self.job.buffer] if self.job.buffer is not None else [],
        }

    def step(self) -> None:
        self.job.passes = 0
        super().step()
        self.say("between", "")

    def evaluate(self, chosen: Any = None, metrics: Any = None) -> dict[str, float | None]:
        """One batch of validation."""
        self.job.passes = 0
        self.say("evaluate", "")
        self.place.control = SimpleNamespace(check=lambda: None, stopping=False)
        return super().evaluate(self.held_out if chosen is None else chosen, metrics)

    def create_optimizer_state(self) -> None:
        """What the first step leaves behind."""
        for parameter in self.parameters:
            parameter.grad = torch.empty_like(parameter)
        self.state.optimizer.step()
        self.state.optimizer.zero_grad()
        self.say("between", "")

    def measure_scales(self, sample: int = 2 * PART) -> None:
        """What the job does once on the device before it trains."""
        self.say("load", "scales")
        context, job = self.config.model.context_len, self.job
        frames: Any = np.zeros((context + 2, job.record_bytes), np.uint8)
        job.model.measure(frames, np.zeros(sample, np.int64), context)
        self.say("between", "")


class _Job(WorldModelJob):
    """The built-in job with batches of zeros for a dataset."""

    def __init__(self, config: RunConfig, device: torch.device, say: Say) -> None:
        self.config, self.say, self.device, self.passes, self.backward = config, say, device, 0, False
        layout = encodings.columns(config.encoding)
        self.record_bytes = layout.record_bytes
        training = config.training
        options: Any = {"delta_target": training.delta_target, "recompute": training.activation_checkpointing}
        with device if device.type == "meta" else nullcontext():
            self.model = WorldModel(config.encoding, config.model, layout, **options).to(device)
        keys: Any = np.arange(LOOKUP, dtype=np.int64)
        self._lookup = Lookup(keys, keys * 0, config.encoding.character_vocab, config.encoding.state_age_embed_vocab)
        self.buffer: Tensor | None = None
        self._watch()

    def batch(self, windows: Tensor, validation: bool) -> Tensor:
        """Zeros, gathered as `train.gather.Gather` gathers: with an index, into a buffer that is kept."""
        self.passes += 1
        self.backward = False
        self.say("evaluate" if validation else f"pass {self.passes}", "batch")
        words = (self.config.model.context_len + 1) * self.record_bytes // 4
        starts = torch.empty(len(windows), dtype=torch.int64, device=self.device)
        if self.buffer is None:
            self.buffer = torch.empty(len(windows), words, dtype=torch.int32, device=self.device)
            if self.device.type != "meta":
                self.buffer.zero_()
        del starts
        return self.buffer.view(torch.uint8).view(len(windows), -1, self.record_bytes)

    def loss(self, batch: Tensor, **options: Any) -> Any:
        result = super().loss(batch, **options)
        self.backward = True
        self.say(f"backward {self.passes}", "loss")
        return result

    def metrics(self) -> Any:
        """The real metrics; there is nothing to read from meta tensors, so `compute` does not."""
        found = super().metrics()
        compute = dict if self.device.type == "meta" else found.compute
        return SimpleNamespace(update=found.update, compute=compute)

    def _watch(self) -> None:
        """Say when a layer begins: forward at its block, backward when the gradient of its input is whole. A block
        that is recomputed is called once more, within its part of the backward pass."""

        def at(module: torch.nn.Module, here: str, before: str) -> None:
            def forward(_: torch.nn.Module, args: tuple[Tensor, ...]) -> None:
                if self.backward:
                    return
                phase = f"pass {self.passes}" if torch.is_grad_enabled() else "evaluate"
                self.say(phase, here)
                if args[0].requires_grad:
                    number = self.passes
                    args[0].register_hook(lambda _: self.say(f"backward {number}", before))

            module.register_forward_pre_hook(forward)

        layers = [f"layer {index}" for index in range(len(self.model.blocks))]
        for block, here, before in zip(self.model.blocks, layers, ["frame", *layers], strict=False):
            at(block, here, before)
        at(self.model.norm, "heads", layers[-1])
