"""Pull a run: copy its records and a checkpoint to a folder, every checkpoint file verified by its sha256."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runctl import backends, record, status
from runctl.errors import CheckpointError, RunctlError, UsageError
from runctl.masking import files as masks
from runctl.masking import known, library
from runctl.notices import targets
from runctl.supervisor import kept
from runctl.supervisor.summary import best, checkpoints, validation_rows

CHOICES = ("best", "latest", "all", "none")
_CHUNK = 8 << 20
_RECORDS = ("run.json", "code.diff", "events.jsonl", "metrics.jsonl", "saved.json", "summary.json", "supervisor.log")


@dataclass(frozen=True)
class Pulled:
    """`left_out` are records that are no files of the run: links out of it, named pipes; `masked` counts the secrets
    that were hidden in the copies."""

    path: Path
    state: str
    files: int
    bytes: int
    checkpoints: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    masked: int = 0


def pull(
    run: record.RunDir, destination: Path, which: str = "best", progress: Callable[[str], None] = lambda name: None
) -> Pulled:
    """Copy into `destination`/RUN, which must not exist yet; there is all of it or nothing.

    `which` is one of CHOICES or a step; `best` falls back to the newest. Raises UsageError, and CheckpointError
    for a file that differs from its manifest.
    """
    if run.remote.exists():
        backends.remote(status.backend_of(run)).refresh(run, whole=True)
    chosen = _choose(run, which)
    own = {run.path / entry["path"] for entry in checkpoints(run) if entry.get("own")}
    project = Path(os.path.realpath(run.path)).parent.parent
    for path in own & set(chosen):
        if not Path(os.path.realpath(path)).is_relative_to(project):
            hint = "copy it from there; the records alone: --checkpoint none"
            raise UsageError(f"the checkpoint {path} lies outside of the project {project}", hint=hint)
    repeated = len({folder.name for folder in chosen}) < len(chosen)  # out/1/model.pt, out/2/model.pt
    names = {path: f"{path.parent.name}/{path.name}" if repeated else path.name for path in chosen}
    target = destination / run.name
    if target.exists():
        raise UsageError(f"{target} exists already", hint="pull into another folder; nothing is overwritten")
    state = status.observe(run).state
    for folder in chosen:
        if (folder / "elsewhere.json").exists() or (folder in own and not os.path.lexists(folder)):
            progress(f"{folder.name}, from its provider")
            backends.remote(status.backend_of(run)).fetch(run, folder)
    temporary = destination / f".{run.name}.{os.getpid()}.tmp"
    files: list[Path] = []
    before = os.umask(record.private_as(run.path))
    try:
        wanted = [run.path / name for name in _RECORDS]
        wanted += [path for attempt in run.attempts() for path in (*attempt.files, *attempt.of_ranks)]
        here, left_out = Path(os.path.realpath(run.path)), []
        for path in wanted:
            inside = temporary / path.relative_to(run.path)
            if _copy(path, inside, here):
                files.append(inside)
            elif os.path.lexists(path):
                left_out.append(str(path.relative_to(run.path)))
        masked = _masked(files, run)
        for folder in chosen:
            progress(folder.name)
            if folder in own:
                files += _copy_own(folder, temporary / "checkpoints" / names[folder])
            else:
                files += _copy_checkpoint(folder, temporary / "checkpoints" / names[folder])
        if chosen:
            record.write_text(temporary / "checkpoints" / "latest", names[chosen[-1]] + "\n")
        size = sum(path.stat().st_size for path in files)
        os.rename(temporary, target)
    except OSError as error:
        raise RunctlError(f"cannot copy {run.name} to {destination}: {error}", hint="nothing was left there") from None
    finally:
        os.umask(before)
        shutil.rmtree(temporary, ignore_errors=True)
    return Pulled(target, state, len(files), size, tuple(names.values()), tuple(left_out), masked)


def _masked(files: list[Path], run: record.RunDir) -> int:
    """Hide in the copies what looks like a secret, as it is hidden in the logs of new runs; returns how much was."""
    content = record.read_object(run.run)
    values = known.of_environment(addresses=[one.env for one in targets.recorded(content)])
    texts = [path for path in files if path.suffix in (".txt", ".log", ".diff")]
    return sum(len(masks.mask(path, values, library.detectors)) for path in texts)


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
    by_step = {str(entry["step"]): run.path / entry["path"] for entry in checkpoints(run)}
    wanted = by_step.get(str(int(which))) if which.isdecimal() else None
    if wanted is None:
        steps = ", ".join(by_step) or "none"
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
    copied, here = [], Path(os.path.realpath(folder.parent))
    for name, expected in files.items():
        if Path(name).name != name or not isinstance(expected, dict):
            raise CheckpointError(f"checkpoint {folder.name} has a manifest that names {name!r}: nothing was copied")
        digest = _copy(folder / name, target / name, here)
        if digest is None or digest != expected.get("sha256"):
            wrong = "differs from its sha256" if digest else "is missing"
            raise CheckpointError(
                f"checkpoint {folder.name} is damaged: {name} {wrong}",
                hint="pull another one: --checkpoint latest, or --checkpoint STEP",
            )
        copied.append(target / name)
    _copy(folder / "manifest.json", target / "manifest.json", here)
    return [*copied, target / "manifest.json"]


def _copy_own(path: Path, target: Path) -> list[Path]:
    """A checkpoint of a program of one's own has no manifest: it is copied as it lies there, and must not change
    meanwhile."""
    before, here = kept.look(path), Path(os.path.realpath(path if path.is_dir() else path.parent))
    copied = []
    for file in kept.paths(path):
        inside = target / file.relative_to(here) if path.is_dir() else target
        if _copy(file, inside, here):
            copied.append(inside)
    if before is None or kept.look(path) != before:
        hint = "is its program still writing it? pull another: --checkpoint latest"
        raise CheckpointError(f"checkpoint {path.name} changed while it was copied", hint=hint)
    return copied


def _copy(source: Path, target: Path, within: Path) -> str | None:
    """Copy one file as long as it is now; returns the sha256 of what was written, None if there is no such file. What
    is no file within `within` is none: a link may lead to what is nobody's to copy, a named pipe would never answer."""
    digest = hashlib.sha256()
    try:
        if not Path(os.path.realpath(source)).is_relative_to(within):
            return None
        reader = record.open_file(source, links=False)
        if source.suffix == ".json" and os.fstat(reader.fileno()).st_size > record.MOST_BYTES:
            reader.close()
            return None
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ELOOP, errno.ENXIO, errno.EOPNOTSUPP):
            return None
        raise
    with reader:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as writer:
            while chunk := reader.read(_CHUNK):
                digest.update(chunk)
                writer.write(chunk)
    return digest.hexdigest()
