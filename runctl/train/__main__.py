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
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from runctl import config as configs
from runctl import install, record
from runctl.config.model import Tracking
from runctl.errors import RunctlError
from runctl.train import leader, presence, sharing, stacks, timing  # noqa: F401  the clock begins before torch is there
from runctl.train.control import Control, Stopped
from runctl.train.heartbeat import Heartbeat
from runctl.train.say import say


def main(arguments: list[str] | None = None) -> None:
    """Run one attempt and leave the process: 0 if it succeeded or was stopped, 1 if it failed."""
    parser = argparse.ArgumentParser(prog="python -m runctl.train", description="One attempt of a run.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--probe", type=float, metavar="SECONDS", help="run and judge some steps instead of the run")
    options = parser.parse_args(arguments)
    attempt(options.run.resolve(), options.attempt, build, options.probe)


def build(config: configs.RunConfig, **place: Any) -> Any:
    """The job of the config's task: its module `runctl.tasks.<name>.task` makes it."""
    try:
        module = importlib.import_module(f"runctl.tasks.{config.task}.task")
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("runctl"):
            raise RunctlError(f"task '{config.task}' has nothing that the trainer can build") from None
        raise
    return module.build(config, **place)


def attempt(path: Path, number: int, build: Callable[..., Any], probe: float | None = None) -> None:
    """One attempt of the run in `path`, with the job that `build` makes; does not return. `probe` is the number of
    seconds for which steps are only tried (`train/probe.py`)."""
    control = Control()
    control.install()
    run = record.RunDir(path)
    files = run.attempt(number)
    files.path.mkdir(parents=True, exist_ok=True)
    seat = presence.seat()
    mark = presence.Mark(files, seat.rank) if seat.size > 1 else None
    if mark is not None:
        leader.follow_parent()
    stacks.register(presence.stacks(files, seat.rank))
    heartbeat = Heartbeat(files, path=presence.heartbeat(files, seat.rank))
    heartbeat.phase("loading", "importing torch")
    trackers: list[Any] = []
    try:
        about = _content(run, number)
        if mark is None and probe is None and (size := _processes(about)) > 1:
            leader.lead(run, number, size, about["config"]["training"]["threads"])
        result = _train(run, number, about, build, control, heartbeat, trackers, probe, mark)
    except Stopped:
        result = _result(heartbeat, "stopped", None)
    except BaseException as error:
        told = _describe(error, run)
        prefix = f"[rank{seat.rank}]: " if seat.size > 1 else ""
        if isinstance(error, RunctlError | presence.PeerLost) or _disk(error):
            say(f"{prefix}error: {told['message']}" + (f"; {told['hint']}" if told["hint"] else ""))
        else:
            with suppress(OSError):
                lines = traceback.format_exc().splitlines(keepends=True)
                sys.stderr.write("".join(prefix + line for line in lines))
        result = _result(heartbeat, "failed", told)
    if result["outcome"] == "stopped":
        result["signal"] = control.reason or None
    if control.parent_lost:
        lost = {"type": "SupervisorLost", "message": "supervisor lost", "where": None}
        lost["hint"] = f"what was trained is saved; go on with: runctl resume {run.name}"
        result |= {"outcome": "failed", "error": result["error"] or lost}
    heartbeat.phase("ending", result["error"]["message"] if result["error"] else "")
    if seat.size > 1 and (result["outcome"] == "failed" or not seat.first):
        if result["outcome"] == "failed":  # the leader weighs what all of them tell
            second = result["error"]["type"] == presence.PeerLost.__name__
            presence.tell_failure(files, seat.rank, result["error"], second=second)
        _leave(1 if result["outcome"] == "failed" else 0)
    try:
        record.write_json(files.result, result)
    except OSError as error:
        cause = result["error"]["message"] if result["error"] else f"the run {result['outcome']}"
        say(f"error: {cause}; result.json could not be written: {error.strerror or error}")
        result["outcome"] = "failed"  # without a result nobody may take it for anything else
    for tracker in trackers:
        tracker.finish(result["outcome"])
        heartbeat.update(tracking=tracker.status())
        heartbeat.now()
    _leave(1 if result["outcome"] == "failed" else 0)


def _leave(code: int) -> NoReturn:
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _content(run: record.RunDir, number: int) -> dict[str, Any]:
    about = record.content(run, number)
    if "config" not in about:
        raise RunctlError(f"{run.run} is missing or damaged", hint="launch the run again")
    return about


