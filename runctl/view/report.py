"""A preflight report, an estimate and a rule's page on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from runctl import view

if TYPE_CHECKING:
    from rich.console import Console

    from runctl.facts import Finding
    from runctl.preflight import Report
    from runctl.reporting.text import Line


def report(reports: Sequence[Report]) -> None:
    """Print reports for people: verdict, findings, estimates, coverage."""
    from runctl.reporting import text

    styled(text.lines(reports))


def compact(findings: Iterable[Finding]) -> None:
    """Each warning on one line of stderr: what is known before a launch that goes ahead."""
    for finding in findings:
        if finding.severity == "warning":
            words = f"warning {finding.rule}: {finding.message} ({finding.where()})"
            view.err().print(words, style="warn", markup=False)


def styled(lines: Iterable[Line], console: Console | None = None) -> None:
    """Print lines of (style, text) spans, on stdout unless `console` is another."""
    from rich.text import Text

    console = console or view.out()
    for line in lines:
        shown = Text()
        for style, part in line:
            shown.append(part, style=style or None)
        console.print(shown)
