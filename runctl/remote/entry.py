"""The program of a provider's container: one attempt of a run, under the same supervisor as anywhere.

Imports nothing but the standard library until it runs. The run lives on the container's own disk; `Mirror` carries it
to the volume, and a commit makes that visible and lasting: after each checkpoint (the supervisor waits for it), with
every event, every few seconds for the heartbeat, and at the end, before the call has its answer.

What it answers decides who pays for what: an end that another container cannot cure is *returned*; what it can cure is
raised, and the provider starts another one, `compute.retries` times. A container that is taken back (SIGINT) or a call
that is cancelled leaves the trainer its grace, commits, and passes the interruption on.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

_TICK_SECONDS = 0.1
_WHOLE_SECONDS = 300.0  # between two times that everything is carried over, whether anybody asks for it or not
_TRIES = 3
_APPEAR_SECONDS = 20.0
_END_SECONDS = 60.0  # after which a last commit that has failed is not tried again: the container is paid for
COMMITS = "RUNCTL_COMMITS"  # the folder by which the supervisor asks for commits


class Again(Exception):
    """Raised for an end that another container may cure."""


def main(spec: dict[str, Any]) -> dict[str, Any]:
    """One container's part of a call; `spec` is the request's (`backends/modal/plan.py`)."""
    work = Path(tempfile.mkdtemp(prefix="runctl-"))
    try:
        return _Container(spec, work).live()
    finally:
        shutil.rmtree(work, ignore_errors=True)


class _Container:
    def __init__(self, spec: dict[str, Any], work: Path) -> None:
        from runctl import record
        from runctl.remote.mirror import Mirror

        self.spec, self.work = spec, work
        self.name = os.environ.get("MODAL_TASK_ID", "")
        self.began = time.monotonic()
        self.run = record.RunDir(work / "project" / "runs" / str(spec["run"]))
        self.run.path.mkdir(parents=True)
        self.mirror = Mirror(self.run.path, Path(str(spec["run_dir"])))
        self.commits = work / "commits"
        self.commits.mkdir()
        self.supervisor: subprocess.Popen[bytes] | None = None
        self.number = 0
        self.done = threading.Event()
        self.lock = threading.Lock()
        self.asked = threading.Event()
        self.printed: dict[str, int] = {}
        self.seen: tuple[int, int] = (0, 0)
        self.committed = self.carried = 0.0
        self.told = False

    def live(self) -> dict[str, Any]:
        self._fetch()
        self._settle_in()
        answer = self._take()
        if answer is not None:
            return answer
        try:
            self._commit()
            self._start()
            self._watch()
        except BaseException as error:
            self._save(error)
            raise
        return self._answer()

    # --- the attempt -------------------------------------------------------------------------------------------------

    def _fetch(self) -> None:
        """Bring the run here. What its launcher has put on the volume may show up some seconds later."""
        import modal

        from runctl import record

        end = time.monotonic() + _APPEAR_SECONDS
        while True:
            self.mirror.fetch()
            launches = [record.read_object(attempt.claim).get("launch") for attempt in self.run.attempts()]
            if self.spec["launch"] in launches or time.monotonic() >= end:
                return
            with suppress(Exception):
                modal.Volume.from_name(self.spec["volume"], environment_name=self.spec.get("environment")).reload()
            time.sleep(1.0)

    def _settle_in(self) -> None:
        """Make of the launch's record one that holds here: this Python, this project folder, the volume's dataset."""
        from runctl import record
        from runctl.backends.modal import place
        from runctl.fields import number
        from runctl.remote import program

        about, project = record.read_object(self.run.run), self.work / "project"
        config = record.content(self.run).get("config") or {}
        command = config.get("task") == "command"
        trainer = {} if command else {"command": [sys.executable, "-P", "-m", "runctl.train"]}
        if (created := number(about, "created")) is not None:  # by this clock no checkpoint is older than the run
            about["created"] = min(created, time.time())
        record.write_json(self.run.run, {**about, "project": str(project), **trainer})
        self.mirror.leave("run.json")
        if command:
            program.lay_out(project)
        encoded = config.get("data", {}).get("encoded")
        if encoded and not command:
            path, kept = project / str(encoded), Path(str(self.spec["mount"])) / place.dataset(str(encoded))
            if not path.exists() and kept.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(kept)

    def _take(self) -> dict[str, Any] | None:
        """Find the attempt that is this container's; an answer where there is none left to live."""
        from runctl import record
        from runctl.supervisor import ending

        attempts = self.run.attempts()
        claims = [record.read_object(attempt.claim).get("launch") for attempt in attempts]
        newest = next((claim for claim in reversed(claims) if claim), None)
        if newest != self.spec["launch"]:
            return self._told("failed", "another launch or resume has taken this run over")
        last = attempts[-1]
        before = record.read_object(last.container)
        if before:
            if not record.read_object(last.exit):
                gone = f"its container {before.get('container')} ended without a word"
                ending.close(self.run, last.number, 0.0, gone)
            end = record.read_object(last.exit)
            following = self._following(last.number, end) if again(end) or _lost(end) else None
            if following is None:
                self.number = last.number
                self._commit()
                return self._told(str(end.get("state") or "failed"), str(end.get("reason") or ""), end)
            last = self.run.attempt(following)
        self.number = last.number
        self._note({})
        return None

    def _following(self, number: int, end: dict[str, Any]) -> int | None:
        """Claim the attempt after one that has ended; what was taken back is not counted as a restart."""
        from runctl import record
        from runctl.supervisor import restarts
        from runctl.supervisor.failures import kind_of

        kind = kind_of(end) or "infrastructure"
        most = int(self.spec["retries"])
        outside = kind == "preemption"
        made = restarts.made(self.run)
        words = f"attempt {number} " + (f"was interrupted ({end.get('reason')})" if outside else f"{end.get('reason')}")
        count = 0 if outside else made + 1
        words += "; on another container" if outside else f"; restart {count} of {most}, on another container"
        self.run.summary.unlink(missing_ok=True)
        claimed = restarts.claim(self.run, restarts.Restart(count, most, 0.0, words), number)
        if claimed is not None:
            held = record.read_object(self.run.attempt(number).claim)
            record.write_json(self.run.attempt(claimed).claim, {**held, "launch": self.spec["launch"]})
        return claimed

    def _note(self, more: dict[str, Any]) -> None:
        """Say in the attempt which container lives it."""
        import modal

        from runctl import record
        from runctl.backends.modal import costs

        asked, gpus = self.spec["gpu"], _gpus() if self.spec["gpu"] else []
        hour = costs.given_hour(asked, gpus, self.spec.get("usd_per_hour") or {})
        with suppress(OSError):
            record.write_json(
                self.run.attempt(self.number).container,
                {
                    "schema_version": 1,
                    "container": self.name,
                    "call": modal.current_function_call_id(),
                    "time": time.time(),
                    "gpus": gpus,
                    "usd_per_hour": hour,
                    **more,
                },
            )

    def _start(self) -> None:
        """Start the supervisor, and what goes on beside it."""
        from runctl.remote.listening import Listener
        from runctl.supervisor import lease, process

        argv = [sys.executable, "-P", "-m", "runctl.supervisor", str(self.run.path), "--attempt", str(self.number)]
        env = {**os.environ, COMMITS: str(self.commits), lease.RESTARTED: "1"}
        allowed, grace = float(self.spec["timeout_seconds"]), float(self.spec["grace_seconds"])
        env[lease.ENDS] = repr(self.began + max(allowed / 2, allowed - grace - float(self.spec["save_seconds"])))
        with open(self.run.supervisor_log, "ab") as log:
            self.supervisor = subprocess.Popen(
                [*argv, "--grace", f"{grace:g}"],
                cwd=self.work / "project",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=process.importable(env),
            )
        listener = Listener(self.run, self.spec, self.done, self.asked)
        for beside in (self._keep, listener.listen):
            threading.Thread(target=beside, daemon=True, name=beside.__name__).start()

    def _watch(self) -> None:
        """Until the supervisor has ended: pass on what the trainer prints, and a request to stop."""
        assert self.supervisor is not None
        while self.supervisor.poll() is None:
            self._print()
            if self.asked.is_set():
                self.asked.clear()
                self.supervisor.terminate()
            time.sleep(_TICK_SECONDS)
        self._end()

    def _save(self, error: BaseException) -> None:
        """The container is taken back, the call cancelled, or something went wrong here: the trainer saves, within its
        grace, and what it has saved is committed."""
        from runctl import record
        from runctl.supervisor import ending

        for number in (signal.SIGINT, signal.SIGUSR1):
            with suppress(ValueError, OSError):
                signal.signal(number, signal.SIG_IGN)
        why = type(error).__name__
        if why == "InputCancellation" and not self.run.attempt(self.number).asked.exists():
            entry = {"schema_version": 1, "time": time.time(), "by": "a cancelled call"}
            with suppress(OSError):
                record.write_json(self.run.attempt(self.number).asked, entry)
        if self.supervisor is not None and self.supervisor.poll() is None:
            self.supervisor.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.supervisor.wait(float(self.spec["grace_seconds"]) + 2.0)
            if self.supervisor.poll() is None:
                self.supervisor.kill()
                self.supervisor.wait()
        if self.supervisor is not None:
            ending.close(self.run, self.run.attempts()[-1].number, 0.0, f"its container was ended ({why})")
        self._end()

    def _end(self) -> None:
        """The last words, and the last commit: before the call has its answer, since nobody waits for what comes
        after it."""
        self.done.set()
        self._print()
        self.number = self.run.attempts()[-1].number
        begun = time.monotonic()
        for number in range(_TRIES):
            try:
                self._commit()
                return
            except Exception as error:
                print(
                    f"the run could not be committed ({number + 1} of {_TRIES}): {error}", file=sys.stderr, flush=True
                )
                if time.monotonic() - begun > _END_SECONDS:
                    return
                time.sleep(number + 1.0)

    def _answer(self) -> dict[str, Any]:
        from runctl import record
        from runctl.supervisor import ending

        attempt = self.run.attempt(self.number)
        if not record.read_object(attempt.exit):
            assert self.supervisor is not None
            ending.close(self.run, self.number, 0.0, f"its supervisor ended with {self.supervisor.returncode}")
            self._end()
        end = record.read_object(attempt.exit)
        if again(end) or _lost(end):
            raise Again(f"attempt {self.number} {end.get('state')}: {end.get('reason')}")
        return self._told(str(end.get("state")), str(end.get("reason") or ""), end)

    def _told(self, state: str, reason: str, end: dict[str, Any] | None = None) -> dict[str, Any]:
        """The call's answer: plain data, so that no client has to unpack anything of ours."""
        step = (end or {}).get("step")
        return {
            "schema_version": 1,
            "run": self.spec["run"],
            "state": state,
            "reason": reason,
            "attempt": self.number,
            "step": step,
            "container": self.name,
        }

    # --- beside it ---------------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        """Commit what the supervisor asks for and waits for, what has happened, and the heartbeat every few seconds."""
        while not self.done.wait(_TICK_SECONDS):
            wanted = sorted(self.commits.glob("asked-*"))
            happened = _sign(self.run.events)
            now = time.monotonic()
            due = now - self.committed >= float(self.spec["beat_seconds"])
            if not wanted and not due and happened == self.seen:
                continue
            try:
                self._commit(whole=bool(wanted) or now - self.carried >= _WHOLE_SECONDS)
                said = ""
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
                self.committed = time.monotonic()
            self.seen = happened
            for one in wanted:
                answer = self.commits / f".{one.name}"
                answer.write_text(json.dumps({"error": said}))
                one.unlink(missing_ok=True)
                os.replace(answer, self.commits / one.name.replace("asked", "done"))

    def _commit(self, *, whole: bool = True) -> None:
        import modal

        from runctl.remote import program

        with self.lock:
            self.mirror.carry(whole=whole)
            modal.Volume.from_name(self.spec["volume"], environment_name=self.spec.get("environment")).commit()
            self.committed = time.monotonic()
            self.carried = self.committed if whole else self.carried
        self.told = self.told or program.warn(self.run)

    def _print(self) -> None:
        """What the trainer has written since, to this container's output, without secrets."""
        from runctl.masking import known, library, spans

        for attempt in self.run.attempts()[-2:]:
            if attempt.number < self.number:
                continue
            begin = self.printed.get(str(attempt.log), 0)
            try:
                with open(attempt.log, "rb") as file:
                    file.seek(begin)
                    data = file.read(1 << 20)
            except OSError:
                continue
            cut = data.rfind(b"\n") + 1
            if cut:
                self.printed[str(attempt.log)] = begin + cut
                text = data[:cut].decode(errors="replace")
                sys.stdout.write(spans.hidden(text, known.of_environment(), library.detectors))
                sys.stdout.flush()


