"""Checkpoints: everything that a run needs to go on as if nothing had happened.

    checkpoints/
      latest                    text: the name of the newest whole checkpoint; absent where there is none
      step-000000123/
        model.safetensors       weights and buffers, under their names in the model
        optimizer.safetensors   "<parameter>/<moment>" for each of AdamW's moments and step counters
        state.safetensors       states of the random generators, sums of the metrics since the last row
        state.json              step, epoch, position in it, counts, last validation, best value so far
        manifest.json           written last: bytes and sha256 of each file above, identity, config digest, metrics
      .tmp-…                    being written or being deleted; cleaned at the next start
      damaged-step-…            set aside by a resume that found it damaged

Why it holds together: a checkpoint is written into a temporary folder, every file is flushed to disk, the manifest
comes last, and a rename makes the folder appear under its name. A folder without a manifest, or whose files differ
from it, is no checkpoint. Nothing is pickled, so reading a checkpoint runs no code from it.

`identity` names what the weights belong to, key by key (architecture, encoding, dataset, order of the data): a
checkpoint of anything else is refused, and the message names each key that differs.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from runctl import record
from runctl.errors import CheckpointError

SCHEMA_VERSION = 1
TENSOR_FILES = ("model", "optimizer", "state")
BATCH = ("training.batch_size", "training.accumulation")  # what one step reads
FILES = (*(f"{name}.safetensors" for name in TENSOR_FILES), "state.json")
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_CHUNK = 8 << 20


@dataclass(frozen=True)
class Contents:
    """What one checkpoint holds. `tensors` maps each of TENSOR_FILES to named CPU tensors; `state` is JSON."""

    step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any]
    identity: Mapping[str, str]
    config_digest: str
    attempt: int = 1
    metrics: Mapping[str, float | None] | None = None  # of a validation at this very step
    surroundings: Mapping[str, str] = field(default_factory=dict)  # code, torch, device, threads


@dataclass(frozen=True)
class PassedOver:
    """A newer checkpoint that was not whole, and why."""

    checkpoint: str
    why: str


@dataclass(frozen=True)
class Loaded:
    """A verified checkpoint, and the newer ones that were passed over to come to it."""

    path: Path
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]
    manifest: dict[str, Any]
    passed_over: tuple[PassedOver, ...] = ()


def save(run: record.RunDir, contents: Contents) -> Path:
    """Write a checkpoint and point `latest` at it; returns its folder. Raises OSError with the file it could not
    write; then nothing is left behind and the older checkpoints are as they were."""
    target = run.checkpoint(contents.step)
    folder = run.checkpoints / f".tmp-{target.name}-{os.getpid()}"
    try:
        folder.mkdir(parents=True)
        files = {f"{name}.safetensors": _write_tensors(folder, name, contents.tensors[name]) for name in TENSOR_FILES}
        files["state.json"] = _write(folder / "state.json", [json.dumps(contents.state, allow_nan=False).encode()])
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "kind": "checkpoint",
            "step": contents.step,
            "attempt": contents.attempt,
            "created": time.time(),
            "config_digest": contents.config_digest,
            "identity": dict(contents.identity),
            "surroundings": dict(contents.surroundings),
            "metrics": dict(contents.metrics) if contents.metrics is not None else None,
            "files": files,
        }
        record.write_json(folder / "manifest.json", manifest)
        if target.exists():
            discard(run, target)
        os.rename(folder, target)
        record.sync_folder(run.checkpoints)
        record.write_text(run.latest, target.name + "\n")
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(folder)
        raise
    return target


def load(path: Path, identity: Mapping[str, str], accepted: Any = ()) -> Loaded:
    """The checkpoint in `path`, every byte of it verified. Raises CheckpointError naming the damaged file
    (`Damaged`), or each key of `identity` that differs; those of `BATCH` may, where a person `accepted` it."""
    manifest = read_manifest(path)
    if manifest is None:
        raise Damaged(f"checkpoint {path.name} has no readable manifest.json")
    _check_identity(path, manifest, identity, accepted)
    for name in FILES:
        expected = manifest["files"].get(name)
        if not isinstance(expected, dict):
            raise Damaged(f"checkpoint {path.name} is damaged: its manifest.json has no sha256 of {name}")
        _verify(path / name, expected)
    try:
        tensors = {name: load_file(path / f"{name}.safetensors") for name in TENSOR_FILES}
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, SafetensorError) as error:  # the bytes are right: this is no damage
        raise CheckpointError(f"checkpoint {path.name} cannot be read: {error}") from error
    return Loaded(path, tensors, state, manifest)


def load_newest(run: record.RunDir, identity: Mapping[str, str], accepted: Any = ()) -> Loaded | None:
    """The newest whole checkpoint, which `latest` names from then on, or None if there never was one. Damaged ones
    are set aside. Raises CheckpointError if all are damaged, now or by an earlier look (a run never starts over by
    itself), or the newest whole one is foreign."""
    passed: list[PassedOver] = []
    for path in reversed(folders(run)):
        try:
            found = load(path, identity, accepted)
        except Damaged as damage:
            aside = set_aside(run, path)
            passed.append(PassedOver(path.name, f"{damage.message}; set aside as {aside.name}"))
            continue
        if passed or _latest(run) != path.name:
            record.write_text(run.latest, path.name + "\n")
        return replace(found, passed_over=tuple(passed))
    if aside_before := sorted(path.name for path in run.checkpoints.glob("damaged-step-*")):
        why = [one.why for one in passed] or [f"{', '.join(aside_before)} were found damaged before"]
        raise CheckpointError(
            f"no whole checkpoint is left in {run.checkpoints}: {'; '.join(why)}",
            hint="restore one from a copy, delete the damaged ones to start over on purpose, or launch a new run; "
            "this one does not start over by itself",
        )
    return None


class Damaged(CheckpointError):
    """A file of the checkpoint is missing or is not what its manifest says."""


def folders(run: record.RunDir) -> list[Path]:
    """The checkpoints of a run that have a manifest, oldest first; they are not verified."""
    if not run.checkpoints.is_dir():
        return []
    return sorted(path for path in run.checkpoints.glob("step-*") if (path / "manifest.json").exists())


def step_windows(identity: Mapping[str, str]) -> int:
    """The windows that a step read in the run that the checkpoint is of."""
    return math.prod(int(identity[key]) for key in BATCH)


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest of a checkpoint, None if it is damaged."""
    data = record.read_json(path / "manifest.json")
    whole = isinstance(data, dict) and data.get("kind") == "checkpoint" and isinstance(data.get("files"), dict)
    return data if whole and isinstance(data.get("identity"), dict) else None


