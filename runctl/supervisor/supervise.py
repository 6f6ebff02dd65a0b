"""Own one attempt: start the trainer, watch it, stop it when asked, end it whole, and write down how it went.

Why a separate process: it outlives the terminal, and it must be able to say that the trainer hangs or was killed,
which the trainer itself cannot. It imports no torch and reads a few small files four times a second.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from pathlib import Path
from types import FrameType
from typing import Any

import runctl
from runctl import evidence, fields, record
from runctl.estimate import accounting
from runctl.supervisor import process, room, summary
from runctl.supervisor.events import Events, hold, say
from runctl.supervisor.verdict import Stop, Verdict, judge, judge_lost
from runctl.units import format_duration

GRACE_SECONDS = 60.0
_TICK_SECONDS = 0.25
_COMMAND_START_SECONDS = 2.0
_LOCK_WAIT_SECONDS = 5.0


def supervise(run: record.RunDir, number: int, grace_seconds: float = GRACE_SECONDS) -> int:
    """Run attempt `number` to its end. Returns 0 once the end is on record, 1 if the run is another's."""
    lock = hold(run, _LOCK_WAIT_SECONDS)
    if lock is None:
        say(f"{run.name} has another supervisor; attempt {number} was not started")
        return 1
    try:
        for earlier in run.attempts():
            if earlier.number < number:
                _close(run, earlier.number, grace_seconds)
        return _Attempt(run, number, grace_seconds).live()
    finally:
        os.close(lock)


def close(run: record.RunDir, number: int, grace_seconds: float = GRACE_SECONDS) -> int:
    """End what a lost supervisor left of attempt `number`, and write its exit and summary.
    Does nothing while another supervisor holds the run, or if the attempt has its record."""
    lock = hold(run, 0.0)
    if lock is None:
        return 1
    try:
        return 0 if _close(run, number, grace_seconds) else 1
    finally:
        os.close(lock)


def _close(run: record.RunDir, number: int, grace_seconds: float) -> bool:
    """Write the end of an attempt whose supervisor did not, once nothing of it lives. False: it may still live."""
    attempt = run.attempt(number)
    if isinstance(record.read_json(attempt.exit), dict):
        return True
    rows = [row for row in record.read_lines(run.events) if row.get("attempt") == number]
    trainer = _identity(rows, "trainer_started", "trainer")
    supervisor = _identity(rows, "attempt_started", "supervisor")
    life = evidence.life(supervisor)
    if life not in (evidence.Life.DEAD, evidence.Life.REBOOTED):
        return False
    if trainer is not None and life is evidence.Life.DEAD:
        _end_leftover(trainer, supervisor.pid if supervisor else None, grace_seconds)
    result, beat = record.read_json(attempt.result), record.read_json(attempt.heartbeat)
    asked = any(row.get("event") == "stop_requested" for row in rows)
    verdict = judge_lost(result, stop_requested=asked, rebooted=life is evidence.Life.REBOOTED)
    now = time.time()
    signs = [sign for sign in (fields.number(source, "time") for source in (*rows, beat)) if sign is not None]
    times = [sign for sign in signs if 0 < sign <= now] or [now]
    _write_end(run, number, verdict, None, result, times[0], max(times) - times[0])
    return True


