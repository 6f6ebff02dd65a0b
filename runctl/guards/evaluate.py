"""Guards over the values of a run as they come: no file, no clock, no grammar.

A guard that notes trips when its condition becomes true, and again only after it was false; one that stops or kills
trips whenever it is true of a new value. A value that is not finite trips every comparison: it is worse than any
limit. A step that is seen again counts once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from runctl.fields import whole
from runctl.guards import drift, words
from runctl.light import dataclass
from runctl.units import counted, format_duration, format_usd

ENDING = ("stop", "kill")
MARKS = (0.5, 0.8)  # of a budget, at which a notice is given; the end is the third
_FROM_HEARTBEAT = ("loss", "examples_per_second", "memory_bytes", "skipped", "oom", "mfu")
_SHARES = ("skipped", "oom")  # counts of batches, seen as shares of the steps
_START_VALUES = 5
_NAMED = 100  # metrics of one row that are looked at for NaN


@dataclass(frozen=True)
class Trip:
    """A guard has tripped: what is to be done, why in words, and the values."""

    guard: str
    do: str
    message: str
    step: int | None
    values: dict[str, Any]


@dataclass(frozen=True)
class Moment:
    """One row of metrics, or one heartbeat, with where the run is. `seconds` are those of all attempts."""

    row: Mapping[str, Any]
    step: int | None
    epoch: float | None
    seconds: float
    heartbeat: bool = False


class Guard:
    """One guard and what it has seen. `made` is its entry in run.json."""

    def __init__(self, made: Mapping[str, Any]) -> None:
        self.made, self.test = made, made["test"]
        self.name, self.do, self.kind = str(made["name"]), str(made["do"]), str(made["test"]["kind"])
        self.metric: str | None = self.test.get("metric")
        self.seen = 0
        self.true = False
        self.streak = 0
        self.since: float | None = None
        self.last_step = -1
        self.from_rows = False
        self.missed = False
        self.best = math.nan
        self.start: list[float] = []
        self.history = drift.History()
        self.values: deque[float] = deque(maxlen=int(self.test.get("over") or 1))

    def value(self, moment: Moment) -> Trip | None:
        """What a new row or heartbeat makes of the guard."""
        if self.kind == "nan":
            return self._nan(moment)
        if self.metric is None or not self._new(moment):
            return None
        found = self._measured(moment.row)
        if found is None:
            return self._missing(moment)
        self.seen += 1
        if moment.step is not None:
            self.last_step = moment.step
        holds, why = self._holds(found, moment)
        if not self._reached(moment):
            holds, self.streak, self.since = False, 0, None
        return self._edge(self._lasts(holds, moment), why, moment.step, {self.metric: found})

    def missing_on(self) -> str:
        """The metric of a guard that never could judge; "" where there is none, it did, or that was told."""
        waits = self.kind not in ("nan", "checkpoint", "hours", "cost") and not self.seen and not self.missed
        return self.metric or "" if waits else ""

    def begin(self) -> None:
        """A new attempt: what grows within a process has begun anew."""
        self.history = drift.History()

    def _measured(self, row: Mapping[str, Any]) -> float | None:
        """The metric of a row. A utilisation that nobody reports follows from the examples per second."""
        found = _value(row, str(self.metric))
        if found is None and self.metric == "mfu" and self.test.get("flops"):
            rate = _value(row, "examples_per_second")
            return None if rate is None else float(rate * self.test["flops"] / self.test["peak"])
        return found

    def _new(self, moment: Moment) -> bool:
        """Whether the moment is to be looked at: rows first, and no step twice."""
        if moment.heartbeat:
            if self.metric not in _FROM_HEARTBEAT or self.from_rows or moment.step is None or moment.step <= 0:
                return False
        elif self.metric in moment.row:
            self.from_rows = True
        return moment.step is None or moment.step > self.last_step

    def _reached(self, moment: Moment) -> bool:
        after = self.made.get("after") or {}
        if "steps" in after:
            return moment.step is not None and moment.step >= after["steps"]
        if "epochs" in after:
            epoch = moment.epoch
            if epoch is None and after.get("steps_per_epoch") and moment.step is not None:
                epoch = moment.step / after["steps_per_epoch"]
            return epoch is not None and epoch >= after["epochs"]
        return bool(moment.seconds >= after.get("seconds", 0.0))

    def _nan(self, moment: Moment) -> Trip | None:
        bad = [name for name in _not_finite(moment.row) if self.metric in (None, name)][:_NAMED]
        if self.metric is None:
            bad = [name for name in bad if name.endswith("loss")]
        said = any(name == self.metric or (self.metric is None and name.endswith("loss")) for name in moment.row)
        if not self._reached(moment) or not (bad or said):
            return None
        why = f"{bad[0]} is NaN or infinite" if bad else ""
        return self._edge(bool(bad), why, moment.step, dict.fromkeys(bad, "not finite"))

    def _missing(self, moment: Moment) -> Trip | None:
        """A row that measures the metric's group, but not the metric."""
        group = str(self.metric).partition("/")[0] + "/"
        beside = any(key.startswith(group) for key in moment.row)
        policy = self.made.get("missing")
        if self.missed or policy not in ("note", "stop") or not beside or "/" not in str(self.metric):
            return None
        if not self._reached(moment):
            return None
        self.missed = True
        do = "stop" if policy == "stop" else "note"
        return self._trip(do, f"{self.metric} is missing", moment.step, {})

    def _holds(self, value: float, moment: Moment) -> tuple[bool, str]:
        """Whether the condition is true of the value, and that in words."""
        test, shown = self.test, words.shown_as(self.test)
        said = f"{self.metric} {words.figure(value, shown)}"
        if not math.isfinite(value):
            if self.made.get("origin") == "default":
                return False, ""  # the guard about NaN says it
            return self.kind != "first" or self.seen == 1, f"{self.metric} is not finite"
        if self.kind == "compare":
            limit = self._limit(value)
            if limit is None:
                return False, ""
            basis = words.limit(test) if test.get("of") else test.get("basis")
            below = ", below its theoretical minimum" if test.get("floor") else ""
            below += f" ({basis})" if basis else ""
            return compare(value, test["op"], limit), f"{said} {test['op']} {words.figure(limit, shown)}{below}"
        if self.kind == "first":
            far = test["op"] == "far"
            off = not 0.5 <= value / test["value"] <= 2 if far else compare(value, test["op"], test["value"])
            return (
                self.seen == 1 and off,
                f"the first {said} is {'far from' if far else test['op']} {words.limit(test)}",
            )
        if self.kind == "chance":
            return self._chance(value, said)
        if self.kind == "drift":
            return self._drift(value, said)
        if self.kind == "spike":
            return self._spike(value, said)
        return self._plateau(value, said)

    def _limit(self, value: float) -> float | None:
        """The limit now; None while there is nothing to compare with."""
        base = self.test.get("of")
        if base is None:
            return float(self.test["value"])
        if base == "start":
            if len(self.start) < _START_VALUES:
                self.start.append(value)
                return None
            return float(self.test["value"]) * sorted(self.start)[_START_VALUES // 2]
        higher = self.test["op"] in ("<", "<=")  # a fall below a share of the best: the best is the highest
        known = not math.isnan(self.best)
        limit = float(self.test["value"]) * self.best if known else None
        self.best = value if not known else max(self.best, value) if higher else min(self.best, value)
        return limit

    def _chance(self, value: float, said: str) -> tuple[bool, str]:
        test = self.test
        edge = test["value"] + (test["within"] if test["op"] == "<=" else -test["within"])
        chance = f"chance among {test['classes']:,} classes, {words.level(test)}"
        return compare(value, test["op"], edge), f"{said} is no better than {chance}"

    def _drift(self, value: float, said: str) -> tuple[bool, str]:
        falls = words.more_is_better(str(self.metric))
        self.history.add(value)
        holds, change = drift.worse(self.history.quarters(), self.test["value"], falls)
        return holds, f"{said} has steadily {'fallen' if falls else 'risen'} by {100 * change:.3g} %"

    def _spike(self, value: float, said: str) -> tuple[bool, str]:
        before = list(self.values)
        self.values.append(value)
        if len(before) < max(5, int(self.test["over"]) // 2):
            return False, ""
        mean = sum(before) / len(before)
        if self.test["by"] == "ratio":
            ratio = value / mean if mean > 0 else 0.0
            return ratio > self.test["value"], f"{said} is {ratio:.3g} times the mean {mean:.4g} of its last values"
        spread = math.sqrt(sum((one - mean) ** 2 for one in before) / len(before))
        z = (value - mean) / max(spread, 1e-9 + 1e-3 * abs(mean))  # values that hardly differ make no spikes of noise
        words_ = f"{said} is {z:.3g} standard deviations above the mean {mean:.4g} of its last values"
        return z > self.test["value"], words_

    def _plateau(self, value: float, said: str) -> tuple[bool, str]:
        """The best of the last values against the best before them."""
        sign = -1.0 if words.more_is_better(str(self.metric)) else 1.0
        leaving = self.values[0] if len(self.values) == self.values.maxlen else None
        self.values.append(sign * value)
        if leaving is not None:
            self.best = leaving if math.isnan(self.best) else min(self.best, leaving)
        if math.isnan(self.best):
            return False, ""
        gain = self.best - min(self.values)
        over = counted(int(self.test["over"]), "evaluation")
        return gain < self.test["value"], f"{said}: better by {max(0.0, gain):.3g} over {over}"

    def _lasts(self, holds: bool, moment: Moment) -> bool:
        """Whether the condition has been true for as long as asked."""
        hold = self.made.get("hold") or {}
        if not holds:
            self.streak, self.since = 0, None
            return False
        self.streak += 1
        self.since = moment.seconds if self.since is None else self.since
        if "seconds" in hold:
            return bool(moment.seconds - self.since >= hold["seconds"])
        return bool(self.streak >= hold.get("times", 1))

    def _edge(self, true: bool, why: str, step: int | None, values: dict[str, Any]) -> Trip | None:
        was, self.true = self.true, true
        if not true or (was and self.do not in ENDING):
            return None
        return self._trip(self.do, why, step, values)

    def _trip(self, do: str, why: str, step: int | None, values: dict[str, Any]) -> Trip:
        at = f" at step {step:,}" if step is not None else ""
        because = f"; {self.made['why']}" if self.made.get("why") else ""
        shown = {
            name: one if not isinstance(one, float) or math.isfinite(one) else str(one) for name, one in values.items()
        }
        return Trip(
            self.name, do, _text(f"{why}{at}{because}"), step, {_text(name): one for name, one in shown.items()}
        )


class Checkpoints(Guard):
    """No checkpoint for so long: since the last one, else since the attempt's first step."""

    at: tuple[float, int] | None = None  # seconds and step of the last checkpoint, or of the start
    saved: int | None = None

    def tick(self, seconds: float, step: int | None, saved: int | None) -> Trip | None:
        """`seconds` of all attempts, the step that is done, the step of the newest checkpoint."""
        if step is None:
            return None
        if self.at is None or saved != self.saved:
            self.at, self.saved = (seconds, max(saved or 0, step if self.at is None else 0)), saved
        since, from_step = self.at
        wait, behind = seconds - since, step - from_step
        limit = self.test.get("seconds")
        late = wait >= limit if limit is not None else behind >= self.test["steps"]
        moment = Moment({}, step, None, seconds)
        span = format_duration(wait) if limit is not None else counted(max(0, behind), "step")
        last = "" if saved is None else f", the last is of step {saved:,}"
        found = self._edge(
            late and self._reached(moment), f"no checkpoint for {span}{last}", step, {"checkpoint": saved}
        )
        if found and self.do in ENDING:
            self.at = (seconds, step)  # it has been acted on
        return found


@dataclass(frozen=True)
class Dearer:
    """What is paid beyond the price of the launch, or less: `usd` so far, and `per_hour` from `since` seconds of the
    run on. A provider may give another GPU than the first that was asked for."""

    usd: float = 0.0
    per_hour: float = 0.0
    since: float = 0.0

    def at(self, seconds: float) -> float:
        return self.usd + self.per_hour * max(0.0, seconds - self.since) / 3600


class Ceiling(Guard):
    """Hours or money, all attempts together: a notice at each mark, once in all of them, then the end. `told` is the
    highest mark that an earlier attempt gave notice of."""

    def __init__(self, made: Mapping[str, Any], told: float = 0.0, dearer: Dearer | None = None) -> None:
        super().__init__(made)
        self.dearer = dearer or Dearer()
        self.marks = [mark for mark in MARKS if mark > told]

    def tick(self, seconds: float, step: int | None) -> Trip | None:
        share = self._share(seconds)
        if share >= 1:
            return self._tell(self.do, 1.0, share, step)
        passed = [mark for mark in self.marks if share >= mark]
        self.marks = [mark for mark in self.marks if share < mark]
        return self._tell("notify", passed[-1], share, step) if passed else None

    def _tell(self, do: str, mark: float, share: float, step: int | None) -> Trip:
        said = f"{mark:.0%} is used: {self._figure(share)} of {self._figure(1.0)}, all attempts together"
        return self._trip(do, said, step, {"mark": mark, "share": round(share, 4), "of": self.test["value"]})

    def _share(self, seconds: float) -> float:
        used = seconds / 3600
        if self.kind == "cost":
            used = used * self.test["usd_per_hour"] + self.dearer.at(seconds)
        return float(used / self.test["value"]) if self.test["value"] > 0 else math.inf

    def _figure(self, share: float) -> str:
        amount = share * self.test["value"]
        return format_usd(amount) if self.kind == "cost" else f"{amount:.3g} h"


def _text(name: str) -> str:
    """Text that any file takes: the names of metrics come from any program."""
    return name.encode("utf-8", "backslashreplace").decode()


def compare(value: float, op: str, limit: float) -> bool:
    return {">": value > limit, "<": value < limit, ">=": value >= limit, "<=": value <= limit}[op]


def _value(row: Mapping[str, Any], metric: str) -> float | None:
    """A metric of a row: a number, NaN where it is not finite, None where it is not there. `skipped` and `oom` count
    batches, and are seen as shares of the steps."""
    value = row.get(metric)
    if metric in _not_finite(row):
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if metric in _SHARES:
        step = whole(row, "step")
        return None if not step or step < 0 else float(value) / step
    return float(value)


def _not_finite(row: Mapping[str, Any]) -> list[str]:
    """The metrics of a row that are NaN, infinite, said to be, or a loss that is null where others are numbers."""
    said = row.get("nonfinite")
    found = [name for name in said if isinstance(name, str)] if isinstance(said, list) else []
    for name, value in row.items():
        if isinstance(value, float):
            bad = not math.isfinite(value)
        elif isinstance(value, int):
            bad = value.bit_length() > 1023
        else:
            bad = value is None and name.endswith("/loss")
        if bad and name not in found:
            found.append(name)
    return found
