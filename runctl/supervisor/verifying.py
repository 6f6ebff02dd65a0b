"""Whether a run that went on really goes on: its step advances, and its loss follows on the loss before.

The band is measured from the run itself: how far each of its last rows lay from the mean of the three before it. A
resume that lost its weights, its optimizer or its data starts far outside of it. It is told and ends nothing: a changed
learning rate may do the same. Where steps were run again, their losses are compared one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from runctl import record
from runctl.fields import number, text, whole
from runctl.guards.watch import Tail, history
from runctl.light import dataclass
from runctl.supervisor.watchers import Scene, Watcher
from runctl.units import counted

METRICS = ("train/loss", "loss")
AFTER = 3  # rows after the resume that are compared
BEFORE = 20  # rows before it that tell how much the loss wavers
LEAST = 6
TIMES = 4.0  # the wavering, on both sides
FLOOR = 0.02  # of the loss itself


@dataclass(frozen=True)
class Finding:
    """What was found: `doubt`, in words, or that all is well."""

    doubt: bool
    words: str


def judge(before: Sequence[float], after: Sequence[float], again: Sequence[tuple[float, float]]) -> Finding:
    """Compare losses `before` a resume, oldest first, with the first ones `after` it; `again` are pairs (then, now) of
    steps that were run before as well."""
    if bad := [value for value in after if not math.isfinite(value)]:
        return Finding(True, f"the loss is {bad[0]} after it")
    if again and all(then == now for then, now in again):
        return Finding(False, f"{counted(len(again), 'row')} measured before came out the same to the last digit")
    if len(before) < LEAST or not after:
        return Finding(False, "too few rows lie before it to judge the loss")
    wavering = [value - sum(before[at - 3 : at]) / 3 for at, value in enumerate(before) if at >= 3]
    spread = math.sqrt(sum(one * one for one in wavering) / len(wavering))
    centre, now = sum(before[-3:]) / 3, sum(after) / len(after)
    width = max(TIMES * spread, FLOOR * abs(centre))
    band = f"{centre - width:.4g} to {centre + width:.4g}"
    if abs(now - centre) > width:
        return Finding(
            True, f"the loss is {now:.4g} after it and was {centre:.4g} before: outside of {band}, its wavering"
        )
    otherwise = "; steps that were run before came out otherwise" if again else ""
    return Finding(False, f"the loss is {now:.4g}, within {band} as before{otherwise}")


class Verifying(Watcher):
    """Of an attempt that goes on from a checkpoint."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        files = scene.run.attempt(scene.number)
        start = record.read_object(files.start)
        self.files = files
        self.from_step = whole(start, "from_step") or 0
        self.told_so = scene.config.get("task") == "command"  # resumed.json is what it was given, not what it took up
        self.open = scene.number > 1 and self.from_step > 0
        self.changed = [str(key) for row in _rows(start.get("changes")) if (key := text(row, "key"))]
        self.tail = Tail(scene.run.metrics)
        self.size = self.tail.offset
        self.after: dict[int, float] = {}
        self.first: int | None = None

    def told(self, row: dict[str, Any]) -> None:
        if self.open and row.get("event") == "first_step":
            self.first = whole(row, "step")

    def look(self, seconds: float) -> None:
        if not self.open:
            return
        for row in self.tail.rows():
            step, loss = whole(row, "step"), _loss(row)
            if row.get("attempt") == self.scene.number and step is not None and loss is not None:
                self.after[step] = loss
        if len(self.after) >= AFTER:
            self._conclude()

    def end(self) -> None:
        self.look(0.0)
        if self.open and (self.after or self.first is not None):
            self._conclude()

    def _conclude(self) -> None:
        self.open = False
        resumed = whole(record.read_object(self.files.resumed), "step")
        begun = self.from_step if resumed is None else resumed
        after = dict(list(self.after.items())[:AFTER])
        first = min([*after, *([] if self.first is None else [self.first])])
        if first <= 0 or ((resumed is None or self.told_so) and first < begun - 1):
            finding = Finding(True, f"it went on at step {first:,}, but its last checkpoint is of step {begun:,}")
        else:
            finding = self._losses(begun, after)
        because = f"; {', '.join(self.changed)} changed with it" if self.changed and finding.doubt else ""
        kind = "resume_doubtful" if finding.doubt else "resume_verified"
        reason = f"resumed at step {begun:,}: {finding.words}{because}"
        self.scene.events.add(kind, step=max([first, *after]), from_step=begun, reason=reason)

    def _losses(self, begun: int, now: dict[int, float]) -> Finding:
        """Losses after the resume against those before it, of rows that count: the last attempt's of each step."""
        before: dict[int, float] = {}
        beyond: dict[int, float] = {}
        for row in history(self.scene.run.metrics, self.size):
            step, loss = whole(row, "step"), _loss(row)
            if step is not None and loss is not None and whole(row, "attempt") != self.scene.number:
                (before if step <= begun else beyond)[step] = loss
        values = [before[step] for step in sorted(before)[-BEFORE:]]
        again = [(then, now[step]) for step, then in beyond.items() if step in now]
        return judge(values, list(now.values()), again)


def _loss(row: dict[str, Any]) -> float | None:
    """The loss of a row; one that is not finite is written as text or as such."""
    for name in METRICS:
        if name in row:
            found = number(row, name)
            return found if found is not None else math.nan
    return None


def _rows(data: Any) -> list[dict[str, Any]]:
    return [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []
