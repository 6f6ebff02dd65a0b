"""This machine: its limits, its clock, the code's repository, and what earlier runs have left on it."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from runctl import evidence, machine, record, status
from runctl.doctor import BAD, OK, WARN, Check, Look
from runctl.units import counted, format_bytes, format_duration

_FILES = 4096
_SHARED_BYTES = 1 << 30
_TRIAL_SECONDS = 0.2
_CLOCK_SECONDS = 0.05
_TOOL_SECONDS = 5.0
_AHEAD_SECONDS = 60.0
_OFFSET_SECONDS = 1.0
_SHOWN = 5


def limits(project: Path) -> Iterator[Check]:
    """Open files, memory of this container, shared memory for loader workers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = 0 <= soft < _FILES
    advice = (
        f"ulimit -n {min(hard, 65536) if hard > soft else 65536}, before a launch: loader workers open many"
        if few
        else ""
    )
    yield Check("machine", "open files", WARN if few else OK, f"{soft:,} at a time (ulimit -n)", advice)
    shared = Path("/dev/shm")  # noqa: S108 - looked at, not written to
    if shared.is_dir():
        disk = os.statvfs(shared)
        free, size = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
        small = free < _SHARED_BYTES
        advice = "start the container with --shm-size=8g, or use num_workers=0" if small else ""
        seen = f"{format_bytes(free)} of {format_bytes(size)} are free in /dev/shm"
        yield Check("machine", "shared memory", WARN if small else OK, seen, advice)
    memory = machine.memory_bytes()
    if memory is not None:
        yield Check("machine", "memory", OK, f"{format_bytes(memory)}, {counted(os.cpu_count() or 1, 'core')}")


def clock(project: Path) -> Iterator[Check]:
    """Whether time passes evenly, lies behind what was written, and is kept by somebody."""
    wall, steady = time.time(), time.monotonic()
    time.sleep(_TRIAL_SECONDS)
    apart = (time.time() - wall) - (time.monotonic() - steady)
    if abs(apart) > _CLOCK_SECONDS:
        seen = f"the wall clock moved by {apart:+.2f} s against the steady one within {_TRIAL_SECONDS} s"
        yield Check("machine", "clock", WARN, seen, "something sets the clock in jumps: let NTP slew it")
    newest = max((_written(run) for run in record.list_runs(project)), default=0.0)
    if newest - time.time() > _AHEAD_SECONDS:
        seen = f"a run's record is {format_duration(newest - time.time())} in the future"
        advice = "set the clock: ages, timeouts and the order of runs are wrong"
        yield Check("machine", "clock", BAD, seen, advice)
        return
    state, seen, advice = _kept()
    yield Check("machine", "clock", state, seen, advice)


def _kept() -> tuple[str, str, str]:
    """What a local tool says of the clock's offset; nobody outside is asked."""
    set_it = "start a time service (chrony, systemd-timesyncd)"
    if said := _tool("chronyc", "-c", "tracking"):
        parts = said.split(",")
        try:
            offset = abs(float(parts[4]))
        except (IndexError, ValueError):
            offset = 0.0
        off = offset > _OFFSET_SECONDS
        return (WARN if off else OK), f"chrony: {offset:.3f} s off", set_it if off else ""
    if said := _tool("timedatectl", "show", "-p", "NTPSynchronized", "--value"):
        kept = said.strip() == "yes"
        return (
            (OK if kept else WARN),
            f"it is {'' if kept else 'not '}kept by NTP (timedatectl)",
            "" if kept else set_it,
        )
    return OK, "it runs evenly; no tool here says how far off it is", ""


def _tool(*argv: str) -> str:
    """What a tool prints; "" if it is not there, fails or takes too long."""
    if shutil.which(argv[0]) is None:
        return ""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_TOOL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def git(project: Path) -> Iterator[Check]:
    """Whether the code of a run can be had again."""
    if shutil.which("git") is None:
        yield Check("machine", "git", WARN, "not installed: a run's record cannot name its code", "install git")
        return
    commit = _tool("git", "-C", str(project), "rev-parse", "--short", "HEAD")
    if not commit:
        advice = "git init, and commit: a run's record names the commit that it ran"
        yield Check("machine", "git", WARN, f"{project} has no commit", advice)
        return
    changed = len(_tool("git", "-C", str(project), "status", "--porcelain").splitlines())
    said = (
        f", {counted(changed, 'file')} not committed (kept with each run as code.diff)"
        if changed
        else ", all committed"
    )
    yield Check("machine", "git", OK, f"commit {commit}{said}")


def runs(project: Path) -> Iterator[Check]:
    """Runs that nobody watches any more, and trainers without one."""
    found = [status.read(one.run) for one in status.index(project) if one.ended is None]
    lost = [entry.run for entry in found if entry.state == "lost"]
    stalled = [entry.run for entry in found if entry.state == "stalled"]
    left = [entry.run for entry in found if entry.leftover]
    if left:
        advice = f"runctl stop {left[0]} ends what is left of it"
        yield Check("machine", "leftovers", BAD, f"supervisors are lost, their trainers live: {_few(left)}", advice)
    if lost:
        advice = f"runctl status {lost[0]} says since when; what it saved can be pulled"
        yield Check("machine", "lost runs", WARN, _few(lost), advice)
    if stalled:
        yield Check(
            "machine", "stalled runs", WARN, _few(stalled), f"runctl status {stalled[0]}; runctl logs {stalled[0]}"
        )
    strays = list(_strays())
    own = os.path.realpath(record.runs_root(project))
    for state, inside in ((BAD, True), (WARN, False)):
        some = [(pid, run) for pid, run in strays if (os.path.realpath(run.path.parent) == own) == inside]
        if some:
            seen = _few([f"process {pid} of {run.name if inside else run.path}" for pid, run in some])
            advice = f"if nobody needs it: kill {some[0][0]}"
            yield Check("machine", "strays", state, f"trainers without a supervisor: {seen}", advice)
    if not (left or lost or stalled or strays):
        active = sum(entry.active for entry in found)
        yield Check("machine", "runs", OK, f"{counted(len(found), 'run')}, {active} active; nothing left behind")


def _strays() -> Iterator[tuple[int, record.RunDir]]:
    """Processes of this user that were started for a run whose attempt is over: (pid, the run)."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            pairs = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        named = {key: value for key, _, value in (pair.partition(b"=") for pair in pairs) if key.startswith(b"RUNCTL_")}
        folder, attempt = named.get(b"RUNCTL_RUN_DIR"), named.get(b"RUNCTL_ATTEMPT", b"")
        if not folder or not attempt.isdigit() or int(entry.name) == os.getpid():
            continue
        run = record.RunDir(Path(os.fsdecode(folder)))
        rows = [row for row in record.read_lines(run.events) if row.get("attempt") == int(attempt)]
        supervisor = next((row.get("supervisor") for row in rows if row.get("event") == "attempt_started"), None)
        dead = evidence.life(evidence.from_json(supervisor)) in (evidence.Life.DEAD, evidence.Life.REBOOTED)
        if (dead or not run.path.is_dir()) and evidence.identify(int(entry.name)) is not None:
            yield int(entry.name), run


def _written(run: record.RunDir) -> float:
    try:
        return max(run.path.stat().st_mtime, run.run.stat().st_mtime)
    except OSError:
        return 0.0


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


LOOKS: tuple[Look, ...] = (limits, clock, git, runs)
