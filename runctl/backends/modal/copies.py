"""A run's records on this machine, as copies of those on its volume: what every other command reads.

Checkpoints stay on the volume but for their manifests, and a list of what else is there (`elsewhere.json`), until
somebody pulls them; so does all that a program of one's own has written there. `summary.json` comes last of all, once
the run is closed: while it is absent, nobody takes a run for ended without having asked.
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
from runctl.backends.modal.client import Where, entries, load
from runctl.light import pattern
from runctl.supervisor import kept

ELSEWHERE = "elsewhere.json"
_SIGNS = ".mirror.json"
_RECORD = pattern(
    r"(events|metrics)\.jsonl|(run|remote|summary|saved|config)\.json|code\.diff|supervisor\.log|attempts/.+"
    r"|checkpoints/(latest|[^/]+/manifest\.json)"
)
_PAYLOAD = pattern(r"checkpoints/(?P<folder>[^/]+)/(?!manifest\.json$)(?P<file>.+)")
_OURS = pattern(r"(run\.json|remote\.json|summary\.json|code\.diff|attempts/\d+/claim\.json)")
_LARGE = 32 << 20  # of a log that only `runctl logs` and `pull` fetch
_SMALL = 64 << 10
_AT_ONCE = 8


def volume_of(where: Where, client: Any) -> Any:
    """The run's volume; looking for it never makes one."""
    modal = load()
    return modal.Volume.from_name(where.volume, environment_name=where.environment, client=client)


def listing(volume: Any, folder: str) -> dict[str, tuple[int, int]]:
    """Every file below a folder of a volume by its path in it: (bytes, time). {} where there is none."""
    errors, found = load().exception, dict[str, tuple[int, int]]()
    left, listed = [folder], set[str]()
    while left:
        listed.add(here := left.pop())
        try:
            present = entries(volume, f"/{here}")
        except (FileNotFoundError, errors.NotFoundError):
            continue
        paths = {entry.path.strip("/"): entry for entry in present}
        parents = {path.rpartition("/")[0] for path in paths}
        for path, entry in paths.items():
            inside = path.removeprefix(f"{folder}/")
            if any(part.startswith(".") for part in inside.split("/")):
                continue
            if entry.type.name == "FILE":
                found[inside] = (int(entry.size), int(entry.mtime))
            elif entry.type.name == "DIRECTORY" and path not in parents | listed and path.startswith(f"{folder}/"):
                left.append(path)  # empty, or not looked into: a service may list one level only
    return found


def bring(run: record.RunDir, where: Where, client: Any, *, whole: bool = False) -> bool:
    """Bring the records of a run here, as far as they changed; whether the volume has anything of it. `whole`: large
    logs too. Raises what the client does."""
    volume = volume_of(where, client)
    there = listing(volume, where.folder)
    known = {
        path: tuple(sign) for path, sign in record.read_object(run.path / _SIGNS).items() if isinstance(sign, list)
    }
    own = _is_program(run)
    wanted = {path: sign for path, sign in there.items() if _is_record(path, own) and not _OURS.fullmatch(path)}
    if not whole:
        wanted = {path: sign for path, sign in wanted.items() if sign[0] <= _LARGE or not path.endswith(".txt")}
    hot = (
        f"attempts/{max((int(path.split('/')[1]) for path in there if re.match(r'attempts/[1-9]', path)), default=0)}/"
    )
    hot += "heartbeat.json"
    stale = [path for path, sign in wanted.items() if known.get(path) != sign or path == hot or _doubtful(path, sign)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        got = list(pool.map(lambda path: _get(volume, where, path, run.path / path, wanted[path]), stale))
    for path, done in zip(stale, got, strict=True):
        if done:
            known[path] = wanted[path]
    for path in [path for path in known if path not in there]:
        _drop(run, path)
        del known[path]
    if own:
        _others(run, there)
    else:
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
    """Bring the files of one checkpoint here; they are verified by whoever asked. What a program of one's own has saved
    may be one file; it gets the time that it had. Raises what the client does."""
    volume, about = volume_of(where, client), folder / ELSEWHERE
    if about.exists():
        for name in record.read_object(about):
            _bring_file(volume, f"{where.folder}/{folder.relative_to(run.path)}/{name}", folder / name)
        about.unlink(missing_ok=True)
        return
    inside = str(folder.relative_to(run.path))
    stamp = next((row["stamp"] for row in kept.entries(run) if row["path"] == inside), None)
    for name in record.read_object(run.path / ELSEWHERE):
        if _inner(name) and (name == inside or name.startswith(f"{inside}/")):
            _bring_file(volume, f"{where.folder}/{name}", run.path / name)
            if stamp is not None:
                os.utime(run.path / name, ns=(stamp, stamp))


def _bring_file(volume: Any, path: str, target: Path) -> None:
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with beside.open("wb") as file:
            for chunk in volume.read_file(f"/{path}"):
                file.write(chunk)
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def _inner(name: str) -> bool:
    """Whether a path stays where it is laid: a list of files may be damaged."""
    return os.path.normpath(name) == name and not name.startswith(("/", ".."))


def _is_program(run: record.RunDir) -> bool:
    """Whether a run is one of `task: command`: what lies beside its records is its own."""
    config = record.read_object(run.run).get("config")
    return isinstance(config, dict) and config.get("task") == "command"


def _is_record(path: str, own: bool) -> bool:
    return bool(_RECORD.fullmatch(path)) and not (own and path.startswith("checkpoints/"))


def _others(run: record.RunDir, there: dict[str, tuple[int, int]]) -> None:
    """What else a program has on the volume, with the bytes of each file."""
    found = {path: size for path, (size, _) in there.items() if not _is_record(path, own=True)}
    if record.read_object(run.path / ELSEWHERE) != found:
        record.write_json(run.path / ELSEWHERE, found, durable=False)


def _get(volume: Any, where: Where, path: str, target: Path, sign: tuple[int, int]) -> bool:
    """Whether it came, and is as it was listed: it may be older."""
    size, moment = sign
    data = get(volume, f"{where.folder}/{path}")
    if data is None:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        beside.write_bytes(data)
        if moment:
            os.utime(beside, (moment, moment))
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)
    return len(data) >= size


def _doubtful(path: str, sign: tuple[int, int]) -> bool:
    """Whether a file may have changed although it looks the same: its time is that of a second, or not told at all."""
    return path == "checkpoints/latest" or (not sign[1] and sign[0] <= _SMALL)


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
