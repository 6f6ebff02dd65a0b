"""Hangs, seen from outside: how long a silence may be, and where the processes stood when it was too long.

Why outside: a loop that hangs cannot say so, and what it waits for (a lock, a driver, another rank) may hold the GIL,
so that no thread of its own can. Only silence that the supervisor itself has lived through counts: a machine that was
suspended, or a container that was frozen, stopped both.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from runctl import evidence, fields, record
from runctl.light import dataclass
from runctl.train import presence
from runctl.units import format_duration

START_SECONDS = 1800.0
SILENCE_SECONDS = 600.0
COMMAND_SILENCE_SECONDS = 1800.0  # a program of one's own may validate without a report
STEPS = 5.0  # times the longest silence so far
DECLARED = 2.0  # times `expect_next_seconds`, as in status
STACKS_SIGNAL = signal.SIGUSR2
_TICK_SECONDS = 2.0
_DUMP_SECONDS = 2.0
_PY_SPY_SECONDS = 15.0
_MOST_THREADS = 200
_PROC = Path("/proc")


@dataclass(frozen=True)
class Limits:
    """How long a trainer may be silent, in seconds: until its first step, and after it."""

    start: float = START_SECONDS
    silence: float = SILENCE_SECONDS


def limits(config: Mapping[str, Any]) -> Limits:
    """The limits of a run's effective config (`compute.start_within`, `compute.hang_after`)."""
    section = config.get("compute")
    command = config.get("task") == "command"
    start, silence = fields.number(section, "start_within"), fields.number(section, "hang_after")
    return Limits(start or START_SECONDS, silence or (COMMAND_SILENCE_SECONDS if command else SILENCE_SECONDS))


class Silence:
    """The silence of one trainer, counted tick by tick."""

    def __init__(self, limits: Limits, *, command: bool) -> None:
        self._limits = limits
        self._command = command
        self._looked = time.monotonic()
        self._longest = 0.0  # since the first step: loading and compiling say nothing of a step
        self._stepped = False
        self.seconds = 0.0
        self.heard = False

    def look(self, new: bool, stepped: bool) -> None:
        """Once a tick: whether there was a new heartbeat since the last one, and whether a first step was made."""
        now = time.monotonic()
        self.seconds += min(now - self._looked, _TICK_SECONDS)
        self._looked = now
        if new:
            if self._stepped:
                self._longest = max(self._longest, self.seconds)
            self.heard, self._stepped, self.seconds = True, stepped, 0.0

    def limit(self, beat: Mapping[str, Any], stepped: bool) -> float | None:
        """Seconds of silence that mean a hang now; None for a program that has never reported."""
        if not self.heard and self._command:
            return None
        declared = fields.number(beat, "expect_next_seconds") or 0.0
        least = self._limits.silence if stepped else self._limits.start
        return max(least, STEPS * self._longest, DECLARED * declared)

    def hung(self, beat: Mapping[str, Any], stepped: bool) -> str:
        """The words for a trainer that is silent for too long; "" while it is not."""
        limit = self.limit(beat, stepped)
        if limit is None or self.seconds < limit:
            return ""
        silent = format_duration(self.seconds)
        if not self.heard:
            return f"hung: no heartbeat within {silent} of its start (compute.start_within)"
        step, phase = fields.whole(beat, "step"), fields.text(beat, "phase")
        doing = (f" while {phase}" if phase else "") + (f" at step {step:,}" if step is not None else "")
        key = "hang_after" if stepped else "start_within"
        usual = f"; its longest silence before was {format_duration(self._longest)}" if self._longest >= 1 else ""
        return f"hung: no heartbeat for {silent}{doing} (compute.{key}{usual})"


def dump(attempt: record.Attempt, group: int, beat: Mapping[str, Any], words: str) -> str:
    """Write where every process of a group stands to `hang.txt`; returns in a few words what was found.

    The stacks of a Python program come from itself, if it has made ready for the signal (`stacks.txt` is there), else
    from py-spy, if that is installed; the kernel's view of each thread is there in any case.
    """
    pids = _processes(group)
    late = presence.behind(attempt)
    frozen = [pid for pid in pids if _state(pid) in ("T", "t")]
    parts = [f"{time.strftime('%Y-%m-%d %H:%M:%S')} {words}"]
    if frozen:
        parts.append(f"stopped by a signal (SIGSTOP) or a debugger: {', '.join(map(str, frozen))}")
    parts += [late] if late else []
    stacks, source = _all_stacks(attempt, pids, beat, frozen), "the program itself"
    if not stacks:
        stacks, source = _py_spy(pids), "py-spy"
    parts.append(f"stacks, from {source}:\n{stacks}" if stacks else "stacks: none; " + _why_none(attempt, frozen))
    parts += [_seen(pid) for pid in pids]
    with suppress(OSError):
        record.write_text(attempt.hang, "\n\n".join(parts) + "\n")
    said = f"{late}; " if late else ""
    if frozen:
        return f"{said}process {frozen[0]} is stopped (SIGSTOP)"
    return said + (f"its stacks are in {attempt.hang.name}" if stacks else f"its threads are in {attempt.hang.name}")


