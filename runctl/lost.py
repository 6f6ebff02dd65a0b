"""Runs that are lost: what watched them went away with its machine, or was killed, before they were done. Found,
weighed, and taken up again, each as `resume` does it and with what it refuses.

Lost is a run that nobody asked to end. One that failed by itself, was killed by a guard or stopped by `runctl stop` is
left alone; one that a machine ended on its way down (SIGTERM from outside) is taken up. SIGINT is taken for a person's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from runctl import launch, record, resume, status
from runctl.errors import RunctlError, of_place
from runctl.light import dataclass
from runctl.status.state import NEVER_STARTED
from runctl.supervisor.failures import PREEMPTED
from runctl.supervisor.verdict import SUPERVISOR_LOST, requested
from runctl.units import counted, format_duration, format_usd


@dataclass(frozen=True)
class Lost:
    """A lost run: how a resume of it would go, or why it is refused. `again` are the steps that were done and not
    saved, None where that is not known; `again_seconds` about how long they took; `likely_usd` what the rest costs."""

    run: record.RunDir
    found: status.RunStatus
    plan: resume.Plan | None = None
    refused: RunctlError | None = None
    again: int | None = None
    again_seconds: float | None = None
    likely_usd: float | None = None

    @property
    def words(self) -> str:
        """What it is, and when that came: `big-2 failed 3h12m ago: supervisor lost: the machine restarted`."""
        ended = self.found.ended
        ago = "" if ended is None else f" {format_duration(max(1.0, time.time() - ended))} ago"
        return f"{self.run.name} {self.found.state}{ago}: {self.found.reason}"

    @property
    def costs(self) -> str:
        """What is lost of its work, and what the rest costs."""
        if self.again is None:
            lost = "what of its work is lost is not known"
        elif not self.again:
            lost = "none of its steps is lost"
        else:
            about = "" if self.again_seconds is None else f", about {format_duration(self.again_seconds)} of work"
            lost = f"{counted(self.again, 'step')} {'is' if self.again == 1 else 'are'} lost{about}"
        if self.likely_usd is None:
            return f"{lost}; what the rest costs is not known"
        return f"{lost}; the rest likely costs {format_usd(self.likely_usd)}" if self.likely_usd else lost

    def to_json(self) -> dict[str, Any]:
        plan = self.plan
        return {
            "run": self.run.name,
            "state": self.found.state,
            "reason": self.found.reason,
            "ended": self.found.ended,
            "step": self.found.step,
            "total_steps": self.found.total_steps,
            "from_step": plan.checkpoint["step"] if plan is not None and plan.checkpoint else None,
            "attempt": plan.attempt if plan is not None else None,
            "steps_lost": self.again,
            "seconds_lost": self.again_seconds,
            "likely_usd": self.likely_usd,
            "words": plan.words if plan is not None else None,
            "notes": list(plan.notes) if plan is not None else [],
        }


def find(project: Path, *, since: float | None = None, force: bool = False) -> list[Lost]:
    """Every lost run of a project, oldest first; those that were lost at `since` (unix seconds) or later. `force`: also
    take up those whose machine cannot be asked."""
    wanted = status.Query(states=("failed", "stopped", "lost"), since=since)
    runs = [(record.RunDir(record.runs_root(project) / one.run), one) for one in status.select(project, wanted).shown]
    return [weigh(run, found, force=force) for run, found in runs if concerns(run, found)]


def concerns(run: record.RunDir, found: status.RunStatus) -> bool:
    """Whether a run ended because what watched it went away, or because its machine went down; not where a person, a
    guard or a limit had asked for its end before."""
    if run.attempt(found.attempt).asked.exists():
        return False
    if found.state == "stopped":
        return found.reason.startswith(PREEMPTED) and "SIGINT" not in found.reason
    if found.state != "lost" and not found.reason.startswith((SUPERVISOR_LOST, NEVER_STARTED)):
        return False
    rows = [row for row in record.read_lines(run.events) if row.get("attempt") == found.attempt]
    stops = [requested(row) for row in rows if row.get("event") == "stop_requested"]
    return all(stop is not None and stop.kind == "preempted" for stop in stops)


def weigh(run: record.RunDir, found: status.RunStatus, *, force: bool = False) -> Lost:
    """What taking up a run would mean, or why it is refused."""
    try:
        plan = resume.plan(run, force=force)
    except RunctlError as error:
        return Lost(run, found, refused=error)
    except OSError as error:
        return Lost(run, found, refused=of_place(error, run.path) or RunctlError(f"{run.name}: {error}"))
    saved = int(plan.checkpoint["step"]) if plan.checkpoint else 0
    unknown = found.step is None or (found.task == "command" and plan.checkpoint is None)
    again = None if unknown or found.step is None else max(0, found.step - saved)
    rate = found.total_seconds / found.step if found.total_seconds and found.step else None
    seconds = rate * again if rate is not None and again is not None else None
    return Lost(run, found, plan, None, again, seconds, plan.claim.likely)


def take_up(one: Lost) -> RunctlError | None:
    """Start the next attempt of a lost run; why that could not be, or None."""
    if one.plan is None:
        return one.refused
    try:
        resume.start(one.plan)
    except RunctlError as error:
        return error
    return None


def starts(
    runs: Sequence[record.RunDir], quiet_seconds: float
) -> Iterator[tuple[record.RunDir, status.RunStatus | RunctlError]]:
    """`launch.await_start` of all of them at once: as they come, each with how it stands after its first step, or why
    it did not get there. Ctrl-C ends the wait and nothing else."""
    done: SimpleQueue[tuple[record.RunDir, status.RunStatus | Exception]] = SimpleQueue()

    def wait(run: record.RunDir) -> None:
        try:
            done.put((run, launch.await_start(run, quiet_seconds)))
        except Exception as error:
            done.put((run, error))

    for run in runs:
        threading.Thread(target=wait, args=(run,), daemon=True).start()
    for _ in runs:
        run, found = done.get()
        if isinstance(found, Exception) and not isinstance(found, RunctlError):
            raise found
        yield run, found
