"""Calibrations: what a step of some shape really took on some device, measured by a probe or by a run.

They lie in the project, one small file for each probe and each attempt, so that no two writers meet:

    .runctl/calibrations/<shape>+<device>+<kind>+<name>+<attempt>.json

An estimate prefers a measurement of this shape on this device; then one of another shape on the same device,
scaled by the arithmetic; then a stated model (`estimate/time_.py`). A file that is damaged, or holds a number that
cannot be, is set aside and said; that of a run is made again from the run's own copy. What another version of
runctl wrote is left alone.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runctl import record
from runctl.errors import RunctlError, UsageError
from runctl.filekind import other_than_file
from runctl.light import asdict, dataclass, field

if TYPE_CHECKING:
    from runctl.config import RunConfig

SCHEMA_VERSION = 1
RECENT = 5
_ALIKE = ("task", "precision", "processes")  # else nothing is scaled from one shape to another
KEEP = 200  # files; the oldest go first
LEAST = 1e-9  # of what cannot be zero
MOST_SECONDS = 1e9
MOST = 1e30


@dataclass(frozen=True)
class Measurement:
    """One calibration. Durations are seconds, sizes bytes; None is what was not measured.

    `step_seconds` is the mean of `steps` optimizer steps after the first few, and `spread` how sure it is (two
    standard errors over blocks of steps, as a share of the mean; `train/timing.py`). A step takes `examples` windows
    on average and `flops`. `startup_data` says on what the start-up depends. `load` is the machine's load average
    while it was measured, its own share included. `data_share` is of the steps, those of validation and checkpoints are
    of the attempt without its start; `matmul_flops_per_second` is what plain matrix products reached beside it.
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
    examples: float
    flops: float
    startup_seconds: float
    startup_data: str = ""
    step_p10_seconds: float | None = None
    step_p50_seconds: float | None = None
    step_p90_seconds: float | None = None
    data_share: float | None = None
    validation_share: float | None = None
    checkpoint_share: float | None = None
    matmul_flops_per_second: float | None = None
    threads: int | None = None
    cores: int | None = None
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


def shape(config: RunConfig, processes: int | None = None) -> dict[str, Any]:
    """What the time and the memory of a step depend on, whatever the data hold. `processes` share it; by default as
    many as the config asks for."""
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
    if training.targets != "last":
        found["targets"] = training.targets
    if training.kernel not in ("auto", "eager"):
        found["kernel"] = training.kernel
    if (many := sharing(config) if processes is None else processes) > 1:
        found["processes"] = many
    return found


def sharing(config: RunConfig) -> int:
    """How many processes share a step of a config: those that it names, else one for each GPU."""
    from runctl import hardware

    gpus = config.compute.gpu.split(",") if config.compute.gpu else ()
    try:
        counts = [hardware.split(one.strip())[1] for one in gpus]
    except UsageError:  # rules say what is wrong with them
        counts = []
    return config.training.processes or max(counts, default=1)


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
    """Check a record; raises ValueError that says which part cannot be."""
    if not isinstance(data, dict) or data.get("schema_version") != SCHEMA_VERSION:
        raise ValueError("it is no calibration of this version")
    known = Measurement.__dataclass_fields__
    try:
        found = Measurement(**{key: value for key, value in data.items() if key in known})
    except TypeError:
        raise ValueError("a part is missing") from None
    for key in ("kind", "name", "device", "startup_data"):
        text = getattr(found, key)
        if not isinstance(text, str) or not (text or key == "startup_data"):
            raise ValueError(f"{key} is no text")
        if len(text) > 200 or not text.isprintable():
            raise ValueError(f"{key} is no text that a name can be")
    if not isinstance(found.shape, dict) or not isinstance(found.versions, dict):
        raise ValueError("its shape is no mapping")
    for key in ("steps", "step_seconds", "examples", "flops", "created"):
        _number(key, getattr(found, key), least=LEAST)
    for key in ("attempt", "spread", "startup_seconds"):
        _number(key, getattr(found, key))
    for key, about in known.items():
        if "None" in str(about.type) and getattr(found, key) is not None:
            _number(key, getattr(found, key))
    return found