def wake(group: int) -> None:
    """Let stopped processes of a group run again, so that they can take the signals that wait for them."""
    for pid in _processes(group):
        if _state(pid) in ("T", "t"):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGCONT)


def _processes(group: int) -> list[int]:
    """A group's living processes, and those below its leader: torchrun gives each rank a session of its own."""
    return sorted({*evidence.members(group), *evidence.descendants(group)})


def _all_stacks(attempt: record.Attempt, pids: list[int], beat: Mapping[str, Any], frozen: list[int]) -> str:
    """The stacks of the trainer, or of each of the processes that share a run."""
    found = [_own_stacks(attempt.stacks, pids, beat, frozen)]
    for one in presence.standing(attempt):
        if one.rank:
            stacks = _own_stacks(presence.stacks(attempt, one.rank), pids, {"pid": one.pid}, frozen)
            found.append(f"rank {one.rank} (process {one.pid}):\n{stacks}" if stacks else "")
    return "\n\n".join(filter(None, found))


def _own_stacks(path: Path, pids: list[int], beat: Mapping[str, Any], frozen: list[int]) -> str:
    """What faulthandler writes on the signal, in C and without the GIL. A stopped process writes it when it wakes."""
    pid = fields.whole(beat, "pid")
    if pid not in pids or not path.exists() or not catches(pid, STACKS_SIGNAL):
        return ""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, STACKS_SIGNAL)
    if pid in frozen:
        return ""
    deadline, size = time.monotonic() + _DUMP_SECONDS, -1
    while time.monotonic() < deadline:
        time.sleep(0.1)
        found = len(_text(path))
        if found and found == size:
            break
        size = found
    return _text(path)


def _py_spy(pids: list[int]) -> str:
    """What py-spy says of the processes, if it is installed and may look at them."""
    beside = Path(sys.executable).with_name("py-spy")
    program = str(beside) if beside.exists() else shutil.which("py-spy")
    if program is None:
        return ""
    found: list[str] = []
    deadline = time.monotonic() + _PY_SPY_SECONDS
    for pid in pids:
        if time.monotonic() >= deadline:
            break
        with suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(
                [program, "dump", "--pid", str(pid)],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_PY_SPY_SECONDS,
                check=False,
            )
            found += [done.stdout.strip()] if done.returncode == 0 and done.stdout.strip() else []
    return "\n\n".join(found)


def _why_none(attempt: record.Attempt, frozen: list[int]) -> str:
    if frozen and attempt.stacks.exists():
        return f"a stopped process cannot write them; if it wakes, they are in {attempt.stacks.name}"
    if attempt.stacks.exists():
        return "the program did not answer"
    return "for a program of your own, install py-spy or use runctl.report"


def _seen(pid: int) -> str:
    """The kernel's view of a process: its command, and of each thread its name, state and what it waits in."""
    command = _text(_PROC / str(pid) / "cmdline").replace("\0", " ").strip()
    lines = [f"process {pid}: {command[:300]}"]
    with suppress(OSError):
        for name in sorted(os.listdir(_PROC / str(pid) / "task"), key=int)[:_MOST_THREADS]:
            folder = _PROC / str(pid) / "task" / name
            place = _text(folder / "wchan").strip("\0 \n")
            waits = f", in {place}" if place not in ("", "0") else ""
            lines.append(f"  thread {name} {_text(folder / 'comm').strip()}: {_words(_state_of(folder))}{waits}")
    return "\n".join(lines)


def _words(state: str) -> str:
    known = {"R": "running", "S": "waiting", "D": "waiting for a device", "T": "stopped", "t": "traced", "Z": "ended"}
    return known.get(state, state or "gone")


def _state(pid: int) -> str:
    return _state_of(_PROC / str(pid))


def _state_of(folder: Path) -> str:
    return _text(folder / "stat").rpartition(")")[2].strip()[:1]


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal, whose default would end it. True where /proc cannot tell."""
    for line in _text(_PROC / str(pid) / "status").splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return sys.platform != "linux"


def _text(path: Path) -> str:
    try:
        return path.read_bytes()[: 1 << 20].decode(errors="replace")
    except OSError:
        return ""
