"""What patterns read from a program's output, as a table."""

from __future__ import annotations

from runctl import view
from runctl.output.trial import Trial
from runctl.units import counted

_MOST = 12  # lines that are shown, half of them from the begin and half from the end
_LEFT = 5


def show(found: Trial) -> None:
    """The lines that were read, then what they add up to, then examples of those that were not."""
    from rich.markup import escape
    from rich.text import Text

    half = len(found.rows) if len(found.rows) <= _MOST else _MOST // 2
    rows = [
        [f"{number:,}", Text(row.by), Text("  ".join(f"{name} {value:g}" for name, value in row.values.items()))]
        for number, row in (*found.rows[:half], *found.rows[max(half, len(found.rows) - half) :])
    ]
    if half < len(found.rows):
        rows.insert(half, ["…", "", f"{len(found.rows) - 2 * half:,} more"])
    if rows:
        view.table(["line", "pattern", "what it says"], rows)
    view.say(f"{len(found.rows):,} of {counted(found.lines, 'line')} read")
    end = [f"{name} {value:,}" if isinstance(value, int) else f"{name} {value:g}" for name, value in _known(found)]
    if end:
        view.say(f"at its end: {escape(', '.join(end))}")
    if found.left:
        view.say(f"not read, with a number in them: {counted(len(found.left), 'line')}")
        for number, text in found.left[:_LEFT]:
            view.say(f"  {number:,}: {escape(text)}")


def _known(found: Trial) -> list[tuple[str, int | float]]:
    return [(name, value) for name, value in found.end.items() if isinstance(value, int | float)]
