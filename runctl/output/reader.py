"""What the lines of a program add up to: step, totals, epoch and loss now, and a row of metrics for each line."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from runctl.light import dataclass, pattern
from runctl.output import template
from runctl.output.presets import BAR, PRESETS, SURE, Values

_COLOURS = pattern(r"\x1b\[[0-9;?]*[A-Za-z]")
_LARGEST = 10**15
_OF_THE_RUN = ("step", "total_steps", "epoch", "epochs", "examples_per_second", "memory_bytes")
_LOSSES = ("loss", "train_loss", "train/loss")
_DONE = 0.98  # of a bar, after which another of its name goes on where it ended


@dataclass(frozen=True)
class Row:
    """One line that said something: by which pattern, its values as printed, and what of them are metrics."""

    by: str
    step: int | None
    epoch: float | None
    values: Values
    metrics: Values

    def to_json(self, attempt: int, now: float) -> dict[str, Any]:
        """The row as metrics.jsonl has it: what is not finite is null and named."""
        lost = [name for name, value in self.metrics.items() if not math.isfinite(value)]
        row: dict[str, Any] = {"step": self.step or 0, "attempt": attempt, "time": round(now, 3), "source": "output"}
        row |= {"epoch": self.epoch} if self.epoch is not None else {}
        for name, value in self.metrics.items():
            row.setdefault(_text(name), None if name in lost else value)
        return row | ({"nonfinite": [_text(name) for name in lost]} if lost else {})


class Reader:
    """Reads line after line; what it knows so far is in its attributes. Raises template.Bad for a bad pattern."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns: list[tuple[str, Callable[[str], Values | None]]] = [
            (text, PRESETS[text] if text in PRESETS else template.compiled(text).read) for text in patterns
        ]
        self.step: int | None = None
        self.total_steps: int | None = None
        self.epoch: float | None = None
        self.epochs: float | None = None
        self.loss: float | None = None
        self.examples_per_second: float | None = None
        self.memory_bytes: int | None = None
        self.matched: dict[str, int] = {}  # lines by pattern
        self._stepped = False  # whether lines, and not bars, say the step
        self._counters: dict[float, tuple[int, int, int]] = {}  # of bars: where it stands, its total, all before
        self._main = (0.0, 0.0)  # the bar that is the training: how sure that is, and which

    def line(self, text: str) -> Row | None:
        """What a line says; None for one that no pattern reads. The first pattern that reads it counts."""
        shown = _COLOURS.sub("", text) if "\x1b" in text else text
        for name, read in self._patterns:
            values = read(shown)
            if values:
                self.matched[name] = self.matched.get(name, 0) + 1
                return self._fold(name, dict(values))
        return None

    def facts(self) -> dict[str, Any]:
        """The values of a heartbeat."""
        names = ("step", "total_steps", "epoch", "epochs", "loss", "examples_per_second", "memory_bytes")
        found = {name: getattr(self, name) for name in names}
        lost = [name for name in ("loss",) if isinstance(found[name], float) and not math.isfinite(found[name])]
        return {name: None if name in lost else value for name, value in found.items()} | {"nonfinite": lost}

    def _fold(self, by: str, values: Values) -> Row:
        bar, sure = values.pop(BAR, None), values.pop(SURE, 1)
        seen = {name: value for name, value in values.items() if 0 <= value < _LARGEST}  # never so of NaN
        if bar is not None:
            self._follow(bar, sure, seen)
        elif "step" in seen:
            self._stepped = True
            self._count(0, seen)
        elif "total_steps" in seen:
            self.total_steps = int(seen["total_steps"])
        self.epoch, self.epochs = seen.get("epoch", self.epoch), seen.get("epochs", self.epochs)
        if not self._stepped and bar is None and "epoch" in seen:  # a program that counts nothing finer
            self.step, self.total_steps = int(seen["epoch"]), int(self.epochs) if self.epochs else None
        self.loss = next((float(values[name]) for name in _LOSSES if name in values), self.loss)
        self.examples_per_second = seen.get("examples_per_second", self.examples_per_second)
        self.memory_bytes = int(seen["memory_bytes"]) if "memory_bytes" in seen else self.memory_bytes
        metrics = {name: value for name, value in values.items() if name not in _OF_THE_RUN}
        return Row(by, self.step, self.epoch, values, metrics)

    def _follow(self, bar: float, sure: float, seen: Values) -> None:
        """Of several bars the surest to be the training's counts, and among equals the first."""
        if sure > self._main[0]:
            self._main = (sure, bar)
        if bar == self._main[1] and not self._stepped:
            self._count(bar, seen)

    def _count(self, counter: float, seen: Values) -> None:
        """The step of a counter. One that begins anew after its end, in each epoch, goes on where it ended."""
        at, total, before = self._counters.get(counter, (0, 0, 0))
        step = int(seen["step"])
        if total and step < at and at >= _DONE * total:
            before += total
        total = int(seen.get("total_steps", 0))
        self._counters[counter] = (step, total, before)
        self.step = before + step
        rounds = seen.get("epochs", self.epochs)
        if before:
            self.total_steps = int(total * rounds) if total and rounds else None
        elif total:
            self.total_steps = int(total * rounds) if rounds and counter else total


def _text(name: str) -> str:
    """A name that any file takes: half a surrogate pair may be in what a program prints."""
    return name.encode("utf-8", "backslashreplace").decode()


def lines_of(data: bytes) -> tuple[list[tuple[str, bool]], bytes]:
    """The whole lines of what was written, each with whether it is a state of a bar (ended by a carriage return, and
    overwritten); and the rest that is not whole yet."""
    pieces = re.split(rb"(\r\n|\n|\r)", data)
    ended = list(zip(pieces[:-1:2], pieces[1::2], strict=True))
    return [(text.decode("utf-8", "replace"), end == b"\r") for text, end in ended if text], pieces[-1]