class _Attempt:
    """The state of a living attempt."""

    def __init__(self, run: record.RunDir, number: int, grace_seconds: float) -> None:
        self.run = run
        self.number = number
        self.files = run.attempt(number)
        self.grace_seconds = grace_seconds
        self.events = Events(run, number)
        self.record = record.read_object(run.run)
        config = self.record.get("config")
        self.config: dict[str, Any] = config if isinstance(config, dict) else {}
        self.command = self.config.get("task") == "command"
        begin = record.read_object(self.files.start).get("from_step")
        self.base_step = begin if isinstance(begin, int) else 0
        self.started = time.time()
        self.clock = time.monotonic()
        self.spent_before = summary.spent_seconds(run)
        self.signal: int | None = None
        self.stop: Stop | None = None
        self.kill_at: float | None = None
        self.forced = False
        self.seen_first_step = False
        self.heartbeat: dict[str, Any] = {}
        self.heartbeat_stamp = 0
        self.checkpoint_step: int | None = None
        self.calibrated = False
        self.no_room = ""

    def live(self) -> int:
        waker = self._take_signals()
        self.files.path.mkdir(parents=True, exist_ok=True)
        self.run.summary.unlink(missing_ok=True)
        own = evidence.identify()
        begun = self.events.add(
            "attempt_started",
            supervisor=own.to_json() if own else None,
            from_step=self.base_step,
            host=os.uname().nodename,
        )
        try:
            room.reserve(self.files.path)
        except OSError as error:
            begun = error
        if begun is None:
            verdict, returncode = self._train(waker)
        else:  # what could not be watched on the record is not started
            why = room.full(self.run.path) or f"cannot write into {self.run.path}: {begun.strerror or begun}"
            verdict, returncode = Verdict("failed", why), None
        room.release(self.files.path)
        result = record.read_json(self.files.result)
        _write_end(self.run, self.number, verdict, returncode, result, self.started, time.monotonic() - self.clock)
        return 0

    def _train(self, waker: int) -> tuple[Verdict, int | None]:
        try:
            argv, cwd, env = self._request()
        except ValueError as error:
            return Verdict("failed", str(error)), None
        try:
            trainer = process.start(argv, cwd=cwd, env=env, log=self.files.log)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            why = (
                process.cannot_start(error, argv[0], cwd, env) if self.command else f"cannot start the trainer: {error}"
            )
            return Verdict("failed", room.full(self.run.path) or why), None
        identity = evidence.identify(trainer.pid)
        self.events.add("trainer_started", trainer=identity.to_json() if identity else None, group=trainer.pid)
        while trainer.poll() is None:
            self._look()
            self.no_room = room.full(self.run.path)
            self._limits()
            self._stopping(trainer)
            select.select([waker], [], [], _TICK_SECONDS)
            _drain(waker)
        self._linger(trainer)
        self._look()
        process.end_group(trainer.pid)
        result, code = record.read_json(self.files.result), trainer.returncode
        verdict = judge(
            result,
            code,
            command=self.command,
            stop=self.stop,
            forced=self.forced,
            last_line=last_line(self.files.log),
            no_room=room.full(self.run.path) or self.no_room,
        )
        if verdict.state == "succeeded" and not self.seen_first_step:
            self._first_step()
        return verdict, code

    def _request(self) -> tuple[list[str], Path, dict[str, str]]:
        """What to start, where, and in which environment."""
        argv = [str(part) for part in self.record.get("command") or []]
        if not argv:
            raise ValueError(f"run.json names no command: {record.damage(self.run.run) or 'launch the run again'}")
        project = Path(str(self.record.get("project") or Path.cwd()))
        env = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "RUNCTL_RUN_DIR": str(self.run.path),
            "RUNCTL_ATTEMPT": str(self.number),
            "RUNCTL_HEARTBEAT": str(self.files.heartbeat),
        }
        if not self.command:
            return [*argv, str(self.run.path), "--attempt", str(self.number)], project, importable(env)
        section = self.config.get("command") or {}
        return argv, project / (section.get("cwd") or "."), env | (section.get("env") or {})

    def _look(self) -> None:
        """Read the heartbeat if it is new; note the first step and new checkpoints."""
        try:
            stamp = self.files.heartbeat.stat().st_mtime_ns
        except OSError:
            stamp = 0
        if stamp and stamp != self.heartbeat_stamp:
            found = record.read_json(self.files.heartbeat)
            if isinstance(found, dict):
                self.heartbeat_stamp, self.heartbeat = stamp, found
                self._read_heartbeat()
        if not self.calibrated and self.files.measured.exists():
            self.calibrated = _calibrate(self.run, self.number)  # the first steps; at the end all of them
        if self.command and not self.seen_first_step and time.monotonic() - self.clock >= _COMMAND_START_SECONDS:
            self._first_step()

    def _read_heartbeat(self) -> None:
        step, checkpoint = self.heartbeat.get("step"), self.heartbeat.get("checkpoint")
        trained = self.heartbeat.get("phase") not in ("loading", "ending")
        if isinstance(step, int) and trained and not self.seen_first_step:
            if step > self.base_step or self.command:
                self._first_step()
            self.base_step = min(self.base_step, step)  # a resume may fall back to an older checkpoint
        at = checkpoint.get("step") if isinstance(checkpoint, dict) else None
        if isinstance(at, int) and at != self.checkpoint_step:
            self.checkpoint_step = at
            if at > self.base_step and not self.seen_first_step:
                self._first_step()  # a short run may be at its end before the first look
            saved_at = fields.number(checkpoint, "time")
            if saved_at is None or saved_at >= self.started:  # not the one that was resumed from
                self.events.add("checkpoint", step=at)

    def _first_step(self) -> None:
        self.seen_first_step = True
        self.events.add("first_step", step=self.heartbeat.get("step"), heartbeat_time=self.heartbeat.get("time"))

    def _limits(self) -> None:
        """Turn a signal, the timeout or the budget into a request to stop."""
        if self.stop is not None:
            return
        seconds = time.monotonic() - self.clock
        timeout = (self.config.get("compute") or {}).get("timeout")
        hours = (self.config.get("budget") or {}).get("max_hours")
        if self.signal is not None:
            self.stop = Stop("asked", f"stopped on request ({signal.Signals(self.signal).name})")
        elif timeout is not None and seconds >= timeout:
            self.stop = Stop("timeout", f"timed out: compute.timeout of {format_duration(timeout)} is over")
        elif hours is not None and self.spent_before + seconds >= hours * 3600:
            self.stop = Stop("budget", f"budget.max_hours of {hours:g} h is used up, all attempts together")

    def _stopping(self, trainer: subprocess.Popen[bytes]) -> None:
        """Ask the trainer to save and end; kill its group when the grace period is over."""
        if self.stop is None or self.forced:
            return
        if self.kill_at is None:
            self.kill_at = time.monotonic() + self.grace_seconds
            self.events.add("stop_requested", kind=self.stop.kind, reason=self.stop.reason)
            if self.command:
                process.signal_group(trainer.pid, signal.SIGTERM)  # a wrapper script does not pass it on
            else:
                trainer.terminate()
        elif time.monotonic() >= self.kill_at:
            self.forced = True
            self.events.add("signal", number=int(signal.SIGKILL), to="process group", pid=trainer.pid)
            process.signal_group(trainer.pid, signal.SIGKILL)

    def _linger(self, trainer: subprocess.Popen[bytes]) -> None:
        """A wrapper that was asked to stop is gone before the program in it has saved: leave that its grace."""
        while self.command and self.kill_at is not None and not self.forced and evidence.members(trainer.pid):
            self._look()
            self._stopping(trainer)
            time.sleep(_TICK_SECONDS)

    def _take_signals(self) -> int:
        """Handle signals by waking the loop; returns the descriptor to wait on."""

        def on_stop(number: int, frame: FrameType | None) -> None:
            self.signal = self.signal or number

        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, on_stop)
        signal.signal(signal.SIGINT, on_stop)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return reader


