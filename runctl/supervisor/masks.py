"""Secrets in the log are hidden while it grows, those in the other texts of an attempt once it has ended.

A look takes at most a block and a few milliseconds; what a fast log leaves over is caught up with at the end, within a
bound that is said. The library's detectors come last, in a process of their own (`masking/sweep.py`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from runctl import record
from runctl.masking import files, spans
from runctl.masking.known import of_environment
from runctl.notices import targets
from runctl.supervisor import process
from runctl.supervisor.events import Events, say
from runctl.supervisor.watchers import Scene, Watcher

EVERY_SECONDS = 0.5
LOOK_BYTES, LOOK_SECONDS = 1 << 20, 0.003
CATCH_UP_SECONDS = 15.0
MOST_EVENTS = 50  # of one attempt; a program that writes a secret at each step does not fill the record


class Masks(Watcher):
    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.attempt = scene.run.attempt(scene.number)
        self.known = of_environment(addresses=[one.env for one in targets.recorded(scene.content)])
        self.log = files.Masker(self.attempt.log, self.known)
        self.next = 0.0
        self.count = 0
        self.refused = False

    def look(self, seconds: float) -> None:
        if seconds >= self.next:
            self.next = seconds + EVERY_SECONDS
            self._log(LOOK_BYTES, LOOK_SECONDS)

    def end(self) -> None:
        """The trainer has ended: what is left of the log, then its other texts."""
        self._log(1 << 62, CATCH_UP_SECONDS)
        if behind := self.log.behind:
            self.scene.events.add("secrets_unchecked", file=self._name(self.attempt.log), bytes=behind)
        self.log.close()
        for path in (self.attempt.hang, self.attempt.stacks, *self.attempt.ranks.glob("*.stacks.txt")):
            with suppress(OSError):
                self._told(path, files.mask(path, self.known, most_seconds=2.0))
        for path in (self.attempt.result, self.attempt.heartbeat, *self.attempt.ranks.glob("*.json")):
            self._json(path)

    def told(self, row: dict[str, Any]) -> None:
        if row.get("event") == "attempt_ended" and self.log.tokens and find_spec("detect_secrets") is not None:
            self._sweep()

    def _log(self, most_bytes: int, most_seconds: float) -> None:
        try:
            found = self.log.look(most_bytes, most_seconds)
        except OSError as error:  # tried again at the next look
            if not self.refused:
                say(f"secrets in the log cannot be hidden: {error}")
            self.refused = True
            return
        self._told(self.attempt.log, found)

    def _json(self, path: Path) -> None:
        """A record of the trainer's, written anew where something in it is hidden."""
        content = record.read_json(path)
        clean = spans.scrubbed(content, self.known) if content is not None else None
        if clean != content:
            with suppress(OSError, ValueError):
                record.write_json(path, clean)
                self._told(path, [files.Found("a secret in a text of the program's", 1)])

    def _told(self, path: Path, found: list[files.Found]) -> None:
        for one in found:
            self.count += 1
            if self.count <= MOST_EVENTS:
                self.scene.events.add("secret_masked", file=self._name(path), line=one.line, detector=one.kind)
        if found and self.count - len(found) < MOST_EVENTS < self.count:
            self.scene.events.add("secrets_masked", reason=f"more than {MOST_EVENTS}: they are hidden, not told")

    def _name(self, path: Path) -> str:
        return os.path.relpath(path, self.scene.run.path)

    def _sweep(self) -> None:
        argv = [sys.executable, "-P", "-m", "runctl.masking.sweep", str(self.scene.run.path)]
        with suppress(OSError):
            sweeper = subprocess.Popen(
                [*argv, "--attempt", str(self.scene.number)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=process.importable(dict(os.environ)),
                start_new_session=True,
            )
            process.spare(sweeper.pid)


def catch_up(run: record.RunDir, number: int) -> None:
    """Hide what a lost supervisor had no time for, before the log is read for what its end was."""
    content, events = record.content(run, number), Events(run, number)
    with suppress(Exception):
        Masks(Scene(run, number, content, events)).end()
