"""The process above those that share a run: starts them by torchrun, passes signals on, and says why they ended.

Torchrun (its own `run`, in this process) gives each of them its rank and the store at which they meet, sees within a
tenth of a second that one has ended, and ends the others: by SIGTERM, after ENDING_SECONDS by SIGKILL. What runctl
adds is what torchrun would do otherwise:

- a request to stop goes to all at once and without a deadline of its own: the supervisor's grace holds for the save;
- the word on the run is its record: one that has its `result.json` has ended so, whatever a process did in its
  teardown (gloo is known to abort there). A failure is that of the process that failed first by itself, not of those
  that only lost their peer; of one that was killed, its signal.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

from runctl import fields, record
from runctl.train import presence
from runctl.train.heartbeat import Heartbeat
from runctl.train.say import say

ENDING_SECONDS = 5
_LOOK_SECONDS = 0.1
_PR_SET_PDEATHSIG = 1


def lead(run: record.RunDir, number: int, size: int, threads: int | None) -> NoReturn:
    """Run an attempt in `size` processes, each started as this one was, and leave with the attempt's exit code.
    `threads` is the number of CPU threads that each has."""
    attempt = run.attempt(number)
    heartbeat = Heartbeat(attempt)
    heartbeat.phase("loading", f"starting {size} processes")
    for stale in attempt.ranks.glob("*"):
        stale.unlink(missing_ok=True)
    messenger = _Messenger(attempt)
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args
    from torch.distributed.run import run as torchrun

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # who failed, and why, is said below
    ended: dict[int, tuple[int, int]] = {}
    error: dict[str, Any] | None = None
    threads = threads or max(1, len(os.sched_getaffinity(0)) // size)
    os.environ |= {presence.RANKS: str(size), "OMP_NUM_THREADS": str(threads)}
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # one machine; its name need not resolve
    given = f"--standalone --local-addr 127.0.0.1 --nproc-per-node {size} --max-restarts 0 --monitor-interval 0.1"
    given += f" --shutdown-timeout {ENDING_SECONDS} --signals-to-handle SIGQUIT --no-python"
    messenger.start()
    try:
        if not messenger.stopping:
            torchrun(parse_args([*given.split(), sys.executable, *sys.orig_argv[1:]]))
    except ChildFailedError as failed:
        ended = {rank: (one.pid, one.exitcode) for rank, one in failed.failures.items()}
    except Exception as failed:
        error = {"type": type(failed).__name__, "message": f"torchrun: {failed}".splitlines()[0], "hint": None}
    os._exit(settle(attempt, ended, error, stopped=messenger.stopping))


def settle(
    attempt: record.Attempt,
    ended: Mapping[int, tuple[int, int]],
    error: dict[str, Any] | None,
    *,
    stopped: str,
) -> int:
    """Write result.json where the first process could not, and return the exit code. `ended`: the pid and exit code
    of each rank that torchrun saw fail; `stopped`: the signal by which an end was asked for, if any."""
    if fields.text(record.read_object(attempt.result), "outcome") is not None:
        return 0
    told = presence.failures(attempt)
    speaking = {one["rank"] for one in told}
    silent = [rank for rank, (_, code) in sorted(ended.items()) if code and rank not in speaking]
    code = 1
    if told and (not told[0].get("second") or not silent):
        error = _of_rank(told)
    elif silent:
        pid, code = ended[silent[0]]
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code} without a word"
        code = 128 - code if code < 0 else code
        error = _lost(f"rank {silent[0]} (process {pid}) {how}")
    elif error is None and not stopped:
        error = _lost("the processes ended without a result")
    beat = record.read_object(attempt.heartbeat)
    result: dict[str, Any] = {
        "schema_version": record.SCHEMA_VERSION,
        "outcome": "failed" if error else "stopped",
        "step": fields.whole(beat, "step") or 0,
        "total_steps": fields.whole(beat, "total_steps"),
        "error": error,
        "signal": None if error else stopped,
        "metrics": {},
        "notes": [],
        "ended": time.time(),
    }
    try:
        record.write_json(attempt.result, result)
    except OSError as refused:
        cause = error["message"] if error else "the run was stopped"
        say(f"error: {cause}; result.json could not be written: {refused.strerror or refused}")
        return code
    return code if error else 0


def _lost(message: str) -> dict[str, Any]:
    say(f"error: {message}")
    hint = "the other processes were ended; the last whole checkpoint is kept"
    return {"type": "RankLost", "message": message, "hint": hint, "where": None}


def follow_parent() -> None:
    """In a process that the leader has started: SIGTERM should the leader die (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _of_rank(told: list[dict[str, Any]]) -> dict[str, Any]:
    """The first failure, with its rank unless all processes tell the same."""
    error = dict(told[0]["error"])
    same = [one for one in told if one["error"].get("message") == error.get("message")]
    if len(same) < max(2, len(told)):
        error["message"] = f"rank {told[0]['rank']}: {error.get('message')}"
    return error


class _Messenger:
    """Passes signals on to the processes, each once and as soon as it has shown itself: from a thread, since torchrun
    waits in the main one."""

    def __init__(self, attempt: record.Attempt) -> None:
        self.stopping = ""
        self._attempt = attempt
        self._saves = 0
        self._told: set[int] = set()
        self._number = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGUSR1, self._save)

    def start(self) -> None:
        threading.Thread(target=self._work, name="signals", daemon=True).start()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping, self._number = signal.Signals(number).name, number

    def _save(self, number: int, frame: FrameType | None) -> None:
        self._saves += 1

    def _work(self) -> None:
        parent, sent = os.getppid(), 0
        since: float | None = None
        while True:
            time.sleep(_LOOK_SECONDS)
            if os.getppid() != parent and not self.stopping:
                self.stopping, self._number = "SIGTERM", int(signal.SIGTERM)
            there = presence.standing(self._attempt)
            living = {one.rank: one.pid for one in there if _lives(one.pid)}
            if self.stopping:
                for pid in set(living.values()) - self._told:
                    self._told.add(pid)
                    _send(pid, self._number)
                    _send(pid, signal.SIGCONT)  # a stopped process takes no signal until it runs again
            if self._saves > sent and 0 in living:
                sent += 1
                _send(living[0], signal.SIGUSR1)
            gone = bool(there) and 0 not in living
            since = (since or time.monotonic()) if gone and living else None
            if since is not None and time.monotonic() - since > ENDING_SECONDS:
                for pid in living.values():  # the first process has ended, and with it the run
                    _send(pid, signal.SIGKILL)


def _lives(child: int) -> bool:
    """Whether a process is a child of this one and has not ended; torchrun is the one who reaps it."""
    try:
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
