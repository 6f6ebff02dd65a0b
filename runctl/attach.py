"""Attach to a run that was launched on another machine: its folder is made here, and every command knows it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence

from runctl import project as projects
from runctl import record, status
from runctl.errors import UsageError
from runctl.light import dataclass


@dataclass(frozen=True)
class Attached:
    """`new` unless the run was here already."""

    run: record.RunDir
    new: bool


def attach(project: projects.Project, word: str, volume: str | None = None) -> Attached:
    """Find a run on Modal by its name, its app (ap-…) or its call (fc-…), and bring its records here. Raises UsageError
    where there is none, or another run has its name here; ProviderError."""
    from runctl.backends.modal import client, ids, place, steer

    root = record.runs_root(project.root)
    if (run := record.RunDir(root / record.check_name(word))).run.exists() and not run.remote.exists():
        raise UsageError(f"{word} is a run of this machine", hint=f"see: runctl status {word}")
    where = place.of(project)
    found = steer.find(word, client.Where("", volume or where.volume, where.environment))
    run = record.RunDir(root / found.name)
    if run.path.exists():
        if ids.read(run).get("volume") != found.known.get("volume"):
            raise UsageError(f"another run is called {found.name} here", hint="attach in another project folder")
        if ids.read(run).get("launch") != found.known.get("launch"):  # it was resumed elsewhere
            record.write_json(run.remote, found.known)
            run.summary.unlink(missing_ok=True)
        status.observe(run)
        return Attached(run, False)
    temporary = record.RunDir(root / f".attach-{os.getpid()}-{time.time_ns()}.tmp")
    try:
        with record.private(project.shared):
            steer.bring(found, temporary)
        os.rename(temporary.path, run.path)
    except BaseException:
        shutil.rmtree(temporary.path, ignore_errors=True)
        raise
    status.observe(run)
    return Attached(run, True)


@dataclass(frozen=True)
class Strays:
    """What lives at the provider and no run here accounts for."""

    found: Sequence[tuple[str, str, str]]
    looked: int


def strays(project: projects.Project) -> Strays:
    """(app, run, why) of every living app that is no living run of this project. Runs whose launch was cut off, or
    whose end nobody has seen, are brought up to date first, which may end them. Raises ProviderError."""
    from runctl.backends.modal import ids, place, steer

    runs = {run.name: run for run in record.list_runs(project.root) if run.remote.exists()}
    for run in runs.values():
        if ids.read(run).get("phase") in ("launching", "launched"):
            status.observe(run)
    found = steer.strays(runs, place.of(project).environment)
    return Strays([(one.app, one.run, one.why) for one in found], len(runs))


def end(project: projects.Project, app: str) -> None:
    """Stop a stray app; raises ProviderError."""
    from runctl.backends.modal import place, steer

    steer.end(app, place.of(project).environment)