def _number(key: str, value: Any, *, least: float = 0.0) -> None:
    """A number that a measurement can give: finite, not negative, and no more than anything lasts or holds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise ValueError(f"{key} is no number")
    most = MOST_SECONDS if key.endswith("_seconds") else MOST
    if not least <= value <= most:
        raise ValueError(f"{key} is {f'below {least:g}' if value < least else f'above {most:g}'}")


def to_json(measurement: Measurement) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, **asdict(measurement)}


def save(project: Path, measurement: Measurement) -> Path:
    """Write a calibration; it takes the place of an earlier one of the same attempt. Raises OSError, and UsageError
    where something else has the folder's name."""
    place = folder(project)
    record.own(project)
    try:
        place.mkdir(exist_ok=True)
    except FileExistsError:
        raise UsageError(f"{place} is no folder", hint="calibrations are kept there: move it away") from None
    device = re.sub(r"[^a-z0-9]+", "-", measurement.device.lower()).strip("-")[:40]
    device += f"-{digest({'device': measurement.device})[:4]}"
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", measurement.name)[:100]
    file = place / "+".join((measurement.digest, device, measurement.kind, name, f"{measurement.attempt}.json"))
    record.write_json(file, to_json(measurement))
    files = sorted(place.glob("*.json"), key=_modified)
    for old in files[: max(0, len(files) - KEEP)]:
        old.unlink(missing_ok=True)
    return file


def load(project: Path) -> tuple[list[Measurement], list[str]]:
    """(every calibration of the project, newest first; what was wrong with others and what became of them)."""
    found, notes = [], []
    for file in sorted(folder(project).glob("*.json")):
        if kind := other_than_file(file):
            notes.append(f"calibration {file.name} is left out: it is {kind}")
            continue
        try:
            data = json.loads(file.read_text("utf-8"))
            if isinstance(data, dict) and data.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
                notes.append(f"calibration {file.name} is left out: it is of another version of runctl")
                continue
            found.append(parse(data))
        except OSError as error:
            notes.append(f"calibration {file.name} is left out: {error.strerror}")
        except (ValueError, RecursionError) as error:
            why = "it is not JSON" if isinstance(error, json.JSONDecodeError | UnicodeDecodeError) else str(error)
            made, became = _mend(project, file)
            notes.append(f"calibration {file.name} is damaged ({why}): {became}")
            found += [made] if made else []
    return sorted(found, key=lambda one: one.created, reverse=True), notes


def _mend(project: Path, file: Path) -> tuple[Measurement | None, str]:
    """Set a damaged file aside; make that of a run again from the copy in the run's own folder. What became of it."""
    try:
        file.replace(file.with_suffix(".damaged"))
    except OSError as error:
        return None, f"left out, for it cannot be set aside: {error.strerror}"
    parts = file.stem.split("+")
    if len(parts) != 5 or parts[2] != "run" or not parts[4].isdigit():
        return None, "set aside"
    try:
        run = record.RunDir(record.runs_root(project) / record.check_name(parts[3]))
        measurement = parse(record.read_json(run.attempt(int(parts[4])).measured))
        save(project, measurement)
    except (OSError, ValueError, RunctlError):
        return None, "set aside"
    return measurement, "made again"


def _modified(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def same(all_of: list[Measurement], shape: Mapping[str, Any], device: str, examples: float) -> list[Measurement]:
    """Of the newest five of this very shape on this very device the one that measured longest, before the others: the
    first steps of a run that goes on must not outweigh a whole one. Where the data are fewer than a batch, a step is
    another one: its windows must be as many, within a twentieth."""
    wanted = digest(shape)
    found = [
        one
        for one in all_of
        if one.digest == wanted and one.device == device and abs(one.examples - examples) <= 0.05 * examples
    ]
    return sorted(found[:RECENT], key=lambda one: one.steps * one.step_seconds, reverse=True)


def of_shape(all_of: list[Measurement], shape: Mapping[str, Any]) -> list[Measurement]:
    """Those of this very shape on any device, newest first: what says that it has run before."""
    wanted = digest(shape)
    return [one for one in all_of if one.digest == wanted]


def nearest(all_of: list[Measurement], shape: Mapping[str, Any], device: str, flops: float) -> Measurement | None:
    """The one on this device, of the same task, precision and number of processes, whose step does the most similar
    arithmetic."""
    fit = [
        one for one in all_of if one.device == device and all(one.shape.get(key) == shape.get(key) for key in _ALIKE)
    ]
    return min(fit, key=lambda one: abs(math.log(flops / one.flops)), default=None)