def again(end: dict[str, Any]) -> bool:
    """Whether an attempt ended in a way that another container may cure: its failure's class says so, it was taken
    back, or its time on this one was over."""
    from runctl.supervisor.failures import kind_of
    from runctl.supervisor.lease import TIMED_OUT

    failure = end.get("failure")
    if end.get("state") == "failed" and isinstance(failure, dict) and failure.get("again") is True:
        return True
    timed_out = end.get("state") == "failed" and str(end.get("reason")).startswith(TIMED_OUT)
    return kind_of(end) == "preemption" or timed_out


def curable(end: dict[str, Any]) -> bool:
    """Whether the provider starts another container after such an end."""
    return again(end) or _lost(end)


def _lost(end: dict[str, Any]) -> bool:
    """Whether an attempt went down with its machine."""
    from runctl.supervisor.verdict import SUPERVISOR_LOST

    return end.get("state") == "failed" and str(end.get("reason")).startswith(SUPERVISOR_LOST)


def _gpus() -> list[str]:
    """What nvidia-smi says is here: the provider may give a better GPU than was asked for."""
    argv = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True).stdout
        return [line.strip() for line in said.splitlines() if line.strip()]
    return []


def _sign(path: Path) -> tuple[int, int]:
    with suppress(OSError):
        status = path.stat()
        return status.st_size, status.st_mtime_ns
    return 0, 0
