"""A preflight report, an estimate and a rule's page on the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from runctl import view

if TYPE_CHECKING:
    from runctl.base import Comparison
    from runctl.facts import Finding
    from runctl.preflight import Report
    from runctl.reporting.text import Line


def report(reports: Sequence[Report], comparison: Comparison | None = None) -> None:
    """Print reports for people: verdict, findings, estimates, coverage; against a base what differs."""
    from runctl.reporting import text

    styled(text.lines(reports, comparison))


def compact(findings: Iterable[Finding]) -> None:
    """Each warning on one line of stderr: what is known before a launch that goes ahead."""
    for finding in findings:
        if finding.severity == "warning":
            words = f"warning {finding.rule}: {finding.message} ({finding.where()})"
            view.err().print(words, style="warn", markup=False)


def styled(lines: Iterable[Line], *, prose: bool = False) -> None:
    """Print lines of (style, text) spans: on stdout, or on stderr what is `prose`. Where nobody looks, that is in a
    pipe or a file, rich is not even loaded: it takes longer than an estimate."""
    stream = sys.stderr if prose else sys.stdout
    if not stream.isatty() and not os.environ.get("FORCE_COLOR"):
        stream.writelines(view.writable("".join(part for _, part in line)) + "\n" for line in lines)
        return
    from rich.text import Text

    console = view.err() if prose else view.out()
    for line in lines:
        shown = Text()
        for style, part in line:
            shown.append(view.writable(part), style=style or None)
        console.print(shown)
