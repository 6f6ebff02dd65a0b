"""The runs of a project: what one may be called, one of them by its name, all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from runctl.errors import UsageError, did_you_mean
from runctl.names import RUN_NAME
from runctl.record.paths import RunDir, runs_root


def check_name(name: str) -> str:
    """The name itself if a run may bear it; raises UsageError if it could leave its folder or confuse a shell."""
    if RUN_NAME.fullmatch(name) and ".." not in name:
        return name
    shown = name if len(name) <= 60 else f"{name[:57]}… ({len(name)} characters)"
    raise UsageError(
        f"{shown!r} cannot be a run's name",
        hint="use up to 100 letters, digits, '.', '_' and '-', beginning with a letter or digit, without '..'",
    )


def find(project: Path, name: str) -> RunDir:
    """The run of that name; raises UsageError naming the nearest ones."""
    root = runs_root(project)
    run = RunDir(root / check_name(name))
    if _is_run(run.path):
        return run
    if run.path.is_dir() and not os.access(run.path, os.R_OK | os.X_OK):
        hint = "its owner can share it with a group: share: group in runctl.yaml, before the launch"
        raise UsageError(f"{name} is another user's run: you may not look into {run.path}", hint=hint)
    known = [other.name for other in list_runs(project)]
    if not known:
        raise UsageError(
            f"no run '{name}': there are no runs under {root}", hint="start one with: runctl launch CONFIG"
        )
    raise UsageError(f"no run '{name}' under {root}", hint=did_you_mean(name, known) or "see: runctl status --all")


def list_runs(project: Path) -> list[RunDir]:
    """All runs of a project, oldest first; one that has lost its run.json is still a run."""
    root = runs_root(project)
    entries = [entry for entry in root.iterdir() if not entry.name.startswith(".")] if root.is_dir() else []
    return sorted((RunDir(entry) for entry in entries if _is_run(entry)), key=lambda run: (_made(run), run.name))


def glance(project: Path, fits: Callable[[str], bool] | None = None) -> Iterator[tuple[str, float | None]]:
    """The names of a project's runs in no order, each with the time of its summary if that is its last word: no folder
    of an attempt is younger. Paths are text here: of ten thousand runs, making them is most of the time."""
    root = str(runs_root(project))
    try:
        names = os.listdir(root)
    except OSError:
        return
    for name in names:
        if name.startswith(".") or (fits is not None and not fits(name)):
            continue
        folder = f"{root}/{name}"
        try:
            summary = os.stat(f"{folder}/summary.json")
            last = summary.st_size > 2 and os.stat(f"{folder}/attempts").st_mtime_ns < summary.st_mtime_ns
        except OSError:
            last = False
        if last:
            yield name, summary.st_mtime
        elif _is_run(Path(folder)):
            yield name, None


def _is_run(folder: Path) -> bool:
    """False also for another user's run that may not be looked into."""
    with suppress(PermissionError):
        return any((folder / name).exists() for name in ("run.json", "attempts", "events.jsonl"))
    return False


def _made(run: RunDir) -> int:
    """When a run was launched, in ns: the time of its run.json, else of its folder."""
    for path in (run.run, run.path):
        try:
            return path.stat().st_mtime_ns
        except OSError:
            continue
    return 0