def discard(run: record.RunDir, path: Path) -> None:
    """Delete a checkpoint: it loses its name first, so that a kill in between leaves no half of it."""
    _no_longer_latest(run, path)
    doomed = path.with_name(f".tmp-deleted-{path.name}-{os.getpid()}")
    os.rename(path, doomed)
    shutil.rmtree(doomed)


def set_aside(run: record.RunDir, path: Path) -> Path:
    """Rename a damaged checkpoint, so that it is neither taken for one nor lost."""
    _no_longer_latest(run, path)
    number = 0
    while (aside := path.with_name(f"damaged-{path.name}" + (f"-{number}" if number else ""))).exists():
        number += 1
    os.rename(path, aside)
    return aside


def clean(run: record.RunDir) -> list[str]:
    """Remove what a killed attempt left half-written; returns the names of what was removed."""
    if not run.checkpoints.is_dir():
        return []
    stale = [path for path in run.checkpoints.glob(".*") if path.name.startswith((".tmp-", ".latest."))]
    stale += [path for path in run.checkpoints.glob("step-*") if not (path / "manifest.json").exists()]
    for path in stale:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return [path.name for path in stale]


def _latest(run: record.RunDir) -> str | None:
    try:
        return run.latest.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _no_longer_latest(run: record.RunDir, path: Path) -> None:
    """Remove `latest` if it names this checkpoint: it names a whole one or nothing."""
    if _latest(run) == path.name:
        run.latest.unlink(missing_ok=True)


def _check_identity(path: Path, manifest: Mapping[str, Any], identity: Mapping[str, str], accepted: Any) -> None:
    stored = manifest["identity"]
    may = {key for key in BATCH if isinstance(accepted, list) and key in accepted}
    differing = [key for key in sorted({*stored, *identity} - may) if stored.get(key) != identity.get(key)]
    if differing:
        told = [f"{key} is {stored.get(key, 'absent')} there, {identity.get(key, 'absent')} here" for key in differing]
        said = ", ".join(told)
        raise CheckpointError(
            f"checkpoint {path.name} belongs to something else: {said}",
            hint="resume it with the config and dataset that it was trained with, or launch a new run",
        )


def _verify(path: Path, expected: Mapping[str, Any]) -> None:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise Damaged(f"checkpoint {path.parent.name} is damaged: {path.name}: {error.strerror}") from error
    if digest.hexdigest() != expected.get("sha256"):
        raise Damaged(f"checkpoint {path.parent.name} is damaged: {path.name} differs from its sha256")


def _write_tensors(folder: Path, name: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """One safetensors file: 8 bytes of header length, a JSON header, then the tensors' bytes in header order.
    Why not the library's writer: this one hashes what it writes, flushes it, and a full disk is an OSError."""
    header: dict[str, Any] = {}
    offset = 0
    for key, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        shape = list(tensor.shape)
        header[key] = {"dtype": _DTYPES[tensor.dtype], "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    parts = [len(text).to_bytes(8, "little"), text]
    parts += [memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy()) for tensor in tensors.values()]
    return _write(folder / f"{name}.safetensors", parts)


def _write(path: Path, parts: list[Any]) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("wb") as file:
            for part in parts:
                for start in range(0, len(part), _CHUNK):
                    chunk = part[start : start + _CHUNK]
                    file.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        error.filename = str(path)
        raise
    return {"bytes": size, "sha256": digest.hexdigest()}
