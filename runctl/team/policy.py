"""Policy: the thresholds of the rules, each a named value with a default that `runctl.yaml` may change.

policy:
  long_run: 2h
  rules: {CK102: warning, PR101: off}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from runctl.errors import UsageError, did_you_mean
from runctl.light import dataclass, field
from runctl.units import format_bytes, format_duration, format_usd, parse_bytes, parse_duration

SEVERITIES = ("error", "warning", "note", "off")
# nobody can allow what these find
UNWAIVABLE = ("CF100", "CF101", "CF103", "BU105", "PO101", "WV101", "WV102", "WV103")


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


def _ratio(given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given) or given < 0:
        raise ValueError(f"{given!r} is not a number of 0 or more")
    return float(given)


def _usd(given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given) or given < 0:
        raise ValueError(f"{given!r} is no amount of USD, a number of 0 or more")
    return float(given)


def _size(given: Any) -> int:
    size = parse_bytes(given)
    if size <= 0:
        raise ValueError(f"{given!r} is no size above 0")
    return size


def _rate(size: float) -> str:
    return f"{format_bytes(size)} a second"


def _hours(given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given) or given <= 0:
        raise ValueError(f"{given!r} is no number of hours")
    return float(given)


def _names(given: Any) -> tuple[str, ...]:
    given = [given] if isinstance(given, str) else given
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise ValueError(f"{given!r} is no list of names")
    return tuple(given)


def _bare(number: float) -> str:
    return f"{number:g}"


def _limit(show: Callable[[Any], str], without: str = "no limit") -> Callable[[Any], str]:
    return lambda value: without if value is None else show(value)


def _truth(given: Any) -> bool:
    if not isinstance(given, bool):
        raise ValueError(f"{given!r} is neither true nor false")
    return given


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
    "smoke_steps": Value(500, "a run of at most so many optimizer steps is a smoke test", _count),
    "passes": Value(20, "passes over the data that steps and batch may amount to", _count),
    "memory_unused": Value(
        0.005, "a large GPU of which a long run uses a smaller share is not used", _share, lambda share: f"{share:.1%}"
    ),
    "saving_share": Value(0.05, "the share of the time that writing checkpoints may take", _share, _percent),
    "write_rate": Value(2**30, "bytes a second at which a checkpoint is written", _size, _rate),
    "kept_checkpoints": Value(500 * 2**30, "what checkpoints that are never deleted may take", _size, format_bytes),
    "max_cost_usd": Value(None, "a run that is likely to cost more is refused", _usd, _limit(format_usd)),
    "max_hours": Value(None, "a run that is likely to take longer is refused", _hours, _limit(_bare)),
    "max_gpus": Value(None, "a run on more GPUs is refused", _count, _limit(str)),
    "allowed_gpus": Value(None, "GPUs of the catalogue on which runs may be", _names, _limit(", ".join, "any")),
    "allowed_backends": Value(None, "places where runs may be", _names, _limit(", ".join, "any")),
    "require_card": Value(False, "a run that needs a card is refused without a signed one", _truth),
    "card_cost": Value(5.0, "a run likely to cost more needs a run card", _usd, format_usd),
    "card_time": Value(2 * 3600.0, "a paid run likely to take longer needs one", parse_duration, format_duration),
    "like_size": Value(1.5, "the factor within which the parameters of two models are of one size", _ratio),
    "like_rate": Value(1.5, "the factor within which two learning rates are one", _ratio),
    "data_least": Value(1.0, "tokens or examples for each parameter that a long run from scratch should have", _ratio),
    "data_most": Value(20_000.0, "tokens or examples for each parameter above which a model is small for them", _ratio),
}


@dataclass(frozen=True)
class Requirement:
    """What every config must say: `key` is a dotted name, or one of `runctl/rules/po102.py`'s words; `one_of` are the
    values that it may have; `when` is always, paid or long; `paths` are globs, none: every config."""

    key: str
    message: str = ""
    one_of: tuple[Any, ...] = ()
    when: str = "always"
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Policy:
    """`values` by name, `rules` maps a rule's id to the severity that the project gives it, `require` is what configs
    must say."""

    values: Mapping[str, Any] = field(default_factory=dict)
    rules: Mapping[str, str] = field(default_factory=dict)
    require: tuple[Requirement, ...] = ()

    def __getitem__(self, name: str) -> Any:
        return self.values.get(name, VALUES[name].default)

    def severity(self, rule: str) -> str | None:
        """What the project makes of a rule's severity; a rule that cannot be waived can only be raised."""
        given = self.rules.get(rule)
        return given if given == "error" or rule not in UNWAIVABLE else None

    def show(self, name: str) -> str:
        return VALUES[name].show(self[name])


