"""Reports as JSON: `{schema_version, reports: [{path, kind, verdict, launch, findings, estimates, coverage}]}`,
`errors` where files could not be read, and `comparison` where there is a base.

Within a schema version keys are only added. A finding's `fingerprint` stays when lines move; `recognised` says, of
another trainer's config, which key was read as which fact."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from runctl.errors import RunctlError
from runctl.estimate.memory import Memory
from runctl.estimate.time_ import Range
from runctl.facts import Fact, Finding
from runctl.gathering.secrets import masked
from runctl.preflight import Report
from runctl.reporting._marks import marks

if TYPE_CHECKING:
    from runctl.base import Change, Comparison

SCHEMA_VERSION = 1


def render(
    reports: Sequence[Report], unreadable: Sequence[RunctlError] = (), comparison: Comparison | None = None
) -> str:
    data: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "reports": [report(one) for one in reports]}
    data |= {"errors": [error.to_json() for error in unreadable]} if unreadable else {}
    data |= {"comparison": compared(comparison)} if comparison else {}
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)


def report(one: Report) -> dict[str, Any]:
    """One report as JSON-able data."""
    named = marks(one)
    return {
        "path": one.path,
        "kind": one.kind,
        "why": one.why or None,
        "dialect": one.facts.dialect,
        "recognised": _recognised(one),
        "verdict": one.verdict,
        "launch": {
            "refused": bool(one.refusals),
            "because": [{"rule": found.rule, "message": found.message} for found in one.refusals],
        },
        "counts": {**one.counts, "waived": len(one.waived)},
        "findings": [_finding(found, named) for found in one.findings],
        "waived": [
            {**_finding(found, named), "because": waiver.reason, "where": waiver.where} for found, waiver in one.waived
        ],
        "estimates": estimates(one),
        "guards": one.facts.get("guards.all", []),
        "coverage": {
            "checked": list(one.coverage.checked),
            "not_checked": [{"rule": rule, "because": why} for rule, why in one.coverage.not_checked.items()],
            "off": list(one.coverage.off),
        },
    }


def _finding(found: Finding, named: dict[int, str]) -> dict[str, Any]:
    return {**found.to_json(), "fingerprint": named[id(found)]}


def _recognised(one: Report) -> list[dict[str, Any]]:
    """Which key of another trainer's config was read as which fact; empty for runctl's own."""
    hidden = one.facts.get("config.hidden", ())
    found = []
    for name, key, value in one.facts.get("adapter.recognised", ()) or ():
        plain = value if isinstance(value, bool | int | float) or value is None else masked(str(value), hidden)
        if isinstance(plain, float) and not math.isfinite(plain):
            plain = str(plain)
        found.append({"fact": name, "key": key, "value": plain})
    return found


def compared(comparison: Comparison) -> dict[str, Any]:
    """What changed against the base; a change's findings are named by rule, key and message."""
    return {
        "ref": comparison.ref,
        "commit": comparison.commit,
        "note": comparison.note or None,
        "unchanged": len(comparison.unchanged),
        "changes": [_change(change) for change in comparison.changes],
    }


def _change(change: Change) -> dict[str, Any]:
    from runctl import base

    then = base.measures(change.before) if change.before else {}
    now = base.measures(change.now) if change.now else {}
    units = {"cost": "cost_usd", "time": "time_seconds", "memory": "memory_bytes"}
    found: dict[str, Any] = {"path": change.path, "state": change.state, "was": change.was}
    found["base_error"] = change.broken or None
    found["verdict"] = {
        "before": change.before.verdict if change.before else None,
        "now": change.now.verdict if change.now else None,
    }
    for name in ("cost", "time", "memory", "parameters", "steps", "gpu"):
        found[units.get(name, name)] = {"before": then.get(name), "now": now.get(name)}
    for name in ("new", "fixed", "kept", "waived"):
        found[name] = [
            {"rule": one.rule, "severity": one.severity, "key": one.key, "message": one.message}
            for one in getattr(change, name)
        ]
    return found


def estimates(one: Report) -> dict[str, Any]:
    """Each estimate with its basis, or `{"unknown": why}`; units are in the names."""
    result: dict[str, Any] = {}
    for name, found in one.estimates.items():
        if not isinstance(found, Fact):
            result[_key(name)] = {"unknown": found.why}
        elif isinstance(found.value, Memory):
            memory = found.value
            spread = {"low": memory.low, "likely": memory.likely, "high": memory.high}
            result[_key(name)] = {**spread, "parts": dict(memory.parts), "phase": memory.phase, "basis": memory.basis}
        elif isinstance(found.value, Range):
            span = {key: round(getattr(found.value, key), 4) for key in ("low", "likely", "high")}
            result[_key(name)] = {**span, "basis": found.value.basis, "measured": found.value.measured}
            if found.value.parts:
                rounded = {key: [round(value, 4) for value in part] for key, part in found.value.parts.items()}
                result[_key(name)]["parts"] = rounded
        else:
            result[_key(name)] = found.value
    for fact_name, key in (("worst_cost", "worst_cost_usd"), ("at_risk", "at_risk")):
        fact = one.facts.values.get(f"estimate.{fact_name}")
        why = {"unknown": one.facts.why(f"estimate.{fact_name}")}
        result[key] = fact.value.to_json() if isinstance(fact, Fact) else why
    if one.facts.get("model.declared") and (source := one.facts.source("model.parameters")):
        result["parameters_basis"] = source.detail
    for name in ("steps", "epochs", "steps_per_epoch"):
        fact = one.facts.values.get(f"run.{name}")
        if isinstance(fact, Fact):
            result[name] = fact.value
    return result


def _key(name: str) -> str:
    return {"memory": "memory_bytes", "time": "time_seconds", "cost": "cost_usd"}.get(name, name)
