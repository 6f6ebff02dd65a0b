"""What may go from `runs/` to make room: shown first, and only then deleted.

Never touched: a run that is not over by the evidence of this machine, the newest and the best whole checkpoint of a run
that has not finished, the only one of any run, and whatever does not lie in `runs/` itself (a link is not followed).
Of a run at a provider the same goes there first, and then what is here of it.

A deletion survives a kill at any moment: the manifest goes first, so that what is left is no checkpoint or dataset any
more; then the folder is renamed to `.trash-…` beside it; then it is deleted. What a kill left is deleted by the next
prune. Each run's lock is held meanwhile, so that no resume begins on what is going.
"""

from __future__ import annotations

import fcntl
import fnmatch
import os
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from runctl import backends, fields, purse, record, status
from runctl.errors import RunctlError
from runctl.light import dataclass
from runctl.supervisor.events import Events
from runctl.supervisor.summary import best, checkpoints, validation_rows
from runctl.units import counted, format_bytes, format_duration

KEEP = 2
TRASH = ".trash-"
_TEMPORARY = (".tmp-", ".restart-", ".resume-", ".latest.", TRASH)
_STALE_SECONDS = 3600.0
DAY = 86400.0


@dataclass(frozen=True)
class Policy:
    """What goes. `keep`: the newest so many checkpoints of a run; `every`: besides, those of every so many steps.
    `older_seconds`: whole runs that failed, were stopped or killed before any checkpoint, so long ago. `names`: only of
    runs with such names (shell patterns)."""

    keep: int = KEEP
    every: int | None = None
    older_seconds: float | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Item:
    """One thing that would go: `kind` is checkpoint, dataset, damaged, leftover or run. `where` names a provider, if it
    lies there, whatever of it is here as well."""

    run: str
    kind: str
    path: Path
    bytes: int
    why: str
    where: str = ""

    def to_json(self, root: Path) -> dict[str, Any]:
        path = str(self.path.relative_to(root))
        there = {"where": self.where} if self.where else {}
        return {"run": self.run, "kind": self.kind, "path": path, "bytes": self.bytes, "why": self.why, **there}


@dataclass(frozen=True)
class Kept:
    """A run of which nothing goes, and why."""

    run: str
    why: str


@dataclass(frozen=True)
class Plan:
    """All of it. `root` is the folder of the runs."""

    root: Path
    items: tuple[Item, ...]
    kept: tuple[Kept, ...]

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.items)


@dataclass(frozen=True)
class Done:
    """What went; `left` are those that did not, each with why."""

    items: tuple[Item, ...]
    left: tuple[tuple[Item, str], ...]

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.items)


def plan(project: Path, policy: Policy, now: float | None = None) -> Plan:
    """What would go; nothing is touched."""
    root = Path(os.path.realpath(record.runs_root(project)))
    now = time.time() if now is None else now
    items: list[Item] = []
    kept: list[Kept] = []
    for run in (record.RunDir(root / one.name) for one in record.list_runs(project)):
        if policy.names and not any(fnmatch.fnmatchcase(run.name, pattern) for pattern in policy.names):
            continue
        if run.path.is_symlink():
            kept.append(Kept(run.name, "it is a link, and what it leads to may be anybody's"))
            continue
        found = status.read(run)
        if why := _untouchable(run, found):
            kept.append(Kept(run.name, why))
            continue
        items += _of_run(run, found, policy, now)
    items += _leftovers(root, now) if not policy.names else []
    return Plan(root, tuple(items), tuple(kept))


def carry_out(plan: Plan, policy: Policy) -> Done:
    """Delete what the plan says, if that still holds now: each run is looked at again under its lock."""
    purse.keep(plan.root.parent)  # what a run has cost outlives it
    gone: list[Item] = []
    left: list[tuple[Item, str]] = []
    by_run: dict[str, list[Item]] = {}
    for item in plan.items:
        by_run.setdefault(item.run, []).append(item)
    for name, items in by_run.items():
        run = record.RunDir(plan.root / name) if name else None
        with _held(run) as refused:
            still = set() if refused else _still(run, plan.root, policy)
            for item in items:
                if refused or (item.path, item.kind) not in still:
                    left.append((item, refused or "it is no longer what it was"))
                    continue
                try:
                    if item.where and run is not None:
                        _away(run).remove(run, "" if item.kind == "run" else str(item.path.relative_to(run.path)))
                    if os.path.lexists(item.path):  # what lies at a provider need not be here
                        _delete(plan.root, item)
                except OSError as error:
                    left.append((item, error.strerror or str(error)))
                except RunctlError as error:
                    left.append((item, error.message))
                else:
                    gone.append(item)
            if run is not None and (mine := [item for item in gone if item.run == name]):
                _note(run, mine)
    return Done(tuple(gone), tuple(left))


