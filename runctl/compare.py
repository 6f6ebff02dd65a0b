"""Runs side by side: the settings in which they differ, their metrics with noise bands, what they cost."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runctl import record, results, status
from runctl.cards import tables
from runctl.cards.contract import Metric
from runctl.errors import UsageError
from runctl.fields import held_out, number
from runctl.gathering import sweeps
from runctl.results import Result
from runctl.supervisor.summary import validation_rows
from runctl.units import format_duration, format_usd

FORMATS = ("text", "markdown", "csv", "json")
_COUNTS = ("val/frames", "val/changes", "val/windows", "validation_seconds")
_NAMES = ("name", "card")
_LARGER = ("acc", "score", "f1", "auc", "bleu", "reward", "recall", "precision")


@dataclass(frozen=True)
class Comparison:
    """`settings` are (key, value of each run); `metrics` one list of results for each metric; `standing` says of each
    metric and run how it stands to the first: better, worse, within noise, or why it may not be compared."""

    runs: tuple[str, ...]
    states: tuple[str, ...]
    settings: tuple[tuple[str, tuple[Any, ...]], ...]
    metrics: tuple[tuple[str, tuple[Result, ...]], ...]
    standing: tuple[tuple[str, ...], ...]
    spent: tuple[tuple[str, tuple[Any, ...]], ...]
    statistic: str

    def to_json(self) -> dict[str, Any]:
        return {
            "runs": [{"name": name, "state": state} for name, state in zip(self.runs, self.states, strict=True)],
            "statistic": self.statistic,
            "settings": {key: list(values) for key, values in self.settings},
            "metrics": {
                name: [one.to_json() | {"standing": word} for one, word in zip(found, words, strict=True)]
                for (name, found), words in zip(self.metrics, self.standing, strict=True)
            },
            "spent": {name: list(values) for name, values in self.spent},
        }


def compare(names: Sequence[str], project: Path, *, metrics: Sequence[str] = (), statistic: str = "last") -> Comparison:
    """Raises UsageError for fewer than two runs, an unknown one, or an unknown metric or statistic."""
    if len(names) < 2:
        raise UsageError("a comparison needs two runs or more", hint="runctl status lists them")
    runs = [record.find(project, name) for name in names]
    if Metric(name="", statistic=statistic).last is None and statistic != "best":
        raise UsageError(f"unknown statistic {statistic!r}", hint="it can be last, best, or 'mean of last 5'")
    known = list(
        dict.fromkeys(key for run in runs for row in validation_rows(run)[-1:] for key in row if held_out(key))
    )
    known = [name for name in known if name not in _COUNTS]
    if unknown := [name for name in metrics if name not in known]:
        raise UsageError(f"none of them measured {unknown[0]}", hint=f"measured are: {', '.join(known) or 'none'}")
    found, standing = [], []
    for name in metrics or known:
        metric = Metric(name=name, mode="max" if _more_is_better(name) else "min", statistic=statistic)
        row = tuple(results.of_run(run, metric, project) for run in runs)
        found.append((name, row))
        standing.append(
            ("", *(_standing(runs[0], run, row[0], one) for run, one in zip(runs[1:], row[1:], strict=True)))
        )
    return Comparison(
        tuple(run.name for run in runs),
        tuple(status.observe(run).state for run in runs),
        tuple(_settings(runs)),
        tuple(found),
        tuple(standing),
        tuple(_spent(runs)),
        statistic,
    )


def rendered(found: Comparison, form: str) -> str:
    """The comparison as Markdown or CSV."""
    return _csv(found) if form == "csv" else _markdown(found)


def cell(one: Result, word: str) -> str:
    """A value with its band and how it stands."""
    if one.value is None:
        return "–"
    band = f" ± {one.noise.band:.2g}" if one.noise else ""
    return f"{one.value:.5g}{band}" + (f" ({word})" if word else "")


def rows(found: Comparison) -> list[tuple[str, list[tuple[str, ...]]]]:
    """(title, rows) of each part, for text and Markdown."""
    settings = [(key, *map(tables.value, values)) for key, values in found.settings]
    metrics = [
        (name, *(cell(one, word) for one, word in zip(row, words, strict=True)))
        for (name, row), words in zip(found.metrics, found.standing, strict=True)
    ]
    show: dict[str, Callable[[Any], str]] = {"time": format_duration, "cost": format_usd}
    spent = [
        (name, *("unknown" if one is None else show.get(name, tables.value)(one) for one in values))
        for name, values in found.spent
    ]
    states = ("state", *found.states)
    return [("settings", [states, *settings]), (f"metrics, {found.statistic}", metrics), ("spent", spent)]


def _markdown(found: Comparison) -> str:
    parts = [tables.table((title, *found.runs), part) for title, part in rows(found) if part]
    return "\n\n".join([*parts, *(f"{text}" for text in notes(found))])


def notes(found: Comparison) -> list[str]:
    """What the bands rest on, and what may not be compared."""
    bases = {one.noise.basis for _, row in found.metrics for one in row if one.noise}
    said = [f"± is 95 %: from {basis}" for basis in sorted(bases)]
    refused = {word for words in found.standing for word in words if word.startswith("not comparable")}
    return said + sorted(refused)


def _csv(found: Comparison) -> str:
    """One row for each run: its settings that differ, then value, band and standing of each metric."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = ["run", "state", *(key for key, _ in found.settings)]
    for name, _ in found.metrics:
        head += [name, f"{name} ±", f"{name} standing"]
    writer.writerow([*head, *(name for name, _ in found.spent)])
    for index, run in enumerate(found.runs):
        line: list[Any] = [run, found.states[index], *(values[index] for _, values in found.settings)]
        for (_, results_of), words in zip(found.metrics, found.standing, strict=True):
            one = results_of[index]
            line += [one.value, one.noise.band if one.noise else None, words[index]]
        writer.writerow([*line, *(values[index] for _, values in found.spent)])
    return out.getvalue()


def _standing(first: record.RunDir, run: record.RunDir, one: Result, other: Result) -> str:
    if why := results.incomparable(first, run, other.metric.name):
        return f"not comparable: {why}"
    if one.value is None or other.value is None:
        return "not measured"
    gap, band = other.value - one.value, results.together(one.noise, other.noise)
    if band is not None and abs(gap) <= band:
        return "within noise"
    word = "better" if results.better(other.value, one.value, other.metric.mode) else "worse" if gap else "equal"
    return word if band is not None or not gap else f"{word}, noise unknown"


def _settings(runs: Sequence[record.RunDir]) -> list[tuple[str, tuple[Any, ...]]]:
    flats = [sweeps.flat(record.content(run).get("config") or {}) for run in runs]
    keys = [key for key in dict.fromkeys(key for flat in flats for key in flat) if key not in _NAMES]
    found = [(key, tuple(flat.get(key) for flat in flats)) for key in keys]
    return [(key, values) for key, values in found if any(value != values[0] for value in values)]


def _spent(runs: Sequence[record.RunDir]) -> list[tuple[str, tuple[Any, ...]]]:
    summaries = [record.read_object(run.summary) for run in runs]
    names = {"time": "seconds", "cost": "cost_usd", "steps": "steps", "attempts": "attempts"}
    return [(name, tuple(_whole(number(one, key)) for one in summaries)) for name, key in names.items()]


def _whole(value: float | None) -> float | int | None:
    return int(value) if value is not None and value == int(value) else value


def _more_is_better(metric: str) -> bool:
    return any(word in metric for word in _LARGER)
