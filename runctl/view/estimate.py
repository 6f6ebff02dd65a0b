"""An estimate on the terminal: the numbers of the report, and the memory by category."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runctl.units import format_bytes
from runctl.view.report import styled

if TYPE_CHECKING:
    from runctl.preflight import Report
    from runctl.reporting.text import Line


def estimate(report: Report) -> None:
    """Print the estimates of one config with the basis of each."""
    from runctl.reporting import text

    lines: list[Line] = [[("name", report.path)], *text.estimate_lines(report)]
    memory = report.facts.get("estimate.memory")
    if memory is not None:
        lines.append([])
        lines.append([("dim", "  memory by category, likely:")])
        lines += [[("", f"    {name:<14} {format_bytes(size):>10}")] for name, size in memory.parts.items()]
    styled(lines)
