"""Reports as GitHub annotations: `::error file=…,line=…,col=…,title=CK101::message`, worst first.

GitHub shows ten of each kind for a step and drops the rest in silence. So what is new comes first, and where there
are more, the tenth says how many. Files are named from the repository's root.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from runctl.errors import RunctlError
from runctl.facts import Finding
from runctl.preflight import ORDER, Report
from runctl.reporting._places import in_repository
from runctl.reporting.text import refusals
from runctl.units import counted

if TYPE_CHECKING:
    from runctl.base import Comparison

MOST = 10
_LEVELS = {"error": "error", "warning": "warning", "note": "notice"}


def render(
    reports: Sequence[Report], unreadable: Sequence[RunctlError] = (), comparison: Comparison | None = None
) -> str:
    new = {id(finding) for finding in comparison.new} if comparison else set()
    findings = [finding for report in reports for finding in report.findings]
    findings.sort(key=lambda finding: (ORDER[finding.severity or "error"], id(finding) not in new))
    kinds: dict[str, list[str]] = {level: [] for level in _LEVELS.values()}
    kinds["error"] += [f"::error title=runctl::{_escape(error.message)}" for error in unreadable]
    for finding in findings:
        kinds[_LEVELS[finding.severity or "error"]].append(_line(finding))
    kinds["notice"] += [_refused(report) for report in reports if report.at_launch]
    return "\n".join(line for level, lines in kinds.items() for line in _most(level, lines))


def _most(level: str, lines: list[str]) -> Iterator[str]:
    if len(lines) <= MOST:
        yield from lines
        return
    yield from lines[: MOST - 1]
    more = counted(len(lines) - MOST + 1, f"more {level}")
    yield f"::{level} title=runctl::{more}, which GitHub would not show here: see the summary of this run"


def _refused(report: Report) -> str:
    text = _escape(f"would be refused at launch here: {refusals(report.at_launch)}")
    return f"::notice file={_property(in_repository(report.path))},title=launch::{text}"


def _line(finding: Finding) -> str:
    file = in_repository(finding.file) if finding.file else None
    place = {"file": file, "line": finding.line, "col": finding.column, "title": finding.rule}
    properties = ",".join(f"{key}={_property(str(value))}" for key, value in place.items() if value is not None)
    text = finding.message + (f"\n{finding.fix}" if finding.fix else "")
    return f"::{_LEVELS[finding.severity or 'error']} {properties}::{_escape(text)}"


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escape(text).replace(":", "%3A").replace(",", "%2C")
