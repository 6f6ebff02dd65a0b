"""Calibrations: what a step of some shape really took on some device, measured by a probe or by a run.

They lie in the project, one small file for each probe and each attempt, so that no two writers meet:

    .runctl/calibrations/<shape>-<device>-<kind>-<name>-<attempt>.json

An estimate prefers a measurement of this shape on this device; then one of another shape on the same device,
scaled by the arithmetic; then a stated model (`estimate/time_.py`). A file that is damaged, or holds a number that
cannot be, is set aside and said; that of a run is made again from the run's own copy.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runctl import record

if TYPE_CHECKING:
    from runctl.config import RunConfig

SCHEMA_VERSION = 1
KEEP = 200  # files; the oldest go first
_NAME = re.compile(r"(?P<shape>[0-9a-f]{12})-.*-run-(?P<run>.+)-(?P<attempt>\d+)\.json")


@dataclass(frozen=True)
class Measurement:
    """One calibration. Durations are seconds, sizes bytes; None is what was not measured.

    `step_seconds` is the mean of `steps` optimizer steps after the first few, and `spread` how sure it is (two standard
    errors over blocks of steps, as a share of the mean; `train/timing.py`). `flops` are those of one optimizer
    step. `load` is the machine's load average while it was measured, its own share included.
    """

    kind: str
    name: str
    attempt: int
    created: float
    shape: Mapping[str, Any]
    device: str
    steps: int
    step_seconds: float
    spread: float
    examples: int
    flops: float
    startup_seconds: float
    step_p10_seconds: float | None = None
    step_p50_seconds: float | None = None
    step_p90_seconds: float | None = None
    data_share: float | None = None
    validation_window_seconds: float | None = None
    checkpoint_stall_seconds: float | None = None
    checkpoint_write_seconds: float | None = None
    checkpoint_bytes: int | None = None
    peak_bytes: int | None = None
    reserved_bytes: int | None = None
    resident_bytes: int | None = None
    load: float | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return digest(self.shape)

    @property
    def examples_per_second(self) -> float:
        return self.examples / self.step_seconds

    @property
    def flops_per_second(self) -> float:
        return self.flops / self.step_seconds

    def said(self) -> str:
        """`probe of quickstart, 412 steps`: for a basis."""
        attempt = f", attempt {self.attempt}" if self.attempt > 1 else ""
        return f"{self.kind} of {self.name}{attempt}, {self.steps:,} steps"


def folder(project: Path) -> Path:
    return project / ".runctl" / "calibrations"


def shape(config: RunConfig) -> dict[str, Any]:
    """What the time and the memory of a step depend on, whatever the data hold."""
    from runctl.estimate import parameters

    training, model = config.training, config.model
    found = {
        "task": config.task,
        **{f"model.{key}": value for key, value in model.model_dump(exclude={"dropout"}).items()},
        "model.dropout": model.dropout > 0,
        "inputs": parameters.inputs(config.encoding),
        "outputs": parameters.outputs(config.encoding),
        "batch_size": training.batch_size,
        "accumulation": training.accumulation,
        "precision": training.precision,
        "corrupt": training.ss_corrupt_frames if training.scheduled_sampling else 0,
    }
    if getattr(training, "activation_checkpointing", False):
        found["activation_checkpointing"] = True
    return found


def digest(of: Mapping[str, Any]) -> str:
    """12 hexadecimal digits that name a shape."""
    return hashlib.sha256(json.dumps(of, sort_keys=True, default=str).encode()).hexdigest()[:12]


@cache
def cpu() -> str:
    """This machine's processor as the kernel names it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    except OSError:
        pass
    import platform

    return platform.processor() or platform.machine() or "CPU"


def cpu_device(threads: int | None) -> str:
    """`AMD EPYC × 2`: the processor and the threads that train on it; None means all cores."""
    return f"{cpu()} × {threads or len(os.sched_getaffinity(0))}"


