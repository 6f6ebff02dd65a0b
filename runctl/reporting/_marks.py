"""Fingerprints of a report's findings: those of the baseline, which stay when lines move."""

from __future__ import annotations

from runctl.preflight import Report
from runctl.team import baseline


def marks(report: Report) -> dict[int, str]:
    """The fingerprint of every finding, waived ones too, by `id(finding)`."""
    root = report.facts.project.root if report.facts.project else None
    known = {id(finding): waiver.fingerprint for finding, waiver in report.waived if waiver.fingerprint}
    # The baseline counts what no waiver allows; a waiver must not renumber it.
    counted = [*report.findings, *(finding for finding, _ in report.waived if id(finding) in known)]
    found = {id(finding): mark for finding, mark in baseline.fingerprints(counted, root)}
    allowed = [finding for finding, _ in report.waived if id(finding) not in known]
    found |= {id(finding): mark for finding, mark in baseline.fingerprints(allowed, root)}
    return found | known
