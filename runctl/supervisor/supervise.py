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

from runctl import evidence, fields, record
from runctl.supervisor import changing, ending, failures, hang, kills, lease, process, restarts, room, starting, summary
from runctl.supervisor.events import Events, hold, say, sign, taken
from runctl.supervisor.guarding import Guarding
from runctl.supervisor.verdict import Stop, Verdict, judge, of_signal
from runctl.supervisor.watchers import Scene, Watchers

GRACE_SECONDS = 60.0
_TICK_SECONDS = 0.25
_COMMAND_START_SECONDS = 2.0  # after which a program that says nothing counts as begun
_WATCHED_START_SECONDS = 60.0  # and one whose progress is to be read from its output
_LOCK_WAIT_SECONDS = 5.0


def supervise(
    run: record.RunDir,
    number: int,
    grace_seconds: float = GRACE_SECONDS,
    backoff_seconds: float = restarts.BACKOFF_SECONDS,
) -> int:
    """Run attempt `number` to its end, and those that follow it by `compute.retries`. Returns 0 once the end is on
    record, 1 if the run is another's."""
    lock = hold(run, _LOCK_WAIT_SECONDS)
    if lock is None:
        say(f"{run.name} has another supervisor; attempt {number} was not started")
        return 1
    try:
        if why := taken(run, number):
            say(why)
            return 1
        sign(lock)
        for earlier in run.attempts():
            if earlier.number < number:
                ending.close(run, earlier.number, grace_seconds)
        attempt: _Attempt | None = _Attempt(run, number, grace_seconds)
        while attempt is not None:
            attempt = attempt.live(backoff_seconds)
        return 0
    finally:
        os.close(lock)


def close(run: record.RunDir, number: int, grace_seconds: float = GRACE_SECONDS) -> int:
    """End what a lost supervisor left of attempt `number`, and write its exit and summary.
    Does nothing while another supervisor holds the run, or if the attempt has its record."""
    lock = hold(run, 0.0)
    if lock is None:
        return 1
    try:
        return 0 if ending.close(run, number, grace_seconds) else 1
    finally:
        os.close(lock)