def _processes(about: dict[str, Any]) -> int:
    sharing.refuse_foreign()
    return sharing.processes(about["config"])


def _train(
    run: record.RunDir,
    number: int,
    about: dict[str, Any],
    build: Callable[..., Any],
    control: Control,
    heartbeat: Heartbeat,
    trackers: list[Any],
    probe: float | None,
    mark: presence.Mark | None,
) -> dict[str, Any]:
    config = configs.from_effective(about["config"])

    # Idle OpenMP threads sleep: where a neighbour takes a core, spinning ones cost up to 9/10 of the speed.
    if "GOMP_SPINCOUNT" not in os.environ:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from runctl.train import device as devices
    from runctl.train import loop, ranks
    from runctl.train.trackers import Silent, start

    def report(message: str) -> None:
        heartbeat.update(message=message)
        heartbeat.beat()
        control.check()

    group = ranks.Group(presence.seat(), run.attempt(number), mark) if mark is not None else None
    seat = presence.seat() if group else presence.Seat()
    device = ranks.check_device(devices.choose(config), seat) if group else devices.choose(config)
    devices.prepare(config, seat.size)
    heartbeat.memory = lambda: devices.peak_memory_bytes(device)
    heartbeat.update(device=devices.name(device) + (f", in {seat.size} processes" if group else ""))
    if group:
        group.meet(report)
        if not seat.first and config.data.simulate is not None and config.data.encoded is None:
            group.after_first()
    report("loading the data")
    torch.manual_seed(config.training.seed or 0)
    project = Path(about.get("project") or Path.cwd())
    job = build(config, project=project, run=run, device=device, report=report)
    heartbeat.update(data_source=job.data_source)
    if kernel := getattr(job, "kernel", None):
        heartbeat.update(device=f"{heartbeat.facts['device']}, {kernel} kernel")
    if group:
        group.done()
        group.join(device)
    guests = config.model_copy(update={"tracking": Tracking()}) if probe is not None else config
    trackers.append(start(guests, about["config"], run) if seat.first else Silent())
    place = loop.Place(run, number, device, control, heartbeat, trackers[0], group or ranks.Alone())
    if probe is None:
        ended = loop.train(job, config, place)
    else:
        from runctl.train import probe as probes

        ended = probes.probe(job, config, place, probe)
    result = _result(heartbeat, ended.outcome, None)
    return result | {"metrics": ended.metrics, "notes": ended.notes}


def _result(heartbeat: Heartbeat, outcome: str, error: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "schema_version": record.SCHEMA_VERSION,
        "outcome": outcome,
        "step": heartbeat.facts["step"],
        "total_steps": heartbeat.facts["total_steps"],
        "error": error,
        "signal": None,
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
    elif isinstance(error, presence.PeerLost):
        hint, where = "why it ended is told by that process", None
    elif isinstance(error, ValidationError):
        message = f"the config in run.json is not valid: {error.error_count()} problems"
    elif isinstance(error, OSError) and _disk(error):
        message, hint, where = *_disk_told(error, run), None
    elif isinstance(error, OSError) and error.strerror and error.filename:
        message = f"{error.filename}: {error.strerror}"
    elif isinstance(error, MemoryError) or "DefaultCPUAllocator" in message or "OutOfMemory" in type(error).__name__:
        hint = "lower training.batch_size and raise training.accumulation by as much"
    elif isinstance(error, ModuleNotFoundError):
        hint = install.hint("train")
    return {"type": type(error).__name__, "message": message.splitlines()[0], "hint": hint, "where": where}


def _disk(error: BaseException) -> bool:
    """Whether the disk refused: no defect of the program, so its traceback helps nobody."""
    refusals = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
    return isinstance(error, OSError) and error.errno in refusals


def _disk_told(error: OSError, run: record.RunDir) -> tuple[str, str]:
    """(what, what to do) of a refusal by the disk."""
    file = Path(error.filename) if isinstance(error.filename, str) else run.path
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        lacking = "space" if error.errno == errno.ENOSPC else "disk quota"
        what, cure = f"no {lacking} left on {run.path if file.is_relative_to(run.path) else file}", "free some there"
        what += f" for {file.relative_to(run.path)}" if run.path in file.parents else ""
    else:
        what, cure = f"{file}: {error.strerror}", "make it readable and writable"
    return what, f"{cure}, then go on from the last checkpoint with: runctl resume {run.name}"


if __name__ == "__main__":
    main()
