"""Reports as GitHub annotations: `::error file=…,line=…,col=…,title=CK101::message`, worst first.

GitHub shows about ten of each kind for a step, so the order matters.
"""

from __future__ import annotations

from collections.abc import Sequence

from runctl.errors import RunctlError
from runctl.facts import Finding
from runctl.preflight import ORDER, Report
from runctl.reporting.text import refusals

_LEVELS = {"error": "error", "warning": "warning", "note": "notice"}


def render(reports: Sequence[Report], unreadable: Sequence[RunctlError] = ()) -> str:
    lines = [f"::error title=runctl::{_escape(error.message)}" for error in unreadable]
    findings = [finding for report in reports for finding in report.findings]
    findings.sort(key=lambda finding: ORDER[finding.severity or "error"])
    lines += [_line(finding) for finding in findings]
    return "\n".join(lines + [_refused(report) for report in reports if report.at_launch])


def _refused(report: Report) -> str:
    text = _escape(f"would be refused at launch here: {refusals(report.at_launch)}")
    return f"::notice file={_property(report.path)},title=launch::{text}"


def _line(finding: Finding) -> str:
    place = {"file": finding.file, "line": finding.line, "col": finding.column, "title": finding.rule}
    properties = ",".join(f"{key}={_property(str(value))}" for key, value in place.items() if value is not None)
    text = finding.message + (f"\n{finding.fix}" if finding.fix else "")
    return f"::{_LEVELS[finding.severity or 'error']} {properties}::{_escape(text)}"


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escape(text).replace(":", "%3A").replace(",", "%2C")
