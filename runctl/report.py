"""For a training program of your own (`task: command`): tell runctl where you are, in two lines.

    import runctl

    for step in range(1, total + 1):
        loss = train(step)
        runctl.report(step=step, total_steps=total, loss=loss)

`runctl status` then shows progress, ETA and loss, guards read the metrics, and a hang is noticed. Further, if wanted:
`runctl.checkpoint(path)` after a save, `runctl.should_stop()` and `runctl.should_checkpoint()` in the loop.

Standard library only: one file that may also be copied. Outside runctl it does nothing, in other ranks than the first
it writes nothing, and it never raises: what cannot be written is said once on stderr. A program in another language
may write the same JSON to the path in RUNCTL_HEARTBEAT: to a temporary file beside it first, then renamed.
"""

from __future__ import annotations

import atexit
import math
import os
import sys
import time
from _thread import get_ident
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes longer to import than all of this
    from collections.abc import Mapping
    from typing import Any

SECONDS = 1.0  # between two heartbeats, and between two rows of one metric
_RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID")
_SIGNALS = {"stop": "SIGTERM", "checkpoint": "SIGUSR1"}
_NEVER = _LOWEST = float("-inf")

_state: dict[str, Any] = {
    "written": _NEVER,
    "bad": _NEVER,
    "facts": {},
    "checkpoint": None,
    "first": None,
    "held": None,
}
_rows: dict[str, float] = {}  # when each metric was last written
_handled: dict[str, bool] = {}  # what the program has asked for: whether its signal is caught
_asked: set[str] = set()
_warned: set[str] = set()


def report(
    *,
    step: int | None = None,
    total_steps: int | None = None,
    loss: Any = None,
    epoch: float | None = None,
    epochs: float | None = None,
    examples_per_second: float | None = None,
    memory_bytes: int | None = None,
    phase: str = "training",
    checkpoint_step: int | None = None,
    expect_next_seconds: float | None = None,
    message: str = "",
    skipped: int | None = None,
    metrics: Mapping[str, Any] | None = None,
    **more: Any,
) -> None:
    """Say how far the program is. Call it as often as you like: once a second something is written.

    `loss` and any other keyword (`lr=…`, `val_loss=…`) become rows of the run's metrics.jsonl, where guards read them:
    each of them at most once a second, the first, the last and what is not finite always. `metrics`, a mapping such as
    `{"val/loss": 0.31}`, is a row at every call. Values may be tensors or NumPy scalars; they are read when written.

    `expect_next_seconds` says how long the next call may take, if that is longer than 30 s: a silence of twice that is
    called stalled. `skipped` counts the batches that were left out so far. `checkpoint_step` names the step of the last
    checkpoint, for a program that does not call `checkpoint(path)`.
    """
    path = _state["path"] if "path" in _state else _where()
    if path is None:
        return
    try:
        facts = _state["facts"]
        facts = {
            "phase": phase,
            "step": facts.get("step", 0) if step is None else int(step),
            "total_steps": facts.get("total_steps") if total_steps is None else int(total_steps),
            "epoch": epoch,
            "epochs": epochs,
            "loss": facts.get("loss") if loss is None else loss.detach() if hasattr(loss, "detach") else loss,
            "skipped": skipped,
            "examples_per_second": examples_per_second,
            "memory_bytes": memory_bytes,
            "expect_next_seconds": expect_next_seconds,
            "message": message,
        }
        _state["facts"] = facts
        if "pid" not in _state:
            _state["pid"] = os.getpid()
            atexit.register(_let_go)
        now = time.time()
        values = more if loss is None else {"loss": facts["loss"], **more}
        bad = False
        for value in values.values():
            if type(value) is float and not _LOWEST < value < -_LOWEST:
                bad = now - _state["bad"] >= SECONDS
        if bad:
            _state["bad"] = now
        if metrics or values:
            _measured(facts, values, metrics, bad, now)
        if checkpoint_step is not None:
            _state["checkpoint"] = {"step": int(checkpoint_step), "time": now}
        last = facts["total_steps"] is not None and facts["step"] >= facts["total_steps"]
        if now - _state["written"] >= SECONDS or last or bad or checkpoint_step is not None:
            _beat(path, now)
    except Exception as error:
        _warn(error)


def checkpoint(path: str | os.PathLike[str], *, step: int | None = None) -> None:
    """Say that a checkpoint, a file or a folder, is whole at `path`: of the last step that was reported, or of `step`.
    A later attempt finds the newest as `{resume}` in its arguments, and as RUNCTL_RESUME in its environment."""
    heartbeat = _state["path"] if "path" in _state else _where()
    if heartbeat is None:
        return
    try:
        now = time.time()
        at = _state["facts"].get("step", 0) if step is None else int(step)
        _state["checkpoint"] = {"step": at, "time": now, "path": os.path.abspath(os.fspath(path))}
        _beat(heartbeat, now)
    except Exception as error:
        _warn(error)


def should_stop() -> bool:
    """Whether the program is asked to end: save, and leave. From the first call on SIGTERM no longer ends it."""
    return _was_asked("stop")


def should_checkpoint() -> bool:
    """Whether a checkpoint is asked for, once for each request (SIGUSR1: `runctl checkpoint RUN`, a guard)."""
    found = _was_asked("checkpoint")
    _asked.discard("checkpoint")
    return found


def _was_asked(what: str) -> bool:
    if what not in _handled and os.environ.get("RUNCTL_HEARTBEAT"):
        _handled[what] = False
        try:
            _handled[what] = _catch(what)
        except Exception as error:
            _warn(error)
        _state["written"] = _NEVER  # the next heartbeat says so
    return what in _asked


