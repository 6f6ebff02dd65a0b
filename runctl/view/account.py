"""A run's account on the terminal: what was estimated beside what happened."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from runctl.units import format_bytes, format_duration, format_short, format_usd

if TYPE_CHECKING:
    from rich.console import RenderableType

_ROWS: dict[str, tuple[str, Callable[[float], str]]] = {
    "time_seconds": ("time", format_duration),
    "cost_usd": ("cost", format_usd),
    "step_seconds": ("a step", format_short),
    "memory_bytes": ("memory", format_bytes),
}


def rows(account: dict[str, Any]) -> Iterable[RenderableType]:
    """A small table; nothing where nothing can be compared."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for column in ("account", "estimated", "actual", ""):
        grid.add_column(column)
    for key, (name, show) in _ROWS.items():
        row = account.get(key)
        if not row or "estimated" not in row:
            continue
        estimated = row["estimated"]
        span = f"{show(estimated['likely'])} ({show(estimated['low'])} to {show(estimated['high'])})"
        verdict = row.get("verdict")
        said = {"inside": "as estimated", "below": "less than estimated", "above": "more than estimated"}.get(verdict)
        said = said or ("resident, with Python and torch" if row.get("resident") else "")
        grid.add_row(name, span, show(row["actual"]), Text(said, style=_STYLE.get(verdict or "", "dim")))
    if grid.row_count:
        yield Text("")
        yield grid
    step, measured = account.get("step_seconds", {}), account.get("calibration", {})
    if measured and step.get("estimated", {}).get("likely"):
        factor = step["actual"] / step["estimated"]["likely"]
        yield Text(
            f"  calibration: {measured['steps']:,} steps on {measured['device']}; a step took {factor:.2f} × what was "
            "taken for likely, and the next estimate starts from that",
            style="dim",
        )


_STYLE = {"inside": "good", "below": "", "above": "warn"}


def speed(told: dict[str, Any]) -> Iterable[RenderableType]:
    """How fast it trains, against what the device can do; the likely cause where that is little."""
    from rich.text import Text

    from runctl.estimate import throughput

    for line in throughput.words(told):
        yield Text(f"  {line}", style="warn" if line.startswith("likely cause") else "")
