"""For a training program of your own (`task: command`): tell runctl where you are.

    from runctl.report import report

    for step in range(1, total + 1):
        loss = train(step)
        report(step=step, total_steps=total, loss=loss)

`runctl status` then shows progress, ETA and loss, and notices if the program hangs. Standard library only: one file
that may also be copied. Outside runctl it does nothing. A program in another language may write the same JSON to
the path in RUNCTL_HEARTBEAT: to a temporary file beside it first, then renamed.
"""

from __future__ import annotations

import faulthandler
import json
import math
import os
import signal
import time
from collections.abc import Mapping
from typing import Any

_state: dict[str, Any] = {"written": float("-inf"), "checkpoint": None}


def report(
    *,
    step: int,
    total_steps: int | None = None,
    loss: float | None = None,
    examples_per_second: float | None = None,
    memory_bytes: int | None = None,
    phase: str = "training",
    checkpoint_step: int | None = None,
    expect_next_seconds: float | None = None,
    message: str = "",
    skipped: int | None = None,
    metrics: Mapping[str, float] | None = None,
) -> None:
    """Write the heartbeat, at most four times a second (the last step is always written).

    `checkpoint_step` names the step of the last checkpoint that the program saved. `expect_next_seconds` says how
    long the next call may take, if that is longer than 30 s: a silence of twice that is called stalled. `skipped`
    counts the batches that were left out so far. `metrics`, `{"val/loss": 0.31}` for instance, are added to the
    run's metrics.jsonl at each call, where guards read them.
    """
    path = os.environ.get("RUNCTL_HEARTBEAT")
    now = time.time()
    if path and metrics:
        _add_row(step, now, metrics)
    if checkpoint_step is not None:
        _state["checkpoint"] = {"step": checkpoint_step, "time": now}
    last = total_steps is not None and step >= total_steps
    bad = loss is not None and not math.isfinite(loss)
    if not path or (now - _state["written"] < 0.25 and not (last or bad) and checkpoint_step is None):
        return
    _state["written"] = now
    _show_stacks_when_asked()
    heartbeat = {
        "schema_version": 1,
        "time": now,
        "pid": os.getpid(),
        "phase": phase,
        "step": step,
        "total_steps": total_steps,
        "loss": _finite(loss),
        "nonfinite": ["loss"] if bad else [],
        "skipped": skipped,
        "examples_per_second": _finite(examples_per_second),
        "memory_bytes": memory_bytes,
        "checkpoint": _state["checkpoint"],
        "expect_next_seconds": _finite(expect_next_seconds),
        "message": message,
    }
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(heartbeat, file)
    os.replace(temporary, path)


def _show_stacks_when_asked() -> None:
    """On SIGUSR2, write where all threads stand: the supervisor asks a program that seems to hang, before it ends it.
    A program that uses the signal for something else keeps it."""
    path, wanted = os.environ.get("RUNCTL_STACKS"), getattr(signal, "SIGUSR2", None)
    if not path or wanted is None or "stacks" in _state or signal.getsignal(wanted) is not signal.SIG_DFL:
        return
    _state["stacks"] = None
    try:
        _state["stacks"] = open(path, "ab", buffering=0)  # noqa: SIM115  open for as long as the program lives
        faulthandler.register(wanted, _state["stacks"], all_threads=True, chain=False)
    except OSError:
        pass


def _add_row(step: int, now: float, metrics: Mapping[str, float]) -> None:
    folder = os.environ.get("RUNCTL_RUN_DIR")
    if not folder:
        return
    row: dict[str, Any] = {"step": step, "attempt": int(os.environ.get("RUNCTL_ATTEMPT") or 1), "time": round(now, 3)}
    row.update((name, _finite(value)) for name, value in metrics.items())
    if lost := [name for name, value in metrics.items() if not math.isfinite(value)]:
        row["nonfinite"] = lost
    with open(os.path.join(folder, "metrics.jsonl"), "ab") as file:
        file.write(json.dumps(row).encode() + b"\n")


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
