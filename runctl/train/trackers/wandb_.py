"""Weights & Biases as a guest: the only module that imports wandb.

Everything that touches wandb happens in one thread, fed through a queue. So neither a slow login, a hanging
network nor a crash of its service can hold a training step or end the run; what went wrong is in `status()`.
Nothing is sent but the metrics and the effective config: no code, no console output, no command line, no
environment, no machine data. A config's `command` section may hold secrets in `env` and stays here.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import threading
import time
from typing import Any

from runctl import record
from runctl.config import RunConfig
from runctl.train.say import warn

QUEUED_ROWS = 10_000
STUCK_SECONDS = 120.0


class Wandb:
    """One wandb run, named after the run; an attempt continues it."""

    def __init__(self, config: RunConfig, effective: dict[str, Any], run: record.RunDir) -> None:
        self._mode = config.tracking.wandb
        self._tracking, self._run = config.tracking, run
        self._config = {key: value for key, value in effective.items() if key != "command"}
        self._rows: queue.Queue[dict[str, Any] | None] = queue.Queue(QUEUED_ROWS)
        self._failure: str | None = None
        self._outcome = ""
        self._busy_since: float | None = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)
        self._thread.start()

    def log(self, row: dict[str, Any]) -> None:
        if self._failure is not None:
            return
        try:
            self._rows.put_nowait(row)
        except queue.Full:
            self._fail(f"it takes no rows: {QUEUED_ROWS} are waiting")

    def status(self) -> str:
        since = self._busy_since
        if self._failure is None and since is not None and time.monotonic() - since > STUCK_SECONDS:
            return f"failed: no answer for {time.monotonic() - since:.0f} s"
        return self._mode if self._failure is None else f"failed: {self._failure}"

    def finish(self, outcome: str, timeout: float) -> None:
        self._outcome = outcome
        if self._failure is None:
            try:
                self._rows.put_nowait(None)
            except queue.Full:
                return
        self._thread.join(timeout)

    def _work(self) -> None:
        try:
            remote = self._open()
            self._busy_since = None
            while (row := self._rows.get()) is not None:
                self._busy_since = time.monotonic()
                remote.log({name: value for name, value in row.items() if value is not None})
                self._busy_since = None
            remote.finish(exit_code=1 if self._outcome == "failed" else 0)
        except BaseException as error:  # a guest's SystemExit is no reason to end the run either
            text = str(error).strip().splitlines()
            self._fail(f"{type(error).__name__}: {text[0][:300]}" if text else type(error).__name__)

    def _fail(self, why: str) -> None:
        self._failure = why
        warn(f"wandb failed, the run goes on without it: {why}")

    def _open(self) -> Any:
        folder = self._run.path
        os.environ.setdefault("WANDB_CACHE_DIR", str(folder / "wandb" / "cache"))  # its logs would go to the home
        import wandb

        settings = wandb.Settings(
            console="off",
            silent=True,
            save_code=False,
            disable_code=True,
            disable_git=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
            init_timeout=60,
            x_save_requirements=False,
            program="runctl",
            host="runctl",
        )
        remote = wandb.init(
            mode=self._mode,
            dir=str(folder),
            project=self._tracking.project or "runctl",
            entity=self._tracking.entity,
            name=self._run.name,
            id=_identity(self._run),
            resume="allow",
            config=self._config,
            settings=settings,
        )
        remote.define_metric("step")
        remote.define_metric("*", step_metric="step")
        return remote


def _identity(run: record.RunDir) -> str:
    """The same for every attempt of a run, and another for any other run that bears its name: names are unique in
    one project folder only, and wandb would append to a colleague's run."""
    about = record.read_json(run.run) or {}
    told = json.dumps([about.get("created"), about.get("project"), (about.get("environment") or {}).get("host")])
    return f"{run.name}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"
