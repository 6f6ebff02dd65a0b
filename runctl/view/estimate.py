"""An estimate on the terminal: the numbers of the report, and the memory by category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runctl import view
from runctl.units import format_bytes, format_duration, format_usd
from runctl.view.report import styled

if TYPE_CHECKING:
    from runctl.estimate.fits import Row
    from runctl.preflight import Report
    from runctl.reporting.text import Line


def estimate(report: Report) -> None:
    """Print the estimates of one config with the basis of each, and what would make it fit if it does not."""
    from runctl.estimate import fits
    from runctl.reporting import text

    lines: list[Line] = [[("name", report.path)], *text.estimate_lines(report)]
    memory = report.facts.get("estimate.memory")
    if memory is not None:
        lines += [[], [("dim", f"  memory by category, likely, in {_phase(memory.phase)}:")]]
        lines += [[("", f"    {name:<17} {format_bytes(size):>10}")] for name, size in memory.parts.items()]
        changes = fits.changes(memory.request)
        if not memory.fits:
            lines += [[], [("warn", "  one change that fits:" if changes else "  no single change makes it fit")]]
        for change in changes:
            found = change.memory
            span = f"{format_bytes(found.likely)} ({format_bytes(found.low)} to {format_bytes(found.high)})"
            lines.append([("", f"    {change}"), ("dim", f"  {span}")])
    lines += _time(report)
    lines += _at_risk(report)
    styled(lines)
    for note in report.facts.get("calibration.notes", ()):
        view.err().print(note, style="warn", markup=False)


def _time(report: Report) -> list[Line]:
    """Of what the time is made."""
    time = report.facts.get("estimate.time")
    if time is None or not time.parts:
        return []
    shown = [(name, *map(format_duration, part)) for name, part in time.parts.items() if part[2]]
    lines: list[Line] = [[], [("dim", "  time by part, likely:")]]
    return lines + [
        [("", f"    {name:<17} {likely:>10}"), ("dim", f"  {low} to {high}")] for name, low, likely, high in shown
    ]


def _at_risk(report: Report) -> list[Line]:
    """What a death just before a checkpoint costs."""
    risk = report.facts.get("estimate.at_risk")
    if risk is None:
        return []
    text = format_duration(risk.seconds[1])
    if risk.usd and risk.usd[2]:
        text += f", {format_usd(risk.usd[1])}"
    return [[], [("", f"  at risk between two checkpoints: {text}"), ("dim", f"  {risk.words}")]]


def gpus(rows: Sequence[Row], left_out: Mapping[str, str]) -> None:
    """A table: the run on every GPU, and those that are `left_out` with why."""
    cells = [
        [
            row.gpu.name,
            format_bytes(row.gpu.usable_bytes),
            format_bytes(row.memory.likely),
            f"{format_bytes(row.memory.low)} to {format_bytes(row.memory.high)}",
            row.verdict,
            f"{row.largest_batch:,}" if row.largest_batch else "none",
        ]
        for row in rows
    ]
    view.table(
        ["GPU", "usable", "likely", "range", "", "largest batch"], cells, right=["usable", "likely", "largest batch"]
    )
    for why in dict.fromkeys(left_out.values()):
        names = ", ".join(name for name, its in left_out.items() if its == why)
        view.say(f"[dim]not shown: {names}: {why}[/dim]")


def traced(found: dict[str, Any]) -> None:
    """The trace made now, beside the shipped answer."""
    rows: list[list[str]] = [[name, format_bytes(size)] for name, size in found["parts"].items()]
    rows += [
        ["traced now", format_bytes(found["bytes"])],
        [f"shipped ({found['shipped_with']})", format_bytes(found["shipped_bytes"])],
    ]
    if "needed_bytes" in found:
        rows += [
            ["with the allocator's model", format_bytes(found["needed_bytes"])],
            ["reserved at most", format_bytes(found["reserved_bytes"])],
        ]
    view.table([f"trace of {found['seconds']} s, peak in {_phase(found['phase'])}", ""], rows, right=[""])
    view.say(f"[dim]shipped against traced: {found['difference']:+.2%}[/dim]")


def _phase(name: str) -> str:
    """`backward 1` → `the backward pass`."""
    words = {"pass": "the forward pass", "backward": "the backward pass", "optimizer": "the optimizer's step"}
    words |= {"evaluate": "a validation", "load": "loading, where the scales are measured"}
    return words.get(name.partition(" ")[0], name)
