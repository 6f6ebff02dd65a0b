"""`python -m runctl.train RUN_DIR --attempt N`: one attempt of a run, from its run.json to its result.json.

Whatever happens, an attempt that could start ends with a result.json: the outcome, and for a failure what, why and
what to do. The traceback goes to the log. The process leaves by `os._exit` once its result is on the disk, so that
no teardown of CUDA, workers or trackers can keep it from ending.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from runctl import config as configs
from runctl import record
from runctl.errors import RunctlError
from runctl.train.control import Control, Stopped
from runctl.train.heartbeat import Heartbeat


def main(arguments: list[str] | None = None) -> None:
    """Run one attempt and leave the process: 0 if it succeeded or was stopped, 1 if it failed."""
    parser = argparse.ArgumentParser(prog="python -m runctl.train", description="One attempt of a run.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--attempt", type=int, required=True)
    options = parser.parse_args(arguments)
    attempt(options.run.resolve(), options.attempt, build)


def build(config: configs.RunConfig, **place: Any) -> Any:
    """The job of the config's task: its module `runctl.tasks.<name>.task` makes it."""
    try:
        module = importlib.import_module(f"runctl.tasks.{config.task}.task")
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("runctl"):
            raise RunctlError(f"task '{config.task}' has nothing that the trainer can build") from None
        raise
    return module.build(config, **place)


def attempt(path: Path, number: int, build: Callable[..., Any]) -> None:
    """One attempt of the run in `path`, with the job that `build` makes; does not return."""
    control = Control()
    control.install()
    run = record.RunDir(path)
    files = run.attempt(number)
    files.path.mkdir(parents=True, exist_ok=True)
    heartbeat = Heartbeat(files)
    heartbeat.phase("loading", "importing torch")
    trackers: list[Any] = []
    try:
        result = _train(run, number, build, control, heartbeat, trackers)
    except Stopped:
        result = _result(heartbeat, "stopped", None)
    except RunctlError as error:
        print(f"error: {error.message}", *([f"hint: {error.hint}"] if error.hint else []), sep="\n", flush=True)
        result = _result(heartbeat, "failed", _describe(error, run))
    except BaseException as error:
        traceback.print_exc()
        result = _result(heartbeat, "failed", _describe(error, run))
    if control.parent_lost:
        lost = {"type": "SupervisorLost", "message": "supervisor lost", "where": None}
        lost["hint"] = f"what was trained is saved; go on with: runctl resume {run.name}"
        result |= {"outcome": "failed", "error": result["error"] or lost}
    heartbeat.phase("ending", result["error"]["message"] if result["error"] else "")
    try:
        record.write_json(files.result, result)
    except OSError as error:
        print(f"result.json could not be written: {error}; it would say: {result}", file=sys.stderr)
    for tracker in trackers:
        tracker.finish(result["outcome"])
        heartbeat.update(tracking=tracker.status())
        heartbeat.now()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if result["outcome"] == "failed" else 0)


def _train(
    run: record.RunDir,
    number: int,
    build: Callable[..., Any],
    control: Control,
    heartbeat: Heartbeat,
    trackers: list[Any],
) -> dict[str, Any]:
    about = record.read_json(run.run)
    if not isinstance(about, dict) or "config" not in about:
        raise RunctlError(f"{run.run} is missing or damaged", hint="launch the run again")
    config = configs.from_effective(about["config"])

    # Idle OpenMP threads sleep: where a neighbour takes a core, spinning ones cost up to 9/10 of the speed.
    if "GOMP_SPINCOUNT" not in os.environ:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from runctl.train import device as devices
    from runctl.train import loop
    from runctl.train.trackers import start

    def report(message: str) -> None:
        heartbeat.update(message=message)
        heartbeat.beat()
        control.check()

    device = devices.choose(config)
    devices.prepare(config)
    heartbeat.memory = lambda: devices.peak_memory_bytes(device)
    heartbeat.update(device=devices.name(device))
    report("loading the data")
    torch.manual_seed(config.training.seed or 0)
    project = Path(about.get("project") or Path.cwd())
    job = build(config, project=project, run=run, device=device, report=report)
    heartbeat.update(data_source=job.data_source)
    trackers.append(start(config, about["config"], run))
    place = loop.Place(run, number, device, control, heartbeat, trackers[0])
    ended = loop.train(job, config, place)
    result = _result(heartbeat, ended.outcome, None)
    return result | {"metrics": ended.metrics, "notes": ended.notes}


def _result(heartbeat: Heartbeat, outcome: str, error: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "schema_version": record.SCHEMA_VERSION,
        "outcome": outcome,
        "step": heartbeat.facts["step"],
        "total_steps": heartbeat.facts["total_steps"],
        "error": error,
        "metrics": {},
        "notes": [],
        "ended": time.time(),
    }


def _describe(error: BaseException, run: record.RunDir) -> dict[str, Any]:
    """An error as a person needs it: what, what to do, and where in the code."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name}" if frames else None
    hint: str | None
    message, hint = str(error) or type(error).__name__, f"the traceback is in the log: runctl logs {run.name}"
    if isinstance(error, RunctlError):
        message, hint, where = error.message, error.hint, None
    elif isinstance(error, ValidationError):
        message = f"the config in run.json is not valid: {error.error_count()} problems"
    elif isinstance(error, OSError) and error.strerror:
        message = f"{'cannot write ' if _disk(error) else ''}{error.filename}: {error.strerror}"
        hint = _disk_hint(error, run) if _disk(error) else hint
    elif isinstance(error, MemoryError) or "DefaultCPUAllocator" in message or "OutOfMemory" in type(error).__name__:
        hint = "lower training.batch_size and raise training.accumulation by as much"
    elif isinstance(error, ModuleNotFoundError):
        hint = "install what training needs: pip install 'runctl[train]'"
    return {"type": type(error).__name__, "message": message.splitlines()[0], "hint": hint, "where": where}


def _disk(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


def _disk_hint(error: OSError, run: record.RunDir) -> str:
    cure = "free space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "make it writable"
    return f"{cure} in {run.path}, then go on from the last checkpoint with: runctl resume {run.name}"


if __name__ == "__main__":
    main()
