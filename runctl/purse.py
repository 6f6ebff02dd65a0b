"""A project's purse: `budget: {total_usd: 200}` in `runctl.yaml`, what of it is spent, and what may be launched.

Spent is what all attempts of all runs have cost, those that are running included. What active runs are still likely to
cost is set aside, so that two launches do not count on the same money; a lock keeps them apart while they look.

What each run cost is also kept in `.runctl/purse.json`: a run that is deleted has cost what it has cost, and a list of
ten thousand runs needs not be read again.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from runctl import project as projects
from runctl import record, spending, status
from runctl.errors import RefusedError, RunctlError, UsageError, WaitTimeout
from runctl.fields import number, whole
from runctl.light import dataclass
from runctl.units import counted, format_usd

_LOCK_SECONDS = 20.0
_NAMED = 5
RULE = "BU105"  # which judges it at preflight
_LEAST = 0.005  # USD; less is rounding


@dataclass(frozen=True)
class Purse:
    """USD. `reserved` is what `active` runs are still likely to cost; `unreadable` says whose cost is not known;
    `gone` is the part of `spent` of runs that have been deleted."""

    total: float
    spent: float
    reserved: float
    active: int
    gone: float = 0.0
    unreadable: tuple[str, ...] = ()

    @property
    def left(self) -> float:
        return self.total - self.spent

    @property
    def free(self) -> float:
        """What a new run may cost."""
        return self.left - self.reserved

    def holds(self, usd: float | None) -> bool:
        """Whether a run of that cost fits; one that costs nothing always does, one of unknown cost while anything is
        left."""
        if usd is None:
            return self.free > 0
        return usd < _LEAST or usd <= self.free + 1e-9

    def words(self) -> str:
        """`$12.40 of $200.00 spent, $187.60 left`, and what of that is spoken for."""
        left = f"{_shown(self.left)} left" if self.left >= 0 else f"overdrawn by {_shown(-self.left)}"
        said = f"{_shown(self.spent)} of {_shown(self.total)} spent, {left}"
        if self.reserved >= _LEAST:
            said += f", {_shown(self.reserved)} of it likely needed by {counted(self.active, 'active run')}"
        return said

    def overdrawn(self, likely: float | None, what: str) -> str:
        """Why a run of that likely cost does not fit."""
        free = _shown(self.free) if self.free > 0 else "nothing"
        costs = f"likely costs {_shown(likely)}" if likely is not None else "costs money"
        return f"{what} {costs}, but {free} of the project's purse is free: {self.words()}"

    @property
    def hint(self) -> str:
        """What to do where a run does not fit."""
        ending = "end an active one, " if self.active else ""
        return f"make the run shorter or cheaper, {ending}or raise budget.total_usd in runctl.yaml"

    def doubts(self) -> str:
        """Whose cost is not known; "" where all is."""
        if not self.unreadable:
            return ""
        more = len(self.unreadable) - _NAMED
        named = "; ".join(self.unreadable[:_NAMED]) + (f"; and {more:,} more" if more > 0 else "")
        return f"not counted, for it cannot be read: {named}"

    def to_json(self) -> dict[str, Any]:
        names = ("total", "spent", "left", "reserved", "free", "gone")
        usd = {f"{name}_usd": round(getattr(self, name), 4) for name in names}
        return {**usd, "active_runs": self.active, "unreadable": list(self.unreadable)}


def read(project: projects.Project, *, write: bool = False) -> Purse | None:
    """The purse of a project; None where it has none. `write`: keep what was counted, which a preflight does not."""
    if project.total_usd is None:
        return None
    return _counted(project.root, project.total_usd, write=write)


def _shown(usd: float) -> str:
    return format_usd(usd if abs(usd) >= _LEAST else 0.0)


def notes(purse: Purse | None, likely: float | None, what: str = "this run") -> list[str]:
    """What a launch says of the purse beside what preflight finds."""
    if purse is None:
        return []
    run = f"what {what} costs is not known" if likely is None else f"{what} likely {format_usd(likely)}"
    return [f"purse: {purse.words()}; {run}", *([f"purse: {purse.doubts()}"] if purse.unreadable else [])]


@dataclass(frozen=True)
class Claim:
    """What a resume takes out of the purse."""

    root: Path
    purse: Purse | None
    likely: float | None
    what: str

    @property
    def notes(self) -> list[str]:
        return notes(self.purse, self.likely, self.what)

    def held(self) -> AbstractContextManager[None]:
        return claiming(self.root, self.purse.total if self.purse else None, self.likely, self.what)


def of_resume(run: record.RunDir, content: Mapping[str, Any], step: int | None, total: int | None) -> Claim:
    """What a resume from a step likely costs. Raises RefusedError where the purse does not hold it."""
    what, rate = f"what is left of {run.name}", spending.usd_per_hour(content)
    if rate == 0:
        return Claim(run.path.parent.parent, None, 0.0, what)
    project = projects.load(run.path.parent.parent / projects.FILE)
    root, found = project.root, read(project)
    if rate is None:
        return Claim(root, found, None, what)
    usd = rate * spending.of_attempts(run, False, time.time()).seconds / 3600
    likely = remaining(content, min(1.0, step / total) if step is not None and total else None, usd)
    if found is not None and not found.holds(likely):
        raise RefusedError(found.overdrawn(likely, what), hint=found.hint)
    return Claim(root, found, likely, what)


def keep(root: Path) -> None:
    """Write down what the runs have cost so far, where the project has a purse: before some are deleted."""
    with suppress(RunctlError):
        read(projects.load(root / projects.FILE), write=True)


@contextmanager
def claiming(root: Path, total: float | None, likely: float | None, what: str) -> Iterator[None]:
    """Look into the purse once more, and keep every other launch from looking until this one has its place in the
    record. Raises RefusedError where `likely` USD (None: not known) do not fit, WaitTimeout where another launch never
    lets go."""
    if total is None or (likely is not None and likely < _LEAST):
        yield
        return
    with _locked(root):
        now = _counted(root, total, write=True)
        if not now.holds(likely):
            raise RefusedError(now.overdrawn(likely, what), hint=now.hint)
        yield


def _counted(root: Path, total: float, *, write: bool) -> Purse:
    ledger, now = Ledger(root), time.time()
    spent, reserved, active, faults = 0.0, 0.0, 0, list(ledger.faults)
    here = set()
    for name, ended in record.glance(root):
        here.add(name)
        known = ledger.settled(name, ended)
        if known is not None:
            spent += known
            continue
        run = record.RunDir(record.runs_root(root) / name)
        found = _of(run, ended, now)
        usd = max(found.usd, ledger.seen(run.name)) if found.faults else found.usd
        spent, reserved, active = spent + usd, reserved + found.reserved, active + found.active
        faults += [f"{run.name}: {fault}" for fault in found.faults]
        if not found.faults:
            ledger.settle(run.name, found, ended)
    gone = ledger.gone(here)
    if write:
        ledger.save()
    return Purse(total, spent + gone, reserved, active, gone, tuple(faults))


@dataclass(frozen=True)
class _Cost:
    usd: float
    reserved: float = 0.0
    active: bool = False
    created: float | None = None
    faults: tuple[str, ...] = ()


def _of(run: record.RunDir, ended: float | None, now: float) -> _Cost:
    """What a run has cost, and if it is active what it still likely costs. `ended`: its summary is its last word."""
    if ended is not None:
        summary = record.read_object(run.summary)
        usd, created = number(summary, "cost_usd"), number(summary, "created")
        if usd is not None and usd >= 0 and created is not None:
            return _Cost(usd, created=created)
    content = record.content(run)
    created = number(content, "created")
    if damage := record.damage(run.run):
        return _Cost(0.0, created=created, faults=(damage,))
    rate = spending.usd_per_hour(content)
    if rate is None:
        return _Cost(0.0, created=created, faults=("no price of it is on record",))
    if rate == 0:
        return _Cost(0.0, created=created)
    found = status.read(run)
    spent = spending.of_attempts(run, found.active, now)
    usd = max(0.0, rate * spent.seconds / 3600 + spending.dearer_usd(run, rate))
    if not found.active:
        return _Cost(usd, created=created, faults=spent.faults)
    rest = _rest(content, found, rate, usd)
    faults = spent.faults if rest is not None else (*spent.faults, "what it is still likely to cost was not estimated")
    return _Cost(usd, rest or 0.0, True, created, faults)


def _rest(content: Mapping[str, Any], found: status.RunStatus, rate: float, usd: float) -> float | None:
    """What an active run still likely costs: by its own pace, else by what was estimated."""
    if found.eta_seconds is not None:
        return rate * found.eta_seconds / 3600
    return remaining(content, found.progress, usd)


def remaining(content: Mapping[str, Any], progress: float | None, usd: float) -> float | None:
    """What of a run's likely cost is still to come, at a share of its steps or else after so many USD."""
    likely = spending.likely(content, "cost")
    if likely is None:
        return None
    return likely * (1 - progress) if progress is not None else max(0.0, likely - usd)