def _untouchable(run: record.RunDir, found: status.RunStatus) -> str:
    """Why nothing of a run may go; "" if something may."""
    if found.active:
        return f"it is {found.state}"
    if found.leftover:
        return "what a lost supervisor left of it is still being ended"
    if run.remote.exists() and fields.text(record.read_object(run.remote), "phase") not in ("closed", "failed"):
        return f"it is {found.state}, and not closed yet: runctl status {run.name}"
    if found.state == "lost":
        return f"nobody can say whether it is over: {found.reason}"
    return ""


def _of_run(run: record.RunDir, found: status.RunStatus, policy: Policy, now: float) -> Iterator[Item]:
    whole = checkpoints(run)
    ended = found.ended if found.ended is not None else now
    age = max(0.0, now - ended)
    limit = policy.older_seconds
    ago = f"{found.state} {format_duration(max(1.0, age))} ago"
    if limit is not None and age >= limit and found.state != "succeeded" and not whole and not _set_aside(run):
        yield Item(run.name, "run", run.path, size(run.path), f"{ago}, without a checkpoint", _where(run))
        return
    yield from _half(run)
    old = limit is None or age >= limit
    if old:
        yield from _checkpoints(run, found, whole, policy)
    if old and not _real_folder(run.dataset):
        return
    if old and found.state == "succeeded":
        yield Item(run.name, "dataset", run.dataset, size(run.dataset), "simulated for a run that has succeeded")
    elif old and not whole:
        yield Item(run.name, "dataset", run.dataset, size(run.dataset), f"simulated for a run that {ago}")


def _checkpoints(
    run: record.RunDir, found: status.RunStatus, whole: Sequence[dict[str, Any]], policy: Policy
) -> Iterator[Item]:
    """The checkpoints that need not stay, and those that are none: half-written, damaged beside whole ones."""
    if not _real_folder(run.checkpoints) and not any(entry.get("own") for entry in whole):
        return
    top = best(run, validation_rows(run))
    stay = {entry["path"] for entry in whole[-max(1, policy.keep) :]}
    stay |= {top["checkpoint"]} if top and top["checkpoint"] else set()
    stay |= {entry["path"] for entry in whole if policy.every and entry["step"] % policy.every == 0}
    reasons = f"neither the best nor among the newest {policy.keep}"
    reasons += f" nor of a step that {policy.every:,} divides" if policy.every else ""
    for entry in whole:
        folder = run.path / entry["path"]
        if entry.get("own") and (Path(entry["path"]).is_absolute() or not _inside(run, folder)):
            continue  # what a program keeps elsewhere is its own business
        if entry["path"] not in stay and (_real_folder(folder) or entry.get("own")):
            there = _where(run)
            yield Item(run.name, "checkpoint", folder, entry["bytes"] if there else size(folder), reasons, there)
    if found.task == "command":  # what else lies there is its own
        return
    newest = run.path / whole[-1]["path"] if whole else None
    names = {run.path / entry["path"] for entry in whole}
    for folder in () if run.remote.exists() else _folders(run.checkpoints):
        name = folder.name.removeprefix("damaged-")
        if newest and folder not in names and name.startswith("step-") and name < newest.name:
            yield Item(run.name, "damaged", folder, size(folder), "it is not whole, and a newer one is")


def _where(run: record.RunDir) -> str:
    """The provider that a run lies at; "" of one of this machine."""
    return status.backend_of(run) if run.remote.exists() else ""


def _away(run: record.RunDir) -> backends.Remote:
    return backends.remote(status.backend_of(run))


def _half(run: record.RunDir) -> Iterator[Item]:
    """What was being written or deleted when something was killed; nobody does so in a run that is over."""
    for place in (run.path, run.checkpoints, run.path / "attempts"):
        for folder in _folders(place):
            if folder.name.startswith(_TEMPORARY):
                yield Item(run.name, "leftover", folder, size(folder), "half-written or half-deleted")


def _inside(run: record.RunDir, path: Path) -> bool:
    """Whether a path of a run's record leads to its folder and is no link."""
    real = os.path.realpath(path)
    return real == os.path.join(os.path.realpath(run.path), os.path.normpath(path.relative_to(run.path)))


