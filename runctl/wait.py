"""Watch runs until they have ended, or have got as far as is wanted."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from runctl import record, status
from runctl.errors import Exit, UsageError, WaitTimeout
from runctl.light import dataclass
from runctl.units import format_duration

_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Goal:
    """How far: `finished`, a `checkpoint` that is whole on the disk (or named by a program of the user's own), or so
    many steps that are done."""

    kind: str = "finished"
    step: int = 0

    def reached(self, found: status.RunStatus) -> bool:
        if self.kind == "checkpoint":
            return bool(found.checkpoint_step)
        if self.kind == "step":
            return (found.step or 0) >= self.step or (self.step == 1 and found.task == "command" and found.first_step)
        return found.over and not found.leftover

    @property
    def words(self) -> str:
        return {"step": f"step {self.step:,}", "checkpoint": "a checkpoint"}.get(self.kind, "its end")


@dataclass(frozen=True)
class Waited:
    """A run that need not be waited for any more: it has `reached` the goal, or has ended before that."""

    status: status.RunStatus
    goal: Goal
    reached: bool

    @property
    def code(self) -> Exit:
        """As a script tells them apart: a run that was to finish by its state, else whether it got so far."""
        code = exit_code(self.status)
        if self.goal.kind == "finished":
            return code
        return Exit.OK if self.reached else Exit.RUN_FAILED if code == Exit.OK else code

    @property
    def why(self) -> str:
        """Why it is as it is, in words; "" for what went as it should."""
        if self.goal.kind != "finished" and not self.reached:
            return f"it ended before {self.goal.words}" + (f": {self.status.reason}" if self.status.reason else "")
        return self.status.reason if self.goal.kind == "finished" else ""


def goal(text: str) -> Goal:
    """`finished`, `checkpoint` or `step:500`; raises UsageError for anything else."""
    kind, _, number = text.partition(":")
    if kind in ("finished", "checkpoint") and not number:
        return Goal(kind)
    if kind == "step" and number.isascii() and number.isdecimal() and 0 < int(number) < 10**15:
        return Goal("step", int(number))
    raise UsageError(f"--until {text}: no such thing to wait for", hint="write finished, checkpoint, or step:500")


def watch(
    run: record.RunDir, every_seconds: float = 0.5, timeout_seconds: float | None = None
) -> Iterator[status.RunStatus]:
    """The run's status again and again; the last one is that of its end. Raises WaitTimeout, the run goes on."""
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    while True:
        found = status.observe(run)
        yield found
        if found.over and not found.leftover:
            return
        if deadline is not None and time.monotonic() >= deadline:
            raise WaitTimeout(f"{run.name} is still {found.state} after {format_duration(timeout_seconds or 0.0)}")
        time.sleep(every_seconds if deadline is None else min(every_seconds, max(0.0, deadline - time.monotonic())))


def wait(run: record.RunDir, timeout_seconds: float | None = None) -> status.RunStatus:
    """The status of a run's end; raises WaitTimeout."""
    return deque(watch(run, _LOOK_SECONDS, timeout_seconds), maxlen=1)[0]


def until(
    runs: Sequence[record.RunDir],
    wanted: Goal,
    timeout_seconds: float | None = None,
    *,
    first: bool = False,
    look: Callable[[Waited], None] = lambda one: None,
) -> list[Waited]:
    """Wait for all of the runs, or for the `first` one that gets there or ends; `look` sees each as it comes. Raises
    WaitTimeout that names those which go on."""
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    left, done = list(runs), []
    while left:
        seen = [(run, status.observe(run)) for run in left]
        for run, found in seen:
            reached = wanted.reached(found)
            if reached or (found.over and not found.leftover):
                one = Waited(found, wanted, reached)
                look(one)
                done.append(one)
                left.remove(run)
                if first:
                    return done
        if left and deadline is not None and time.monotonic() >= deadline:
            named = ", ".join(f"{run.name} is still {found.state}" for run, found in seen if run in left)
            raise WaitTimeout(f"{named} after {format_duration(timeout_seconds or 0.0)}", run=left[0].name)
        if left:
            rest = _LOOK_SECONDS if deadline is None else max(0.0, deadline - time.monotonic())
            time.sleep(min(_LOOK_SECONDS * (1 + len(left) // 20), rest))
    return done


def exit_code(found: status.RunStatus) -> Exit:
    """What a command that followed a run to its end exits with."""
    return {"succeeded": Exit.OK, "killed": Exit.RUN_KILLED}.get(found.state, Exit.RUN_FAILED)
