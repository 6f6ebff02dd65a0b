"""Reports as GitHub annotations: `::error file=…,line=…,col=…,title=CK101::message`, worst first.

GitHub shows about ten of each kind for a step, so the order matters.
"""

from __future__ import annotations

from collections.abc import Sequence

from runctl.facts import Finding
from runctl.preflight import ORDER, Report

_LEVELS = {"error": "error", "warning": "warning", "note": "notice"}


def render(reports: Sequence[Report]) -> str:
    findings = [finding for report in reports for finding in report.findings]
    findings.sort(key=lambda finding: ORDER[finding.severity or "error"])
    return "\n".join(_line(finding) for finding in findings)


def _line(finding: Finding) -> str:
    place = {"file": finding.file, "line": finding.line, "col": finding.column, "title": finding.rule}
    properties = ",".join(f"{key}={_property(str(value))}" for key, value in place.items() if value is not None)
    text = finding.message + (f"\n{finding.fix}" if finding.fix else "")
    return f"::{_LEVELS[finding.severity or 'error']} {properties}::{_escape(text)}"


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escape(text).replace(":", "%3A").replace(",", "%2C")
