"""The lines of `runctl logs` on their way to a terminal, a file or a program."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from runctl import journal, status, view

if TYPE_CHECKING:
    from runctl.journal import Entry
    from runctl.record import RunDir

_BAR_SECONDS = 10.0


class Lines:
    """Prints entries as asked for. A bar that is still being written over is one line that changes on a terminal; to a
    file it goes as a line now and then."""

    def __init__(
        self, run: RunDir, *, as_json: bool, timestamps: bool, raw: bool, wanted: Callable[[str], bool] | None
    ) -> None:
        self.run, self.as_json, self.timestamps, self.raw, self.wanted = run, as_json, timestamps, raw, wanted
        self.count = 0
        self._ended = False
        self._total: int | None = None
        self._attempt: int | None = None
        self._terminal = sys.stdout.isatty()
        self._bar, self._bar_shown, self._bar_since = "", "", 0.0

    def line(self, entry: Entry) -> str | None:
        """What is printed for an entry; None for what is not to be."""
        if self.raw and entry.kind != "log":
            return None
        if self._total is None and entry.kind == "metrics":
            self._total = status.read(self.run).total_steps
        words = journal.sentence(entry, self._total)
        if self.wanted is not None and not self.wanted(words):
            return None
        if self.as_json:
            return view.as_json(entry.to_json())
        if not words and entry.kind != "log":
            return None
        if entry.kind == "log" and self.timestamps:
            return f"{journal.clock(entry.time) if entry.timed else '--:--:--'} {words}"
        return words

    def show(self, entry: Entry) -> None:
        """Print an entry, if it is to be."""
        if entry.kind == "unfinished":
            self._unfinished(str(entry.data["line"]), entry.time)
        elif (line := self.line(entry)) is not None:
            self.print(entry, line)

    def print(self, entry: Entry, line: str) -> None:
        """Print the line of an entry; where another attempt begins, a divider before it."""
        self._clear()
        number = entry.data.get("attempt")
        if self._attempt not in (None, number) and isinstance(number, int) and not self.as_json and not self.raw:
            typer.echo(f"──── {journal.heading(self.run, number)} ────")
        self._attempt = number
        self.count += 1
        self._ended = entry.data.get("event") == "attempt_ended"
        typer.echo(line)

    def close(self) -> None:
        """Say how the run ended, where its last line did not."""
        self._clear()
        if not self._ended:
            tell_end(self.run)

    def _unfinished(self, text: str, now: float) -> None:
        if self.as_json or self.raw or (text and self.wanted is not None and not self.wanted(text)):
            return
        if self._terminal:
            if text != self._bar_shown:
                self._clear()
                sys.stdout.write(text[: shutil.get_terminal_size().columns - 1])
                sys.stdout.flush()
                self._bar_shown = text
            return
        if not self._bar:
            self._bar_since = now  # a line in the making is left alone
        self._bar = text
        if text and text != self._bar_shown and now - self._bar_since >= _BAR_SECONDS:
            typer.echo(text)
            self._bar_shown, self._bar_since = text, now

    def _clear(self) -> None:
        if self._terminal and self._bar_shown:
            sys.stdout.write("\r\x1b[K")
            self._bar_shown = ""
        self._bar = ""


def tell_end(run: RunDir) -> None:
    """On stderr: in which state a run is that is over."""
    found = status.read(run)
    if found.over:
        because = f": {found.reason}" if found.reason else ""
        view.err().print(f"{found.run} has ended: {found.state}{because}", markup=False)