class Ledger:
    """`.runctl/purse.json`: what each run had cost when it was last looked at.

    {"schema_version": 1, "runs": {"big-2": {"usd": 12.4, "created": 1795000000.2, "ended": 1795003600.7}},
     "replaced": {"usd": 0.5, "runs": 1}}

    `ended` is the time of the run's summary, absent while it may still cost more. A run whose folder is gone
    keeps its entry; one whose name was taken by another adds to `replaced`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / ".runctl" / "purse.json"
        self.faults: tuple[str, ...] = ()
        self.changed = False
        content = record.read_object(self.path)
        runs, replaced = content.get("runs"), content.get("replaced")
        if self.path.exists() and not (isinstance(runs, dict) and content.get("schema_version") == 1):
            self.faults = (".runctl/purse.json is damaged, and with it what deleted runs have cost: delete it",)
        self.runs: dict[str, Any] = runs if isinstance(runs, dict) else {}
        self.replaced: dict[str, Any] = replaced if isinstance(replaced, dict) else {"usd": 0.0, "runs": 0}

    def settled(self, name: str, ended: float | None) -> float | None:
        """What a run has cost that ended as it is written here; None where it must be looked at."""
        entry = self.runs.get(name)
        usd = number(entry, "usd")
        return usd if usd is not None and ended is not None and number(entry, "ended") == ended else None

    def seen(self, name: str) -> float:
        """What a run had cost when that could last be read."""
        return number(self.runs.get(name), "usd") or 0.0

    def settle(self, name: str, found: _Cost, ended: float | None) -> None:
        old = self.runs.get(name)
        before, usd = number(old, "created"), number(old, "usd")
        if usd and before is not None and before != found.created:  # another run has taken its name
            self.replaced = {
                "usd": (number(self.replaced, "usd") or 0.0) + usd,
                "runs": (whole(self.replaced, "runs") or 0) + 1,
            }
        entry = {"usd": round(found.usd, 6), "created": found.created, **({"ended": ended} if ended else {})}
        if entry != old and (found.usd or ended):
            self.runs[name] = entry
            self.changed = True

    def gone(self, here: set[str]) -> float:
        """USD of the runs that are no longer here, under whatever name."""
        renamed = {number(self.runs.get(name), "created") for name in here} - {None}
        lost = [entry for name, entry in self.runs.items() if name not in here]
        lost = [number(entry, "usd") or 0.0 for entry in lost if number(entry, "created") not in renamed]
        return sum(lost, number(self.replaced, "usd") or 0.0)

    def save(self) -> None:
        """Best effort: what cannot be kept is read again next time. A damaged ledger is left for a person to see."""
        if self.faults or not self.changed:
            return
        with suppress(OSError, UsageError):
            record.own(self.root)
            data = {"schema_version": record.SCHEMA_VERSION, "runs": self.runs, "replaced": self.replaced}
            record.write_json(self.path, data, durable=False)


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    path = record.own(root) / "purse.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    deadline = time.monotonic() + _LOCK_SECONDS
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise WaitTimeout(
                        "another launch has been holding the project's purse for too long",
                        hint=f"look for a launch that hangs; it holds {path}",
                    ) from None
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)