def importable(env: dict[str, str]) -> dict[str, str]:
    """The environment in which runctl's own Python finds this very runctl, also from a checkout."""
    home = Path(runctl.__file__).resolve().parent.parent
    if home.name in ("site-packages", "dist-packages"):
        return env
    paths = [str(home), *filter(None, [env.get("PYTHONPATH")])]
    return env | {"PYTHONPATH": os.pathsep.join(paths)}


def last_line(log: Path, limit: int = 300) -> str:
    """The last line of a log that says something, for the reason of a failure."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 4096))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    except OSError:
        return ""
    return next((line[:limit] for line in reversed(lines) if line), "")


def _write_end(
    run: record.RunDir,
    number: int,
    verdict: Verdict,
    returncode: int | None,
    result: Any,
    started: float,
    seconds: float,
) -> None:
    """exit.json, the last event and summary.json, in this order: the first one alone decides."""
    ended = started + seconds
    attempt = run.attempt(number)
    heartbeat = record.read_json(attempt.heartbeat)
    entry = summary.exit_record(
        verdict,
        returncode=returncode,
        heartbeat=heartbeat,
        result=result,
        started=started,
        ended=ended,
        seconds=seconds,
        checkpoint=summary.newest_checkpoint(run),
    )
    try:
        record.write_json(attempt.exit, entry)
    except OSError as error:
        say(f"cannot write {attempt.exit}: {error}")
    Events(run, number).add(
        "attempt_ended", state=verdict.state, reason=verdict.reason, exit_code=entry["exit_code"], step=entry["step"]
    )
    _calibrate(run, number)
    try:
        record.write_json(run.summary, summary.build(run, verdict, ended))
    except (OSError, ValueError) as error:
        say(f"cannot write {run.summary}: {error}")


def _calibrate(run: record.RunDir, number: int) -> bool:
    """Hand what the trainer measured on to later estimates; what cannot be kept is said in the supervisor's log."""
    project = record.read_object(run.run).get("project")
    try:
        return isinstance(project, str) and accounting.hand_on(run, number, Path(project))
    except OSError as error:
        say(f"the calibration was not kept: {error}")
        return True


def _end_leftover(trainer: evidence.Identity, session: int | None, grace_seconds: float) -> None:
    """SIGTERM to an orphaned trainer, then SIGKILL to its group once the grace period is over."""
    deadline = time.monotonic() + grace_seconds
    evidence.send(trainer, signal.SIGTERM)
    while evidence.group_life(trainer, session) is evidence.Life.ALIVE:
        if evidence.life(trainer) is evidence.Life.DEAD or time.monotonic() >= deadline:
            for pid in evidence.members(trainer.pid, session):
                found = evidence.identify(pid)
                if found:
                    evidence.send(found, signal.SIGKILL)
        time.sleep(0.1)


def _identity(rows: list[dict[str, Any]], event: str, key: str) -> evidence.Identity | None:
    return next((evidence.from_json(row.get(key)) for row in rows if row.get("event") == event), None)


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 4096):
            pass
    except BlockingIOError:
        pass
