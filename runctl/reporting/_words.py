"""What several formats say of a report, in the same words: verdicts, estimates in short, and changes against a base."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from runctl import base, rules
from runctl.base import Change, Comparison
from runctl.errors import RunctlError
from runctl.facts import Finding
from runctl.preflight import ORDER, Report
from runctl.units import counted, format_bytes, format_count, format_duration, format_usd

VERDICTS = {
    "ok": "ok",
    "warn": "warnings",
    "fail": "refused",
    "other": "not a training config",
    "incomplete": "incomplete",
}


@dataclass(frozen=True)
class Row:
    """One thing that differs: `cost`, `$4.00`, `$74.00`."""

    name: str
    before: str
    now: str

    @property
    def arrow(self) -> str:
        """`$4.00 → $74.00`; the unit only once: `21 → 38 GiB`."""
        number, _, unit = self.before.rpartition(" ")
        before = number if unit and number and self.now.endswith(f" {unit}") else self.before
        return f"{before} → {self.now}"


def rows(change: Change) -> Iterator[Row]:
    """What differs of the estimates, in the order in which people ask."""
    if change.now is None or change.before is None:
        return
    then, now = base.measures(change.before), base.measures(change.now)
    for name in ("cost", "time", "memory", "parameters", "steps", "gpu"):
        if not base.same(then[name], now[name]):
            before, after = shown(name, then[name]), shown(name, now[name])
            if before != after:
                yield Row(name, before, after)


def shown(name: str, value: float | str | None) -> str:
    """A measure as people read it."""
    if value is None:
        return "none" if name == "gpu" else "unknown"
    if isinstance(value, str):
        return value
    if name == "steps":
        return f"{value:,.0f}"
    forms = {"cost": format_usd, "time": format_duration, "memory": format_bytes, "parameters": format_count}
    return forms[name](value)


def headline(change: Change) -> str:
    """`cost $4.00 → $74.00, memory 21.0 → 38.0 GiB; new: DA101 the dataset was encoded with another encoding`."""
    parts = []
    if change.state in ("new", "deleted"):
        parts.append(change.state)
    elif change.broken:
        parts.append("its base version could not be judged")
    parts += [", ".join(f"{row.name} {row.arrow}" for row in rows(change))]
    for word, findings in (("new", change.new), ("fixed", change.fixed), ("waived", change.waived)):
        if change.state not in ("new", "deleted") and (named := titles(findings)):
            parts.append(f"{word}: {named}")
    return "; ".join(part for part in parts if part) or "no difference that preflight sees"


def titles(findings: Iterable[Finding]) -> str:
    """Each rule once, with its title, the worst first."""
    worst = sorted(findings, key=lambda one: ORDER[one.severity or "error"])
    known = rules.known()
    named = dict.fromkeys(f"{one.rule} {known[one.rule].title}" if one.rule in known else one.rule for one in worst)
    return ", ".join(named)


def counts(report: Report) -> str:
    """`2 errors, 1 warning, 1 waived`; empty where there is nothing."""
    words = [counted(count, name) for name, count in report.counts.items() if count]
    return ", ".join(words + ([f"{len(report.waived)} waived"] if report.waived else []))


def total_cost(reports: Iterable[Report]) -> tuple[float | None, int]:
    """The likely cost of all runs together in USD (None where none is known), and of how many it is unknown."""
    costs = [base.measures(report)["cost"] for report in reports if report.kind == "training"]
    known = [cost for cost in costs if isinstance(cost, int | float)]
    return (sum(known) if known else None), len(costs) - len(known)


def left_out(comparison: Comparison) -> str:
    """What is said of the configs that are as they were; empty where there are none."""
    count = len(comparison.unchanged)
    if not count:
        return ""
    failing = [report.path for report in comparison.unchanged if report.counts["error"]]
    text = f"{counted(count, 'config')} unchanged and left out"
    if failing:
        some = ", ".join(failing[:3]) + (f" and {len(failing) - 3} more" if len(failing) > 3 else "")
        text += f"; with errors as before: {some}"
    return text


def verdict(reports: Sequence[Report], unreadable: Sequence[RunctlError]) -> str:
    """The worst of all: `fail`, `warn` or `ok`."""
    if unreadable or any(report.verdict == "fail" for report in reports):
        return "fail"
    return "warn" if any(report.counts["warning"] for report in reports) else "ok"
