"""Policy: the thresholds of the rules, each a named value with a default that `runctl.yaml` may change.

policy:
  long_run: 2h
  rules: {CK102: warning, PR101: off}
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runctl.errors import UsageError, did_you_mean
from runctl.units import format_duration, format_usd, parse_duration

SEVERITIES = ("error", "warning", "note", "off")


@dataclass(frozen=True)
class Value:
    """A policy value: `parse` reads what a person wrote, `show` prints it."""

    default: Any
    meaning: str
    parse: Callable[[Any], Any]
    show: Callable[[Any], str] = str


def _count(given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise ValueError(f"{given!r} is not a whole number of 0 or more")
    return given


def _share(given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= 1:
        raise ValueError(f"{given!r} is not a share between 0 and 1")
    return float(given)


def _usd(given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given) or given < 0:
        raise ValueError(f"{given!r} is no amount of USD, a number of 0 or more")
    return float(given)


def _percent(share: float) -> str:
    return f"{share:.0%}"


def _days(seconds: float) -> str:
    return f"{seconds / 86400:g} days"


VALUES: dict[str, Value] = {
    "long_run": Value(3600.0, "a run estimated to take longer is long", parse_duration, format_duration),
    "long_run_steps": Value(5000, "where its time is not known, a run of more optimizer steps is long", _count),
    "clipped_ids": Value(
        0.01, "the share of a dataset's ids that may have been cut", _share, lambda share: f"{share:.2%}"
    ),
    "price_age": Value(180 * 86400.0, "a list price that is older is said to be stale", parse_duration, _days),
    "memory_spare": Value(0.08, "the share of a GPU's memory that should stay free", _share, _percent),
    "memory_empty": Value(0.15, "a GPU of which a long run uses a smaller share is nearly empty", _share, _percent),
    "risk_time": Value(1800.0, "the time that may be lost between two checkpoints", parse_duration, format_duration),
    "risk_cost": Value(5.0, "the money that may be lost between two checkpoints", _usd, format_usd),
    "risk_cost_error": Value(25.0, "on a long run, more at risk between two checkpoints is an error", _usd, format_usd),
    "silence": Value(300.0, "the time that may pass between two rows of metrics", parse_duration, format_duration),
    "probe_cost": Value(5.0, "a run likely to cost more should rest on a measured pace", _usd, format_usd),
    "probe_required": Value(50.0, "a run likely to cost more must rest on a measured pace", _usd, format_usd),
    "budget_free": Value(1.0, "a run likely to cost less needs no budget", _usd, format_usd),
    "budget_required": Value(25.0, "a run likely to cost more must have a budget", _usd, format_usd),
    "canary_cost": Value(10.0, "a run likely to cost more should not be its shape's first", _usd, format_usd),
}


@dataclass(frozen=True)
class Policy:
    """`values` by name, `rules` maps a rule's id to the severity that the project gives it."""

    values: Mapping[str, Any] = field(default_factory=dict)
    rules: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.values.get(name, VALUES[name].default)

    def show(self, name: str) -> str:
        return VALUES[name].show(self[name])


def read(raw: Mapping[str, Any], file: str = "runctl.yaml") -> Policy:
    """Check the `policy:` section of a project; raises UsageError that names what is wrong."""
    values: dict[str, Any] = {}
    for key, given in raw.items():
        if key == "rules":
            continue
        if key not in VALUES:
            hint = did_you_mean(str(key), [*VALUES, "rules"]) or f"known: {', '.join([*VALUES, 'rules'])}"
            raise UsageError(f"{file}: unknown policy value '{key}'", hint=hint)
        try:
            values[key] = VALUES[key].parse(given)
        except ValueError as error:
            raise UsageError(f"{file}: policy.{key}: {error}") from None
    return Policy(values, _rules(raw.get("rules") or {}, file))


def _rules(raw: Any, file: str) -> dict[str, str]:
    if not isinstance(raw, Mapping):
        raise UsageError(f"{file}: policy.rules must map rule ids to {', '.join(SEVERITIES)}")
    result = {}
    for rule, given in raw.items():
        severity = "off" if given is False else given  # YAML reads a bare `off` as false
        if not re.fullmatch(r"[A-Z]{2}\d{3}", str(rule)):
            raise UsageError(f"{file}: policy.rules: '{rule}' is no rule id; see runctl rules")
        if severity not in SEVERITIES:
            raise UsageError(f"{file}: policy.rules.{rule} is {given!r}; it can be {', '.join(SEVERITIES)}")
        result[str(rule)] = str(severity)
    return result
