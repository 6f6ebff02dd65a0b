"""Reports as SARIF 2.1.0, for GitHub code scanning and editors.

Every rule that was asked is in the table of rules with its page, so that a viewer can explain a result offline.
Waived findings are results with suppressions; results carry the fingerprint of the baseline, which stays when lines
move; with a base, `baselineState` says what is new. Files are named from the repository's root (`%SRCROOT%`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from runctl import __version__, rules
from runctl.errors import RunctlError
from runctl.facts import Finding
from runctl.preflight import Report
from runctl.reporting import _places
from runctl.reporting._marks import marks
from runctl.team.waivers import Waiver

if TYPE_CHECKING:
    from runctl.base import Comparison

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
FINGERPRINT = "runctl/v1"
_LEVELS = {"error": "error", "warning": "warning", "note": "note"}


def render(
    reports: Sequence[Report], unreadable: Sequence[RunctlError] = (), comparison: Comparison | None = None
) -> str:
    asked = {rule for report in reports for rule in (*report.coverage.checked, *report.coverage.not_checked)}
    asked |= {finding.rule for report in reports for finding in report.findings}
    known = {identity: rule for identity, rule in rules.known().items() if identity in asked}
    index = {identity: number for number, identity in enumerate(known)}
    new = {id(finding) for finding in comparison.new} if comparison else set()
    results = []
    for report in reports:
        named = marks(report)
        for finding in report.findings:
            result = _result(finding, index, named)
            if comparison is not None:
                result["baselineState"] = "new" if id(finding) in new else "unchanged"
            results.append(result)
        for finding, waiver in report.waived:
            results.append({**_result(finding, index, named), "suppressions": [_suppression(waiver)]})
    driver = {"name": "runctl", "version": __version__, "semanticVersion": __version__}
    run = {
        "tool": {"driver": {**driver, "rules": [_rule(rule) for rule in known.values()]}},
        "invocations": [_invocation(unreadable)],
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {"%SRCROOT%": {"description": {"text": "the root of the repository"}}},
        "results": results,
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False)


def _rule(rule: rules.Rule) -> dict[str, Any]:
    title = rule.title or rule.id
    full = rule.why or title
    page = _places.page(rule.id)
    return {
        "id": rule.id,
        "shortDescription": {"text": title},
        "fullDescription": {"text": full},
        "help": {"text": rule.page, "markdown": rule.page.partition("\n")[2].strip() or title},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        "properties": {"tags": [rule.id[:2]], "problem.severity": _problem(rule.severity)},
    } | ({"helpUri": page} if page else {})


def _problem(severity: str) -> str:
    """GitHub's word for a severity."""
    return "recommendation" if severity == "note" else severity


def _result(finding: Finding, index: Mapping[str, int], named: Mapping[int, str]) -> dict[str, Any]:
    text = finding.message + (f"\nfix: {finding.fix}" if finding.fix else "")
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "level": _LEVELS[finding.severity or "error"],
        "message": {"text": text},
        "locations": [{"physicalLocation": _location(finding)}],
        "partialFingerprints": {FINGERPRINT: named[id(finding)]},
    }
    if finding.rule in index:
        result["ruleIndex"] = index[finding.rule]
    if finding.key:
        result["properties"] = {"key": finding.key}
    return result


def _location(finding: Finding) -> dict[str, Any]:
    region = {"startLine": finding.line or 1} | ({"startColumn": finding.column} if finding.column else {})
    name = _places.in_repository(finding.file or "")
    if Path(name).is_absolute() or name.startswith("../"):
        return {"artifactLocation": {"uri": Path(finding.file or "").resolve().as_uri()}, "region": region}
    return {
        "artifactLocation": {"uri": quote(name.encode("utf-8", "surrogateescape")), "uriBaseId": "%SRCROOT%"},
        "region": region,
    }


def _suppression(waiver: Waiver) -> dict[str, Any]:
    kind = "inSource" if waiver.where == "config" else "external"
    return {"kind": kind, "justification": waiver.reason}


def _invocation(unreadable: Sequence[RunctlError]) -> dict[str, Any]:
    if not unreadable:
        return {"executionSuccessful": True}
    told = [{"level": "error", "message": {"text": error.message}} for error in unreadable]
    return {"executionSuccessful": False, "toolExecutionNotifications": told}