def _catch(what: str) -> bool:
    """Catch the signal of a request; a handler that was there is called as well."""
    import signal

    number = getattr(signal, _SIGNALS[what], None)
    if number is None:
        return False
    before = signal.getsignal(number)

    def asked(got: int, frame: Any) -> None:
        _asked.add(what)
        if callable(before):
            before(got, frame)

    signal.signal(number, asked)
    return True


def _measured(facts: dict[str, Any], values: dict[str, Any], metrics: Any, bad: bool, now: float) -> None:
    """Write a row, or hold it back: of two values within a second the later one counts. Of a tensor is held what is
    left without the graph that made it."""
    row = {name: value.detach() if hasattr(value, "detach") else value for name, value in values.items()}
    due = bool(metrics) or bad
    for name in row:
        due = due or now - _rows.get(name, _NEVER) >= SECONDS
    if not due:
        _state["held"] = (facts["step"], facts["epoch"], now, row)
        return
    held, _state["held"] = _state["held"], None
    if held is not None and not held[3].keys() <= row.keys():
        _add_row(*held)
    for name in row:
        _rows[name] = now
    _add_row(facts["step"], facts["epoch"], now, {**row, **(metrics or {})})


def _let_go() -> None:
    """The last values, when the program ends; not when a process ends that it has forked."""
    if os.getpid() != _state["pid"]:
        return
    held, _state["held"] = _state["held"], None
    try:
        if held is not None:
            _add_row(*held)
        if _state["facts"]:
            _beat(_state["path"], time.time())
    except Exception as error:
        _warn(error)


def _beat(path: str, now: float) -> None:
    import json

    facts = dict(_state["facts"]) or {"phase": "training", "step": (_state["checkpoint"] or {}).get("step", 0)}
    _state["written"] = now
    _show_stacks_when_asked()
    lost = [] if "loss" not in facts or _is_finite(facts["loss"]) else ["loss"]
    for name in ("loss", "examples_per_second", "expect_next_seconds", "epoch", "epochs"):
        facts[name] = _finite(facts.get(name))
    heartbeat = {
        "schema_version": 1,
        "time": now,
        "pid": os.getpid(),
        **facts,
        "nonfinite": lost,
        "steps_per_second": _pace(facts["step"], now),
        "checkpoint": _state["checkpoint"],
        "handles": [name for name, caught in _handled.items() if caught],
    }
    temporary = f"{path}.{os.getpid()}.{get_ident()}.tmp"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(heartbeat, file)
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _pace(step: int, now: float) -> float | None:
    """Steps per second since the first report."""
    if _state["first"] is None or step < _state["first"][0]:
        _state["first"] = (step, now)
    first, since = _state["first"]
    return (step - first) / (now - since) if now - since >= SECONDS and step > first else None


def _add_row(step: int, epoch: Any, now: float, values: Mapping[str, Any]) -> None:
    import json

    folder = os.environ.get("RUNCTL_RUN_DIR")
    if not folder:
        return
    row: dict[str, Any] = {"step": step, "attempt": int(os.environ.get("RUNCTL_ATTEMPT") or 1), "time": round(now, 3)}
    if epoch is not None:
        row["epoch"] = _finite(epoch)
    lost = []
    for name, value in values.items():
        try:
            row[str(name)] = _finite(value)
        except (TypeError, ValueError):
            _warn(TypeError(f"the metric {name} is a {type(value).__name__}, not a number"))
            continue
        if row[str(name)] is None and value is not None:
            lost.append(str(name))
    if lost:
        row["nonfinite"] = lost
    with open(os.path.join(folder, "metrics.jsonl"), "ab") as file:
        file.write(json.dumps(row).encode() + b"\n")


def _show_stacks_when_asked() -> None:
    """On SIGUSR2, write where all threads stand: the supervisor asks a program that seems to hang, before it ends it.
    A program that uses the signal for something else keeps it."""
    import faulthandler
    import signal

    path, wanted = os.environ.get("RUNCTL_STACKS"), getattr(signal, "SIGUSR2", None)
    if not path or wanted is None or "stacks" in _state or signal.getsignal(wanted) is not signal.SIG_DFL:
        return
    _state["stacks"] = None
    try:
        _state["stacks"] = open(path, "ab", buffering=0)  # noqa: SIM115  open for as long as the program lives
        faulthandler.register(wanted, _state["stacks"], all_threads=True, chain=False)
    except OSError:
        pass


def _where() -> str | None:
    """The heartbeat's path, looked up once; None outside of a run, and in other ranks than the first."""
    rank = next((os.environ[name] for name in _RANKS if name in os.environ), "0")
    _state["path"] = (os.environ.get("RUNCTL_HEARTBEAT") or None) if rank in ("0", "") else None
    found: str | None = _state["path"]
    return found


def _finite(value: Any) -> float | int | None:
    """A plain number out of a number, a tensor or a NumPy scalar; None if it is not finite."""
    if value is None or isinstance(value, int):
        return value
    found = float(value)
    return found if math.isfinite(found) else None


def _is_finite(value: Any) -> bool:
    return value is None or _finite(value) is not None


def _warn(error: Exception) -> None:
    """Once for each kind of trouble, and without a way to end the program."""
    words = f"runctl.report: {type(error).__name__}: {error}"
    kind = str(error.errno) if isinstance(error, OSError) else words
    if kind in _warned or len(_warned) > 20:
        return
    _warned.add(kind)
    from contextlib import suppress

    with suppress(Exception):  # a closed stderr is no reason to end a training
        print(f"{words}; the program goes on", file=sys.stderr)


class _Callable(ModuleType):
    """`runctl.report(…)` and `from runctl.report import report` both work: the module is its function as well."""

    def __call__(self, **facts: Any) -> None:
        report(**facts)


sys.modules[__name__].__class__ = _Callable