Place = Callable[..., str]
SECTIONS = ("rules", "require")
WHEN = ("always", "paid", "long")


def read(raw: Mapping[str, Any], file: str = "runctl.yaml", place: Place | None = None) -> Policy:
    """Check the `policy:` section of a project; raises UsageError that names what is wrong, and where: `place` gives
    file:line:col of a path below the section."""
    at = place or (lambda *keys: file)
    values: dict[str, Any] = {}
    for key, given in raw.items():
        if key in SECTIONS:
            continue
        if key not in VALUES:
            known = [*VALUES, *SECTIONS]
            hint = did_you_mean(str(key), known) or f"known: {', '.join(known)}"
            raise UsageError(f"{at(key)}: unknown policy value '{key}'", hint=hint)
        try:
            values[key] = VALUES[key].parse(given)
        except ValueError as error:
            raise UsageError(f"{at(key)}: policy.{key}: {error}") from None
    return Policy(values, _rules(raw.get("rules") or {}, at), _require(raw.get("require") or [], at))


def _rules(raw: Any, at: Place) -> dict[str, str]:
    if not isinstance(raw, Mapping):
        raise UsageError(f"{at('rules')}: policy.rules must map rule ids to {', '.join(SEVERITIES)}")
    result = {}
    for rule, given in raw.items():
        severity = "off" if given is False else given  # YAML reads a bare `off` as false
        if severity not in SEVERITIES:
            known = ", ".join(SEVERITIES)
            raise UsageError(f"{at('rules', rule)}: policy.rules.{rule} is {given!r}; it can be {known}")
        result[str(rule)] = str(severity)
    return result


def _require(raw: Any, at: Place) -> tuple[Requirement, ...]:
    if not isinstance(raw, list):
        hint = "write require: [budget, training.seed]"
        raise UsageError(f"{at('require')}: policy.require must be a list", hint=hint)
    return tuple(_requirement(item, lambda *keys, i=index: at("require", i, *keys)) for index, item in enumerate(raw))


def _requirement(item: Any, at: Place) -> Requirement:
    if isinstance(item, str) and item:
        return Requirement(item)
    if not isinstance(item, Mapping) or not isinstance(item.get("key"), str):
        hint = "write - training.seed, or - {key: budget, when: paid, message: why}"
        raise UsageError(f"{at()}: a requirement is a key, or a mapping with one", hint=hint)
    fields = ("key", "message", "one_of", "when", "paths")
    for key in item:
        if key not in fields:
            hint = did_you_mean(str(key), fields) or f"known: {', '.join(fields)}"
            raise UsageError(f"{at(key)}: a requirement has no '{key}'", hint=hint)
    when = item.get("when", "always")
    if when not in WHEN:
        raise UsageError(f"{at('when')}: when is {str(when)[:40]!r}; it can be {', '.join(WHEN)}")
    one_of, paths = (_listed(item, key, at) for key in ("one_of", "paths"))
    return Requirement(item["key"], str(item.get("message") or ""), one_of, when, paths)


def _listed(item: Mapping[str, Any], key: str, at: Place) -> tuple[Any, ...]:
    given = item.get(key)
    given = [] if given is None else given if isinstance(given, list) else [given]
    if any(isinstance(one, list | dict) or (key == "paths" and not isinstance(one, str)) for one in given):
        raise UsageError(f"{at(key)}: {key} must be a list of single values")
    return tuple(given)
