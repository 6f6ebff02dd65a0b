"""Pull a run: copy its records and a checkpoint to a folder, every checkpoint file verified by its sha256."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runctl import record, status
from runctl.errors import CheckpointError, RunctlError, UsageError
from runctl.supervisor.summary import best, checkpoints, validation_rows

CHOICES = ("best", "latest", "all", "none")
_CHUNK = 8 << 20
_RECORDS = ("run.json", "code.diff", "events.jsonl", "metrics.jsonl", "summary.json", "supervisor.log")


@dataclass(frozen=True)
class Pulled:
    path: Path
    state: str
    files: int
    bytes: int
    checkpoints: tuple[str, ...]


def pull(
    run: record.RunDir, destination: Path, which: str = "best", progress: Callable[[str], None] = lambda name: None
) -> Pulled:
    """Copy into `destination`/RUN, which must not exist yet; there is all of it or nothing.

    `which` is one of CHOICES or a step; `best` falls back to the newest. Raises UsageError, and CheckpointError
    for a file that differs from its manifest.
    """
    chosen = _choose(run, which)
    target = destination / run.name
    if target.exists():
        raise UsageError(f"{target} exists already", hint="pull into another folder; nothing is overwritten")
    state = status.observe(run).state
    temporary = destination / f".{run.name}.{os.getpid()}.tmp"
    try:
        files = [temporary / name for name in _RECORDS if _copy(run.path / name, temporary / name)]
        for attempt in run.attempts():
            for path in attempt.files:
                inside = temporary / path.relative_to(run.path)
                files += [inside] if _copy(path, inside) else []
        for folder in chosen:
            progress(folder.name)
            files += _copy_checkpoint(folder, temporary / "checkpoints" / folder.name)
        if chosen:
            record.write_text(temporary / "checkpoints" / "latest", chosen[-1].name + "\n")
        size = sum(path.stat().st_size for path in files)
        os.rename(temporary, target)
    except OSError as error:
        raise RunctlError(f"cannot copy {run.name} to {destination}: {error}", hint="nothing was left there") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Pulled(target, state, len(files), size, tuple(folder.name for folder in chosen))


def _choose(run: record.RunDir, which: str) -> list[Path]:
    whole = [run.path / entry["path"] for entry in checkpoints(run)]
    if which == "none" or (not whole and which in CHOICES):
        return []
    if which == "all":
        return whole
    if which == "latest":
        return whole[-1:]
    if which == "best":
        found = best(run, validation_rows(run))
        return [run.path / found["checkpoint"]] if found and found["checkpoint"] else whole[-1:]
    wanted = run.checkpoint(int(which)) if which.isdigit() else None
    if wanted is None or wanted not in whole:
        steps = ", ".join(str(int(path.name.removeprefix("step-"))) for path in whole) or "none"
        raise UsageError(
            f"{run.name} has no checkpoint '{which}'; its steps: {steps}", hint=f"or one of: {', '.join(CHOICES)}"
        )
    return [wanted]


def _copy_checkpoint(folder: Path, target: Path) -> list[Path]:
    manifest: Any = record.read_json(folder / "manifest.json")
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict):
        raise CheckpointError(
            f"checkpoint {folder.name} has no readable manifest.json", hint="pull another: --checkpoint latest"
        )
    copied = []
    for name, expected in files.items():
        if Path(name).name != name or not isinstance(expected, dict):
            raise CheckpointError(f"checkpoint {folder.name} has a manifest that names {name!r}: nothing was copied")
        digest = _copy(folder / name, target / name)
        if digest is None or digest != expected.get("sha256"):
            wrong = "differs from its sha256" if digest else "is missing"
            raise CheckpointError(
                f"checkpoint {folder.name} is damaged: {name} {wrong}",
                hint="pull another one: --checkpoint latest, or --checkpoint STEP",
            )
        copied.append(target / name)
    _copy(folder / "manifest.json", target / "manifest.json")
    return [*copied, target / "manifest.json"]


def _copy(source: Path, target: Path) -> str | None:
    """Copy one file as long as it is now; returns the sha256 of what was written, None if there is no such file."""
    digest = hashlib.sha256()
    try:
        reader = source.open("rb")
    except FileNotFoundError:
        return None
    with reader:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as writer:
            while chunk := reader.read(_CHUNK):
                digest.update(chunk)
                writer.write(chunk)
    return digest.hexdigest()