class _Attempt:
    """The state of a living attempt."""

    def __init__(self, run: record.RunDir, number: int, grace_seconds: float, earlier: _Attempt | None = None) -> None:
        self.earlier = earlier
        self.run = run
        self.number = number
        self.files = run.attempt(number)
        self.grace_seconds = grace_seconds
        self.events = Events(run, number)
        self.record = record.content(run, number)
        config = self.record.get("config")
        self.config: dict[str, Any] = config if isinstance(config, dict) else {}
        self.command = self.config.get("task") == "command"
        watched = (self.config.get("command") or {}).get("progress")
        self.begins_after = _WATCHED_START_SECONDS if watched else _COMMAND_START_SECONDS
        self.start = record.read_object(self.files.start)
        restart, begin = self.start.get("restart"), self.start.get("from_step")
        self.restart: dict[str, Any] = restart if isinstance(restart, dict) else {}
        self.base_step = begin if isinstance(begin, int) else 0
        self.started = time.time()
        self.clock = time.monotonic()
        self.spent_before = summary.spent_seconds(run)
        self.guarding = Guarding(run, number, self.record, self.spent_before, self.events)
        self.watchers = Watchers(Scene(run, number, self.record, self.events))
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
        self.memory_kills = kills.memory_kills()

    def live(self, backoff_seconds: float) -> _Attempt | None:
        """From the first event to the exit record; returns the attempt that follows by itself."""
        waker = self._take_signals()
        if self.earlier is not None:  # a signal that came between the two
            self.signal, self.earlier = self.signal or self.earlier.signal, None
        self.files.path.mkdir(parents=True, exist_ok=True)
        self.run.summary.unlink(missing_ok=True)
        own = evidence.identify()
        begun = self.events.add(
            "attempt_started",
            supervisor=own.to_json() if own else None,
            from_step=self.base_step,
            host=os.uname().nodename,
        )
        if self.start.get("changes"):
            self.events.add("changed", **changing.told(self.run, self.number, self.start))
        try:
            room.reserve(self.files.path)
        except OSError as error:
            begun = error
        if begun is None and not self._pause(waker):
            self._asked()
            verdict, returncode = judge(None, None, command=True, stop=self.stop), None
        elif begun is None:
            verdict, returncode = self._train(waker)
        else:  # what could not be watched on the record is not started
            why = room.full(self.run.path) or f"cannot write into {self.run.path}: {begun.strerror or begun}"
            verdict, returncode = Verdict("failed", why), None
        room.release(self.files.path)
        if _size(self.files.stacks) == 0:
            self.files.stacks.unlink(missing_ok=True)
        result = record.read_json(self.files.result)
        failure = self._failure(verdict, returncode, result)
        following = self._following(failure, backoff_seconds)
        seconds = time.monotonic() - self.clock
        ending.write(
            self.run, self.number, verdict, failure, returncode, result, self.started, seconds, following, self.events
        )
        self.watchers.closed()
        return None if following is None else _Attempt(self.run, following, self.grace_seconds, self)

    def _failure(self, verdict: Verdict, returncode: int | None, result: Any) -> failures.Failure | None:
        return failures.classify(
            verdict.state,
            returncode=returncode,
            error=ending.error_of(result),
            tail=ending.tail(self.files.log),
            stopped_for=self.stop.kind if self.stop else None,
            reason=verdict.reason,
            no_room=self.no_room,
            memory_kills=kills.since(self.memory_kills),
        )

    def _following(self, failure: failures.Failure | None, backoff_seconds: float) -> int | None:
        """Claim the attempt that follows a failure by itself; None if there is none."""
        if self.signal is not None:
            return None
        accepted = record.carried(self.run).get("accepted")
        if (smaller := changing.smaller(failure, self.config, self.number, accepted)) is not None:
            return restarts.claim(self.run, smaller[0], self.number, smaller[1])
        most = restarts.most(self.config)
        planned = restarts.plan(
            failure,
            attempt=self.number,
            made=restarts.made(self.run),
            most=most,
            backoff_seconds=backoff_seconds,
        )
        return None if planned is None else restarts.claim(self.run, planned, self.number)

    def _pause(self, waker: int) -> bool:
        """Wait before a restart; its time is no part of the attempt. False if a stop was asked for meanwhile."""
        if not self.restart:
            return True
        self.events.add("restart", reason=self.restart.get("words"))
        until = self.clock + min(fields.number(self.restart, "wait_seconds") or 0.0, restarts.MOST_SECONDS)
        while self.signal is None and (left := until - time.monotonic()) > 0:
            select.select([waker], [], [], left)
            _drain(waker)
        self.started, self.clock = time.time(), time.monotonic()
        return self.signal is None

    def _train(self, waker: int) -> tuple[Verdict, int | None]:
        try:
            argv, cwd, env = self._request()
        except ValueError as error:
            return Verdict("failed", str(error)), None
        try:
            trainer = process.start(
                argv, cwd=cwd, env=env, log=self.files.log, umask=process.outer_umask if self.command else -1
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            why = (
                process.cannot_start(error, argv[0], cwd, env) if self.command else f"cannot start the trainer: {error}"
            )
            return Verdict("failed", room.full(self.run.path) or why), None
        identity = evidence.identify(trainer.pid)
        self.events.add("trainer_started", trainer=identity.to_json() if identity else None, group=trainer.pid)
        silence = hang.Silence(hang.limits(self.config), command=self.command)
        while trainer.poll() is None:
            known = self.heartbeat_stamp
            self._look()
            silence.look(new=self.heartbeat_stamp != known, stepped=self.seen_first_step)
            self.no_room = room.full(self.run.path)
            self._limits()
            self.watchers.look(time.monotonic() - self.clock)
            self._hanging(trainer, silence)
            self._stopping(trainer)
            select.select([waker], [], [], _TICK_SECONDS)
            _drain(waker)
        self._linger(trainer)
        self._look()
        self.watchers.orphaned(trainer.pid)
        process.end_group(trainer.pid)
        if self.stop is None:  # what came with the last rows is only told: there is nothing left to end
            self.guarding.tell_last(self.heartbeat, time.monotonic() - self.clock, self.seen_first_step)
        self.guarding.end()
        self.watchers.end()
        result, code = record.read_json(self.files.result), trainer.returncode
        verdict = judge(
            result,
            code,
            command=self.command,
            stop=self.stop,
            forced=self.forced,
            last_line=ending.last_line(self.files.log),
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
            "RUNCTL_STACKS": str(self.files.stacks),
        }
        if not self.command:
            return [*argv, str(self.run.path), "--attempt", str(self.number)], project, process.importable(env)
        return starting.request(self.run, self.number, self.record, env)

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
            self.calibrated = ending.calibrate(self.run, self.number)  # the first steps; at the end all of them
        if self.command and not self.seen_first_step and time.monotonic() - self.clock >= self.begins_after:
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
        """Turn a signal, the timeout or a guard (the budget's among them) into a request to stop."""
        if self.stop is not None:
            return
        seconds = time.monotonic() - self.clock
        if self.signal is not None:
            self._asked()
        elif why := lease.over(self.config, seconds):
            self.stop = Stop("timeout", why)
        else:
            self.stop = self.guarding.look(self.heartbeat, seconds, self.seen_first_step)

    def _asked(self) -> None:
        self.stop = of_signal(self.signal or signal.SIGTERM, record.read_json(self.files.asked))

    def _hanging(self, trainer: subprocess.Popen[bytes], silence: hang.Silence) -> None:
        """Turn a silence that is too long into a request to stop, once it is written down where the trainer stands."""
        if self.stop is None and (words := silence.hung(self.heartbeat, self.seen_first_step)):
            where = hang.dump(self.files, trainer.pid, self.heartbeat, words)
            self.stop = Stop("hang", f"{words}; {where}")

    def _stopping(self, trainer: subprocess.Popen[bytes]) -> None:
        """Ask the trainer to save and end; kill its group when the grace period is over."""
        if self.stop is None or self.forced:
            return
        if self.kill_at is None:
            self.kill_at = time.monotonic() + (0.0 if self.stop.at_once else self.grace_seconds)
            self.events.add("stop_requested", kind=self.stop.kind, reason=self.stop.reason)
            if self.stop.at_once:
                self._stopping(trainer)
                return
            if self.command:
                process.signal_group(trainer.pid, signal.SIGTERM)  # a wrapper script does not pass it on
            else:
                trainer.terminate()
        elif time.monotonic() >= self.kill_at:
            self.forced = True
            self.events.add("signal", number=int(signal.SIGKILL), to="process group", pid=trainer.pid)
            process.signal_group(trainer.pid, signal.SIGKILL)
            return
        hang.wake(trainer.pid)  # a stopped process takes no signal until it runs again

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


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 4096):
            pass
    except BlockingIOError:
        pass
