"""Reports as JSON: `{schema_version, reports: [{path, kind, verdict, launch, findings, estimates, coverage}]}`, and
`errors` where files could not be read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from runctl.errors import RunctlError
from runctl.estimate.memory import Memory
from runctl.estimate.time_ import Range
from runctl.facts import Fact
from runctl.preflight import Report

SCHEMA_VERSION = 1


def render(reports: Sequence[Report], unreadable: Sequence[RunctlError] = ()) -> str:
    data: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "reports": [report(one) for one in reports]}
    data |= {"errors": [error.to_json() for error in unreadable]} if unreadable else {}
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)


def report(one: Report) -> dict[str, Any]:
    """One report as JSON-able data."""
    return {
        "path": one.path,
        "kind": one.kind,
        "verdict": one.verdict,
        "launch": {
            "refused": bool(one.refusals),
            "because": [{"rule": found.rule, "message": found.message} for found in one.refusals],
        },
        "counts": {**one.counts, "waived": len(one.waived)},
        "findings": [found.to_json() for found in one.findings],
        "waived": [{**found.to_json(), "because": waiver.reason} for found, waiver in one.waived],
        "estimates": estimates(one),
        "coverage": {
            "checked": list(one.coverage.checked),
            "not_checked": [{"rule": rule, "because": why} for rule, why in one.coverage.not_checked.items()],
            "off": list(one.coverage.off),
        },
    }


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