def _leftovers(root: Path, now: float) -> Iterator[Item]:
    """Hidden folders in `runs/` that a killed launch, pull or prune has left, after an hour."""
    for folder in _folders(root):
        if (folder.name.startswith(".") and folder.name.endswith(".tmp")) or folder.name.startswith(TRASH):
            with suppress(OSError):
                if folder.name.startswith(TRASH) or now - folder.lstat().st_mtime >= _STALE_SECONDS:
                    yield Item("", "leftover", folder, size(folder), "left by a command that was killed")


def size(path: Path) -> int:
    """The bytes on the disk of all files under a path, links not followed, what has two names once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    pending = [path]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    about = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(about.st_mode):
                        pending.append(Path(entry.path))
                    elif about.st_nlink == 1 or (about.st_dev, about.st_ino) not in seen:
                        seen.add((about.st_dev, about.st_ino))
                        total += about.st_blocks * 512
        except NotADirectoryError:
            with suppress(OSError):
                total += path.lstat().st_blocks * 512
        except OSError:
            continue
    return total


def _still(run: record.RunDir | None, root: Path, policy: Policy) -> set[tuple[Path, str]]:
    """What may go now, of one run under its lock, or of what belongs to none."""
    now = time.time()
    if run is None:
        return {(item.path, item.kind) for item in _leftovers(root, now)}
    found = status.read(run)
    if run.path.is_symlink() or _untouchable(run, found):
        return set()
    return {(item.path, item.kind) for item in _of_run(run, found, policy, now)}


@contextmanager
def _held(run: record.RunDir | None) -> Iterator[str]:
    """Hold a run's lock, which its supervisor would; gives why it cannot be had, else ""."""
    if run is None:
        yield ""
        return
    try:
        descriptor = os.open(run.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        yield f"its lock cannot be opened: {error.strerror}"
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield "a supervisor holds it"
            return
        yield ""
    finally:
        os.close(descriptor)


def _delete(root: Path, item: Item) -> None:
    """Manifest, rename, delete; everything by its place under `root`, of which no part may be a link."""
    path = item.path
    for part in (*reversed(path.relative_to(root).parents), path.relative_to(root)):
        if (root / part).is_symlink():
            raise OSError(f"{root / part} is a link")
    if item.kind != "run" and path.is_dir():  # of a run the rename alone decides: its name is hidden then
        (path / "manifest.json").unlink(missing_ok=True)
        record.sync_folder(path)
    if item.kind == "checkpoint":
        _no_longer_latest(path)
    doomed = path
    if not path.name.startswith(TRASH):
        doomed = path.with_name(f"{TRASH}{path.name.lstrip('.')}-{os.getpid()}-{time.time_ns()}")
        os.rename(path, doomed)
        record.sync_folder(path.parent)
    if doomed.is_dir():
        shutil.rmtree(doomed)
    else:  # a checkpoint of a program of one's own may be one file
        doomed.unlink()


def _no_longer_latest(path: Path) -> None:
    """`latest` names a whole checkpoint or nothing."""
    latest = path.parent / "latest"
    with suppress(OSError, UnicodeDecodeError):
        if not latest.is_symlink() and latest.read_text(encoding="utf-8").strip() == path.name:
            latest.unlink()


def _note(run: record.RunDir, gone: list[Item]) -> None:
    """On the record of a run that is still there: what went, and of its summary the checkpoints that are left."""
    if not run.path.is_dir():
        return
    said = record.read_json(run.summary)
    if isinstance(said, dict) and any(item.kind == "checkpoint" for item in gone):
        with suppress(OSError, ValueError):
            record.write_json(run.summary, {**said, "checkpoints": checkpoints(run)})
    words = f"{counted(len(gone), 'folder')}, {format_bytes(sum(item.bytes for item in gone))}"
    paths = [str(item.path.relative_to(run.path)) for item in gone]
    number = max((attempt.number for attempt in run.attempts()), default=1)
    Events(run, number).add("pruned", paths=paths, reason=words)
    if any(item.where for item in gone):
        with suppress(RunctlError):
            _away(run).give(run)


def _set_aside(run: record.RunDir) -> bool:
    """Whether something is left of which a checkpoint might be restored."""
    return any(folder.name.startswith(("damaged-step-", "step-")) for folder in _folders(run.checkpoints))


def _folders(folder: Path) -> list[Path]:
    """The real folders in a folder; links are none."""
    if not _real_folder(folder):
        return []
    return sorted(entry for entry in folder.iterdir() if _real_folder(entry))


def _real_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
