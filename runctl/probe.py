"""Probe a config: run real steps of it here, measure them, and judge whether they are sound.

The steps run in a process of their own with the trainer's loop, in a folder that is gone afterwards unless something
was wrong. What was measured is kept as a calibration, so the next estimate of this config rests on it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runctl import config as configs
from runctl import install, record
from runctl import project as projects
from runctl.backends import local
from runctl.errors import Exit, PlaceError, ProviderError, RunctlError, UsageError
from runctl.estimate import calibration
from runctl.estimate.calibration import Measurement
from runctl.logs import last_lines
from runctl.supervisor import process
from runctl.supervisor.process import importable

SECONDS = 60.0
_LOOK_SECONDS = 0.2
_LOG_LINES = 12
KEEP = 3  # folders of probes that were not sound


class ProbeFailed(RunctlError):
    """The steps could not be run, or are not sound."""

    exit_code = Exit.FINDINGS


@dataclass(frozen=True)
class Probe:
    """What a probe found. `checks` hold name, ok, said and fix; `kept` is its folder where something was wrong."""

    name: str
    checks: tuple[dict[str, Any], ...]
    measurement: Measurement | None
    seconds: float
    kept: Path | None = None

    @property
    def ok(self) -> bool:
        return all(check["ok"] for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "ok": self.ok,
            "checks": list(self.checks),
            "seconds": round(self.seconds, 3),
            "measurement": calibration.to_json(self.measurement) if self.measurement else None,
            "kept": str(self.kept) if self.kept else None,
        }


def probe(
    path: Path | str,
    overrides: Sequence[str] = (),
    *,
    seconds: float = SECONDS,
    look: Callable[[dict[str, Any]], None] = lambda heartbeat: None,
) -> Probe:
    """Run the steps; `look` is given the trainer's heartbeat several times a second.

    Raises UsageError and ConfigError (the config), ProviderError (it cannot train here) and ProbeFailed (the trainer
    ended with an error; its folder is kept). Checks that do not hold are no error: see `Probe.ok`.
    """
    loaded = configs.load(path, overrides)
    config = loaded.config
    if config.task == "command":
        hint = "runctl can probe what its own trainer trains; launch a short run of yours instead"
        raise UsageError("a probe measures steps, and task: command runs a program of your own", hint=hint)
    if config.compute.backend != "local":
        hint = "probe it where the GPU is: --set compute.backend=local"
        raise ProviderError(f"a probe runs on this machine, not on the backend {config.compute.backend}", hint=hint)
    if importlib.util.find_spec("torch") is None:
        raise ProviderError("this environment cannot train: torch is not installed", hint=install.hint("train"))
    project = projects.load(path).root
    run = record.RunDir(_folder(project, config.name))
    began = time.monotonic()
    try:
        run.path.mkdir(parents=True)
        _prepare(run, config, project)
        code = _run(run, project, seconds, look)
        found = record.read_json(run.path / "probe.json")
    except BaseException:
        shutil.rmtree(run.path, ignore_errors=True)
        raise
    if code != 0 or not isinstance(found, dict):
        raise _failure(run, code)
    measured = calibration.parse(found["measurement"]) if found["measurement"] else None
    if measured is not None:
        calibration.save(project, measured)
    checks = tuple(found["checks"])
    sound = all(check["ok"] for check in checks)
    shutil.rmtree(run.dataset, ignore_errors=True)
    if sound:
        shutil.rmtree(run.path, ignore_errors=True)
    return Probe(config.name, checks, measured, time.monotonic() - began, None if sound else run.path)


def _folder(project: Path, name: str) -> Path:
    """Where to probe: a new folder under the project's own. Of those that were kept, all but the newest go."""
    root = record.own(project) / "probes"
    kept = sorted(root.glob("*"), key=lambda path: path.stat().st_mtime)
    for old in kept[: max(0, len(kept) - KEEP + 1)]:
        shutil.rmtree(old, ignore_errors=True)
    return root / f"{name}-{os.getpid()}-{time.time_ns()}"


def _prepare(run: record.RunDir, config: configs.RunConfig, project: Path) -> None:
    run.attempt(1).path.mkdir(parents=True)
    about = {
        "schema_version": record.SCHEMA_VERSION,
        "name": config.name,
        "project": str(project),
        "digest": configs.digest(config),
        "config": configs.to_effective(config),
    }
    record.write_json(run.run, about)


def _run(run: record.RunDir, project: Path, seconds: float, look: Callable[[dict[str, Any]], None]) -> int:
    """Run the trainer to its end; returns its exit code."""
    argv = [*local.TRAINER, str(run.path), "--attempt", "1", "--probe", f"{seconds:g}"]
    env = importable({**os.environ, "PYTHONUNBUFFERED": "1"})
    files = run.attempt(1)
    trainer = process.start(argv, cwd=project, env=env, log=files.log, adopt=False)
    try:
        while trainer.poll() is None:
            time.sleep(_LOOK_SECONDS)
            heartbeat = record.read_json(files.heartbeat)
            if isinstance(heartbeat, dict):
                look(heartbeat)
    finally:
        process.signal_group(trainer.pid, signal.SIGKILL)
        trainer.wait()
    return trainer.returncode


def _failure(run: record.RunDir, code: int) -> RunctlError:
    """The trainer's own error, and the end of its log."""
    result = record.read_json(run.attempt(1).result)
    error = result.get("error") if isinstance(result, dict) else None
    error = error if isinstance(error, dict) else {}
    said = error.get("message") or (f"killed by signal {-code}" if code < 0 else f"exit code {code}")
    log = run.attempt(1).log
    lines = [f"  | {line}" for line in last_lines(log, _LOG_LINES)]
    tail = "\n".join(["", f"last lines of {log}:", *lines]) if lines else ""
    shutil.rmtree(run.dataset, ignore_errors=True)  # what the games were simulated for; it may be large
    if str(said).startswith(("no space left", "no disk quota left")):
        return PlaceError(f"the probe ended: {said}", hint="make room there, then probe again")
    hint = error.get("hint")
    if not isinstance(hint, str) or "runctl resume" in hint or "runctl logs" in hint:
        hint = f"the whole log: {log}"  # a probe is no run
    return ProbeFailed(f"the probe ended: {said}{tail}", hint=hint)
