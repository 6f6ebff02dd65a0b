"""Patterns tried on a log: what would be read from each line, and from which lines with numbers nothing would be."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runctl.errors import ConfigError, Problem, UsageError
from runctl.light import dataclass, pattern
from runctl.output import reader, template

_MOST_BYTES = 64 << 20
_NUMBERS = pattern(r"\d")


@dataclass(frozen=True)
class Trial:
    """`rows` are (line number, what it says); `left` lines with numbers that no pattern reads; `end` what a heartbeat
    would say at the end."""

    patterns: tuple[str, ...]
    lines: int
    rows: tuple[tuple[int, reader.Row], ...]
    left: tuple[tuple[int, str], ...]
    end: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {
            "patterns": list(self.patterns),
            "lines": self.lines,
            "read": [
                {"line": number, "pattern": row.by, "step": row.step, "epoch": row.epoch, "values": _plain(row.values)}
                for number, row in self.rows
            ],
            "not_read": [{"line": number, "text": text} for number, text in self.left],
            "end": self.end,
        }


def patterns(config: Path | None, given: Sequence[str]) -> tuple[str, ...]:
    """The patterns to try: those given, else the config's. Raises UsageError and ConfigError."""
    if given:
        for text in given:
            try:
                reader.Reader([text])
            except template.Bad as error:
                raise ConfigError([Problem(f"the pattern {text!r}: {error}", hint=error.hint)]) from None
        return tuple(given)
    if config is None:
        raise UsageError("which patterns?", hint="name a config, or try one with: --pattern auto")
    from runctl import config as configs

    section = configs.load(config).config.command
    if section is None or section.progress is None:
        hint = "add to its command section: progress: [auto]; or try one with: --pattern auto"
        raise UsageError(f"{config} has no command.progress", hint=hint)
    return tuple(section.progress.patterns)


def text(log: Path | None, run: str | None) -> bytes:
    """What a program printed. Raises UsageError."""
    if (log is None) == (run is None):
        raise UsageError("which output?", hint="give --log FILE (- for standard input), or --run RUN")
    if run is not None:
        from runctl import logs, project, record

        log = logs.find(record.find(project.root(), run))
    assert log is not None
    try:
        if str(log) == "-":
            return sys.stdin.buffer.read(_MOST_BYTES)
        with log.open("rb") as file:
            return file.read(_MOST_BYTES)
    except OSError as error:
        raise UsageError(f"cannot read {log}: {error.strerror}", hint="give the file with what it printed") from None


def read(given: Sequence[str], data: bytes) -> Trial:
    """Try patterns on what was printed."""
    made = reader.Reader(given)
    found, rest = reader.lines_of(data)
    rows: list[tuple[int, reader.Row]] = []
    left: list[tuple[int, str]] = []
    lines = [*found, (rest.decode("utf-8", "replace"), False)] if rest else found
    for number, (line, _) in enumerate(lines, 1):
        row = made.line(line)
        if row is not None:
            rows.append((number, row))
        elif _NUMBERS.search(line):
            left.append((number, re.sub(r"[\x00-\x1f\x7f]", " ", line)[:200]))
    return Trial(tuple(given), len(lines), tuple(rows), tuple(left), made.facts())


def _plain(values: dict[str, float | int]) -> dict[str, Any]:
    return {name: value if math.isfinite(value) else str(value) for name, value in values.items()}
