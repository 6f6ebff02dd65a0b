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


LABEL = 14  # letters of the longest label of a line, `  parameters `
MIN_WIDTH = 40


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
        if line and line[0][1].endswith("| "):  # of a file: a caret stands below it
            console.print(shown, no_wrap=True, overflow="ellipsis")
            continue
        indent = _indent(line)
        rows = shown.wrap(console, max(MIN_WIDTH, console.width - indent)) if indent else [shown]
        for number, row in enumerate(rows):
            console.print(Text(" " * indent if number else "") + row)


def _indent(line: Line) -> int:
    """How far the second row of a long line is moved in: to below the text that follows a label such as `  why: `."""
    first = line[0][1] if line else ""
    if not first.startswith("  "):
        return 0
    if len(line) > 1 and len(first) <= LABEL:
        return len(first)
    return len(first) - len(first.lstrip()) + 2
