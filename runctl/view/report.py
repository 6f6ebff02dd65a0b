"""A preflight report, an estimate and a rule's page on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from runctl import view

if TYPE_CHECKING:
    from runctl.preflight import Report
    from runctl.reporting.text import Line


def report(reports: Sequence[Report]) -> None:
    """Print reports for people: verdict, findings, estimates, coverage."""
    from runctl.reporting import text

    styled(text.lines(reports))


def styled(lines: Iterable[Line]) -> None:
    """Print lines of (style, text) spans on stdout."""
    from rich.text import Text

    console = view.out()
    for line in lines:
        shown = Text()
        for style, part in line:
            shown.append(part, style=style or None)
        console.print(shown)
