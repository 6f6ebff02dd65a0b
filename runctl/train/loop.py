"""The training loop: step after step until the run's total, with its rows, validations and checkpoints.

What happens after an optimizer step, in this order: the row of metrics, the validation, the checkpoint. A
checkpoint therefore holds everything that belongs to its step, and a run resumed from it goes on with the next.
No step waits for the device: losses and norms are summed there and read when a row is due.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from runctl import config as configs
from runctl import record
from runctl.config import RunConfig
from runctl.errors import RunctlError, did_you_mean
from runctl.train import checkpoint, measure, optimizer, retention, schedule, surroundings, taken
from runctl.train.control import Control, Stopped
from runctl.train.device import autocast
from runctl.train.evaluate import HeldOut, evaluate
from runctl.train.heartbeat import Heartbeat
from runctl.train.job import Job, Metrics
from runctl.train.order import Order
from runctl.train.ranks import Alone, Ranks
from runctl.train.rate import Rate
from runctl.train.say import say, warn
from runctl.train.state import State
from runctl.train.timing import Timing
from runctl.train.trackers import Trackers
from runctl.train.writer import Writer


@dataclass(frozen=True)
class Outcome:
    """How the loop ended: `succeeded` at the total, `stopped` before it."""

    outcome: str
    step: int
    total_steps: int
    metrics: dict[str, float | None]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Place:
    """Where the loop runs and whom it talks to."""

    run: record.RunDir
    attempt: int
    device: torch.device
    control: Control
    heartbeat: Heartbeat
    trackers: Trackers
    ranks: Ranks = field(default_factory=Alone)


def train(job: Job, config: RunConfig, place: Place) -> Outcome:
    """Train from the newest whole checkpoint, or from the start if there is none, to the run's total.

    Raises RunctlError (no windows, foreign or damaged checkpoints, NonFinite) and OSError (disk)."""
    loop = Loop(job, config, place)
    try:
        return loop.run()
    finally:
        place.heartbeat.refresh()
        loop.writer.close(place.heartbeat.beat)
        getattr(job, "close", lambda: None)()


class Loop:
    """One attempt's training: `run` from start to end, `step` and what follows it in pieces."""

    ahead: Callable[..., None] | None = None  # of a job that reads ahead: what the next pass will ask for

    def __init__(self, job: Job, config: RunConfig, place: Place) -> None:
        self.job, self.config, self.place = job, config, place
        training = config.training
        if not job.train_windows or not job.validation_windows:
            lacking = "training" if not job.train_windows else "validation"
            raise RunctlError(
                f"the dataset has no {lacking} window of {config.model.context_len} + 1 frames",
                hint="encode longer or more games, or lower model.context_len",
            )
        self.seed = training.seed or 0
        self.ranks = place.ranks
        self.ahead = getattr(job, "ahead", None)
        self.loss = self.ranks.wrap(job)
        self.state = State(job.model, optimizer.adamw(job.model, training), place.device, self.seed, self.ranks)
        self.parameters = [parameter for parameter in job.model.parameters() if parameter.requires_grad]
        self.held_out = HeldOut(job.validation_windows, training.validation_windows)
        weights = [name for name, _ in job.model.named_parameters()]
        self.writer = Writer(place.run, config.checkpoint, weights)
        self.digest = configs.digest(config)
        self.surroundings = surroundings.describe(place.device, self.ranks.seat.size)
        self.identity = dict(job.identity) | {
            "training.seed": str(self.seed),
            "training.batch_size": str(training.batch_size),
            "training.accumulation": str(training.accumulation),
            "data.train_windows": str(job.train_windows),
        }
        self.lay_out(schedule.Base())
        self.saved_step = 0
        self.notes: list[str] = []
        self.rate = Rate()
        self.timing = Timing()
        self.windows = 0  # of the last step
        place.heartbeat.look = self.standing

    def lay_out(self, base: schedule.Base) -> None:
        """The totals, the order and what is due when, from where steps last changed their size."""
        training, now = self.config.training, time.monotonic()
        self.plan = schedule.plan(training, self.job.train_windows, base)
        self.order = Order(self.plan, self.seed)
        per_epoch, shift = self.plan.steps_per_epoch, self.plan.shift
        self.validate_every = schedule.Cadence(training.validate_every, per_epoch, now, shift)
        self.save_every = schedule.Cadence(self.config.checkpoint.every, per_epoch, now, shift)

    def run(self) -> Outcome:
        self.resume()
        self.rehearse()
        self.place.heartbeat.phase("training", "; ".join(self.notes))
        self.timing.go()
        if self.state.step and self.owes_validation() and self.validate():
            self.save()  # once more, with the value that it is kept by
        self.job.model.train()
        self.ranks.agree(self.place.control.stopping)
        self.timing.go()
        while self.state.step < self.plan.total_steps and not self.ranks.stopping(self.place.control):
            self.step()
            self.after_step()
        return self.end()

    def resume(self) -> None:
        """Take up the newest whole checkpoint, if there is one, and say what was found."""
        heartbeat = self.place.heartbeat
        heartbeat.phase("loading", "looking for a checkpoint")
        accepted = record.read_object(self.place.run.attempt(self.place.attempt).start).get("accepted")
        loaded, removed = taken.take_up(self.place.run, self.config, self.identity, accepted, self.ranks)
        for name in removed:
            self.note(f"removed half-written {name}", say)
        if loaded is None:
            if self.place.attempt > 1:
                self.note("no checkpoint was saved by earlier attempts: starting from step 0", warn)
        else:
            self.state.restore(loaded)
            self.saved_step = self.state.step
            self.go_on(loaded)
            self.record_resume(loaded, removed)
            saved = {"step": self.state.step, "time": loaded.manifest["created"]}
            heartbeat.update(checkpoint=saved)
        heartbeat.update(total_steps=self.plan.total_steps, epochs=self.plan.epochs, message="; ".join(self.notes))

    def go_on(self, loaded: checkpoint.Loaded) -> None:
        """Read on where the checkpoint stands in the data, also where a step reads more or fewer windows than there."""
        before = checkpoint.step_windows(loaded.manifest["identity"])
        base = schedule.Base(*loaded.state.get("base", ()))
        if before != self.plan.step_windows:
            base = schedule.Base(self.state.step, loaded.state["epoch"], loaded.state["offset"])
            told = f"a step reads {self.plan.step_windows} windows from here on, {before} before"
            self.note(f"{told}: epoch {base.epoch + 1} goes on at its window {base.offset + 1}", say)
        if base != schedule.Base():
            self.lay_out(base)
        self.order.go_on(loaded.state.get("order"))

    def record_resume(self, loaded: checkpoint.Loaded, removed: list[str]) -> None:
        """Say from which checkpoint the attempt goes on and why from no newer one: in the log, the notes and for
        `status`, in resumed.json."""
        for passed in loaded.passed_over:
            self.note(passed.why, warn)
        self.note(f"resumed from {loaded.path.name}", say)
        if changed := surroundings.differences(loaded.manifest.get("surroundings", {}), self.surroundings):
            self.note(changed, warn)
        passed_over = [asdict(passed) for passed in loaded.passed_over]
        passed_over += [
            {"checkpoint": name, "why": f"checkpoint {name} had no manifest.json and was removed"}
            for name in removed
            if loaded.path.name < name
        ]
        resumed = {"schema_version": record.SCHEMA_VERSION, "step": self.state.step, "checkpoint": loaded.path.name}
        files = self.place.run.attempt(self.place.attempt)
        if self.ranks.seat.first:
            record.write_json(files.resumed, resumed | {"passed_over": passed_over})

    def note(self, text: str, tell: Callable[[str], None]) -> None:
        self.notes.append(text)
        if self.ranks.seat.first:
            tell(text)

    def rehearse(self) -> None:
        """One small validation before the first step: what is broken in it should not come out an epoch later."""
        size = self.config.training.batch_size
        metrics = getattr(self.job, "rehearsal", self.job.metrics)()
        measured = self.evaluate(self.held_out[:size], metrics)
        wanted = self.config.checkpoint.metric
        if self.config.checkpoint.keep_best and wanted not in measured:
            hint = did_you_mean(wanted, list(measured)) or f"measured are: {', '.join(measured)}"
            raise RunctlError(f"checkpoint.metric is {wanted}, which validation does not measure", hint=hint)

    def step(self) -> None:
        """One optimizer step over one effective batch, cut into forward passes of `batch_size` windows."""
        training, state, place = self.config.training, self.state, self.place
        chosen, epoch = self.order.windows(state.step), self.plan.epoch(state.step)
        parts: list[tuple[Tensor, dict[str, Tensor], int]] = []
        left = len(chosen)
        for index, part in enumerate(chosen.split(training.batch_size)):
            left -= len(part)
            mine, count = self.ranks.share(part)
            asked = time.monotonic()
            batch = self.job.batch(mine, validation=False)
            self.timing.data(time.monotonic() - asked)
            if self.ahead and (then := self.order.after(state.step, index, training.batch_size)) is not None:
                self.ahead(self.ranks.share(then)[0], validation=False)
            weight = self.ranks.seat.size * count / len(chosen)
            with self.ranks.passing(last=left == 0):
                with autocast(place.device, training.precision):
                    loss, named = self.loss(batch, generator=state.generator, progress_epochs=epoch, train=True)
                if left == 0:
                    self.ranks.arrive()
                (loss if weight == 1 else loss * weight).backward()
            parts.append((loss.detach(), named, count))
            place.heartbeat.beat()
        norm = optimizer.clip(self.parameters, training.grad_clip)
        state.step += 1
        optimizer.set_rate(state.optimizer, schedule.learning_rate(training, self.plan, state.step))
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.sums.add(state.step, parts, norm, len(chosen))
        self.rate.add(len(chosen))
        self.windows = len(chosen)

    def after_step(self) -> None:
        step, total = self.state.step, self.plan.total_steps
        if step == 1 or step % self.config.training.log_every == 0 or step == total:
            self.log()
        self.timing.step(self.windows)
        now, control = time.monotonic(), self.place.control
        due = step == total or self.validate_every.due(step, now)
        wanted = self.save_every.due(step, now) or control.take_save_request()
        _, due, wanted = self.ranks.agree(control.stopping, due, wanted)
        improved = self.validate() if due else False
        if saved := self.writer.poll():
            self.note_saved(saved.name)
        if improved or wanted:
            self.save()
        self.place.heartbeat.now() if step == 1 else self.place.heartbeat.beat()

    def log(self) -> None:
        step = self.state.step
        row = self.row() | self.state.sums.take(step)
        row["train/lr"] = schedule.learning_rate(self.config.training, self.plan, step)
        row["examples_per_second"] = self.rate.read()
        self.place.trackers.log(row)
        self.place.heartbeat.update(loss=row["train/loss"])
        self.calibrate()

    def calibrate(self) -> None:
        """Leave what was measured so far for later estimates; a disk that refuses it is no reason to end."""
        if not self.ranks.seat.first or not self.timing.due():
            return
        place = self.place
        one = measure.measurement(self, self.timing, kind="run", name=place.run.name, attempt=place.attempt)
        measure.write(place.run.attempt(place.attempt), one)

    def validate(self) -> bool:
        """Measure on the held-out windows; returns whether the metric that checkpoints are kept by is the best yet."""
        state = self.state
        state.sums.check(state.step)  # waits for the steps: still training
        self.timing.wait()
        with self.rate.paused():
            improved = self.measure()
        self.timing.go()
        return improved

    def measure(self) -> bool:
        state = self.state
        self.place.heartbeat.phase("validating", f"on {len(self.held_out)} windows")
        began = time.monotonic()
        try:
            measured = self.evaluate(self.held_out)
        except Stopped:
            return False
        state.validation = {"step": state.step, "metrics": measured}
        seconds = time.monotonic() - began
        self.timing.validation(seconds, len(self.held_out))
        self.place.trackers.log(self.row() | measured | {"validation_seconds": round(seconds, 3)})
        value = measured.get(self.config.checkpoint.metric)
        improved = retention.better(value, state.best, self.config.checkpoint.mode)
        if improved:
            state.best = value
        self.validate_every.done(time.monotonic())
        self.place.heartbeat.phase("training")
        return improved and self.config.checkpoint.keep_best > 0

    def evaluate(self, chosen: HeldOut | Tensor, metrics: Metrics | None = None) -> dict[str, float | None]:
        def meanwhile() -> None:
            self.place.heartbeat.beat()
            self.ranks.agree(self.place.control.stopping)
            if self.ranks.stopping(self.place.control):
                raise Stopped(self.place.control.reason)

        training = self.config.training
        return evaluate(
            self.job,
            chosen,
            batch_size=training.batch_size,
            device=self.place.device,
            precision=training.precision,
            meanwhile=meanwhile,
            ranks=self.ranks,
            metrics=metrics,
        )

    def owes_validation(self) -> bool:
        """Whether the validation of the checkpoint's own step was given up, because the run was asked to stop."""
        step = self.state.step
        last = self.state.validation["step"] if self.state.validation else 0
        due = step == self.plan.total_steps or self.validate_every.due(step, float("-inf"))
        return due and last != step

    def save(self, *, wait: bool = False) -> None:
        """Snapshot the state and have it written; `wait` for the disk. Raises NonFinite rather than save poison:
        losses and gradients are looked at here, the weights of the snapshot by the writer, who raises it later."""
        state = self.state
        state.sums.check(state.step)
        self.timing.wait()
        began = time.monotonic()
        with self.rate.paused():
            self.write(wait=wait)
        (self.timing.write if wait else self.timing.stall).append(time.monotonic() - began)
        self.timing.go()

    def write(self, *, wait: bool) -> None:
        state, heartbeat = self.state, self.place.heartbeat
        if saved := self.writer.wait(heartbeat.beat):
            self.note_saved(saved.name)
        tensors, facts = state.capture()
        self.saved_step = state.step
        self.save_every.done(time.monotonic())
        if not self.ranks.seat.first:
            return
        epoch, offset = self.plan.position(state.step)
        validated = state.validation if state.validation and state.validation["step"] == state.step else None
        self.writer.submit(
            checkpoint.Contents(
                step=state.step,
                tensors=tensors,
                state=facts
                | {"epoch": epoch, "offset": offset, "base": self.plan.base.to_json(), "order": self.order.way},
                identity=self.identity,
                config_digest=self.digest,
                attempt=self.place.attempt,
                metrics=validated["metrics"] if validated else None,
                surroundings=self.surroundings,
            )
        )
        if wait:
            heartbeat.phase("checkpointing")
            if saved := self.writer.wait(heartbeat.beat):
                self.note_saved(saved.name)

    def note_saved(self, name: str) -> None:
        step = int(name.removeprefix("step-"))
        self.place.heartbeat.update(checkpoint={"step": step, "time": time.time()})
        self.place.heartbeat.now()

    def end(self) -> Outcome:
        """Save what is not saved yet and say how the run stands."""
        state, total = self.state, self.plan.total_steps
        finished = state.step >= total and not self.owes_validation()
        if state.step > self.saved_step:
            self.save(wait=True)
        elif saved := self.writer.wait(self.place.heartbeat.beat):
            self.note_saved(saved.name)
        metrics = dict(state.validation["metrics"]) if state.validation else {}
        self.place.heartbeat.phase("ending")
        self.timing.written = 0.0
        self.calibrate()
        return Outcome("succeeded" if finished else "stopped", state.step, total, metrics, self.notes)

    def standing(self) -> dict[str, Any]:
        """What the heartbeat tells of the steps."""
        step = self.state.step
        return {
            "step": step,
            "epoch": round(self.plan.epoch(step), 4),
            "examples_per_second": self.rate.last(),
            "tracking": self.place.trackers.status(),
        }

    def row(self) -> dict[str, Any]:
        step = self.state.step
        epoch = round(self.plan.epoch(step), 6)
        return {"step": step, "attempt": self.place.attempt, "epoch": epoch, "time": round(time.time(), 3)}
