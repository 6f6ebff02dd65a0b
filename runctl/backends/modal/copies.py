"""A run's records on this machine, as copies of those on its volume: what every other command reads.

Checkpoints stay on the volume but for their manifests, and a list of what else is there (`elsewhere.json`), until
somebody pulls them. `summary.json` comes last of all, once the run is closed: while it is absent, nobody takes a run
for ended without having asked.
"""

from __future__ import annotations

import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from runctl import record
from runctl.backends.modal.client import Where, load
from runctl.light import pattern

ELSEWHERE = "elsewhere.json"
_SIGNS = ".mirror.json"
_PAYLOAD = pattern(r"checkpoints/(?P<folder>[^/]+)/(?!manifest\.json$)(?P<file>.+)")
_OURS = pattern(r"(run\.json|remote\.json|summary\.json|code\.diff|attempts/\d+/claim\.json)")
_LARGE = 32 << 20  # of a log that only `runctl logs` and `pull` fetch
_AT_ONCE = 8


def volume_of(where: Where, client: Any) -> Any:
    """The run's volume; looking for it never makes one."""
    modal = load()
    return modal.Volume.from_name(where.volume, environment_name=where.environment, client=client)


def listing(volume: Any, folder: str) -> dict[str, tuple[int, int]]:
    """Every file below a folder of a volume by its path in it: (bytes, time). {} where there is none."""
    errors = load().exception
    try:
        entries = volume.listdir(f"/{folder}", recursive=True)
    except (FileNotFoundError, errors.NotFoundError):
        return {}
    found = {}
    for entry in entries:
        path = entry.path.lstrip("/").removeprefix(f"{folder}/")
        if entry.type.name == "FILE" and not any(part.startswith(".") for part in path.split("/")):
            found[path] = (int(entry.size), int(entry.mtime))
    return found


def bring(run: record.RunDir, where: Where, client: Any, *, whole: bool = False) -> bool:
    """Bring the records of a run here, as far as they changed; whether the volume has anything of it. `whole`: large
    logs too. Raises what the client does."""
    volume = volume_of(where, client)
    there = listing(volume, where.folder)
    known = {
        path: tuple(sign) for path, sign in record.read_object(run.path / _SIGNS).items() if isinstance(sign, list)
    }
    wanted = {path: sign for path, sign in there.items() if not _PAYLOAD.fullmatch(path) and not _OURS.fullmatch(path)}
    if not whole:
        wanted = {path: sign for path, sign in wanted.items() if sign[0] <= _LARGE or not path.endswith(".txt")}
    hot = (
        f"attempts/{max((int(path.split('/')[1]) for path in there if re.match(r'attempts/[1-9]', path)), default=0)}/"
    )
    hot += "heartbeat.json"
    stale = [path for path, sign in wanted.items() if known.get(path) != sign or path == hot]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        got = list(pool.map(lambda path: _get(volume, where, path, run.path / path, wanted[path][1]), stale))
    for path, done in zip(stale, got, strict=True):
        if done:
            known[path] = wanted[path]
    for path in [path for path in known if path not in there]:
        _drop(run, path)
        del known[path]
    _payloads(run, there)
    record.write_json(run.path / _SIGNS, known, durable=False)
    return bool(there)


def get(volume: Any, path: str) -> bytes | None:
    """A file of a volume; None if it is not there."""
    errors = load().exception
    try:
        return b"".join(volume.read_file(f"/{path}"))
    except (FileNotFoundError, errors.NotFoundError):
        return None


def fetch(run: record.RunDir, where: Where, client: Any, folder: Path) -> None:
    """Bring the files of one checkpoint here; they are verified by whoever asked. Raises what the client does."""
    about = folder / ELSEWHERE
    files = record.read_object(about)
    volume = volume_of(where, client)
    inside = f"{where.folder}/{folder.relative_to(run.path)}"
    for name in files:
        target = folder / name
        beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("wb") as file:
                for chunk in volume.read_file(f"/{inside}/{name}"):
                    file.write(chunk)
            os.replace(beside, target)
        finally:
            beside.unlink(missing_ok=True)
    about.unlink(missing_ok=True)


def _get(volume: Any, where: Where, path: str, target: Path, moment: int) -> bool:
    data = get(volume, f"{where.folder}/{path}")
    if data is None:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        beside.write_bytes(data)
        os.utime(beside, (moment, moment))
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)
    return True


def _payloads(run: record.RunDir, there: dict[str, tuple[int, int]]) -> None:
    """Beside each manifest, which of its checkpoint's files are not here."""
    held: dict[str, dict[str, int]] = {}
    for path, (size, _) in there.items():
        if found := _PAYLOAD.fullmatch(path):
            held.setdefault(found["folder"], {})[found["file"]] = size
    for name, files in held.items():
        folder = run.checkpoints / name
        missing = {file: size for file, size in files.items() if not (folder / file).exists()}
        if missing and folder.is_dir() and record.read_object(folder / ELSEWHERE) != missing:
            record.write_json(folder / ELSEWHERE, missing, durable=False)


def _drop(run: record.RunDir, path: str) -> None:
    """Take away the copy of what is gone there; of a checkpoint all of it."""
    target = run.path / path
    if path.startswith("checkpoints/") and target.name == "manifest.json":
        shutil.rmtree(target.parent, ignore_errors=True)
        return
    target.unlink(missing_ok=True)
    with suppress(OSError):
        target.parent.rmdir()