def parse(data: Any) -> Measurement:
    """Check a record; raises ValueError that says which number cannot be."""
    if not isinstance(data, dict) or data.get("schema_version") != SCHEMA_VERSION:
        raise ValueError("it is no calibration of this version")
    known = Measurement.__dataclass_fields__
    try:
        found = Measurement(**{key: value for key, value in data.items() if key in known})
    except TypeError:
        raise ValueError("a part is missing") from None
    texts = {"kind": found.kind, "name": found.name, "device": found.device}
    if any(not isinstance(value, str) or not value for value in texts.values()):
        raise ValueError("kind, name and device must be texts")
    if not isinstance(found.shape, dict) or not isinstance(found.versions, dict):
        raise ValueError("its shape is no mapping")
    for key in ("steps", "step_seconds", "examples", "flops", "created"):
        _number(key, getattr(found, key), above_zero=True)
    for key in ("attempt", "spread", "startup_seconds"):
        _number(key, getattr(found, key))
    for key, about in known.items():
        if "None" in str(about.type) and getattr(found, key) is not None:
            _number(key, getattr(found, key))
    return found


def _number(key: str, value: Any, *, above_zero: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{key} is no number")
    if value < 0 or (above_zero and value == 0):
        raise ValueError(f"{key} is {value}")


def to_json(measurement: Measurement) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, **asdict(measurement)}


def save(project: Path, measurement: Measurement) -> Path:
    """Write a calibration; it takes the place of an earlier one of the same attempt. Raises OSError."""
    place = folder(project)
    place.mkdir(parents=True, exist_ok=True)
    device = re.sub(r"[^a-z0-9]+", "-", measurement.device.lower()).strip("-")[:40]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", measurement.name)[:100]
    file = place / f"{measurement.digest}-{device}-{measurement.kind}-{name}-{measurement.attempt}.json"
    record.write_json(file, to_json(measurement))
    files = sorted(place.glob("*.json"), key=_modified)
    for old in files[: max(0, len(files) - KEEP)]:
        old.unlink(missing_ok=True)
    return file


def load(project: Path) -> tuple[list[Measurement], list[str]]:
    """(every calibration of the project, newest first; what was wrong with others and what became of them)."""
    found, notes = [], []
    for file in sorted(folder(project).glob("*.json")):
        try:
            found.append(parse(json.loads(file.read_text("utf-8"))))
        except (OSError, ValueError, RecursionError) as error:
            why = "it is not JSON" if isinstance(error, json.JSONDecodeError | UnicodeDecodeError) else str(error)
            made = _mend(project, file)
            notes.append(f"calibration {file.name} is damaged ({why}): {'made again' if made else 'set aside'}")
            found += [made] if made else []
    return sorted(found, key=lambda one: one.created, reverse=True), notes


def _mend(project: Path, file: Path) -> Measurement | None:
    """Set a damaged file aside; make that of a run again from the copy in the run's own folder."""
    try:
        file.replace(file.with_suffix(".damaged"))
        match = _NAME.fullmatch(file.name)
        if match is None:
            return None
        run = record.RunDir(record.runs_root(project) / match["run"])
        measurement = parse(record.read_json(run.attempt(int(match["attempt"])).measured))
        save(project, measurement)
    except (OSError, ValueError):
        return None
    return measurement


def _modified(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def of_shape(all_of: list[Measurement], shape: Mapping[str, Any]) -> list[Measurement]:
    """Those of this very shape on any device, newest first: what says that it has run before."""
    wanted = digest(shape)
    return [one for one in all_of if one.digest == wanted]


def same(all_of: list[Measurement], shape: Mapping[str, Any], device: str) -> list[Measurement]:
    """Those of this very shape on this very device, newest first."""
    wanted = digest(shape)
    return [one for one in all_of if one.digest == wanted and one.device == device]


def nearest(all_of: list[Measurement], shape: Mapping[str, Any], device: str, flops: float) -> Measurement | None:
    """The one on this device, of the same task and precision, whose step does the most similar arithmetic."""
    fit = [
        one
        for one in all_of
        if one.device == device and all(one.shape.get(key) == shape.get(key) for key in ("task", "precision"))
    ]
    return min(fit, key=lambda one: abs(math.log(flops / one.flops)), default=None)
