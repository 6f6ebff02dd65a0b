"""The table of runs: the columns that fit and say something; elsewhere than on a terminal one line for each run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from runctl import view
from runctl.shown import plain
from runctl.status import RunStatus
from runctl.view import cells
from runctl.view.cells import CELLS, MISSING, STATE_STYLES, TEXT

if TYPE_CHECKING:
    from rich.table import Table

_WORK = ("step", "ETA", "loss", "rate", "memory", "checkpoint", "heartbeat", "attempts", "time", "cost")
USUAL = ("run", "state", *_WORK, "ended", "reason")
_ALWAYS = ("run", "state", "step")
_HIDE_FIRST = ("memory", "cost", "checkpoint", "ended", "rate", "heartbeat", "time", "loss", "attempts", "ETA")
_PLAIN_WIDTH = 120
_NOTHING = ("", MISSING, "$0.00")  # a column of these says nothing
_REASON_WIDTH = 16
_GAP = 3  # between two columns of a terminal's table
_MANY = 200  # rows, above which a terminal too gets plain lines: a table of 10,000 takes seconds to lay out

Configs = Mapping[str, Mapping[str, Any]]  # by run


def table(found: Sequence[RunStatus], columns: Sequence[str] = (), settings: Configs | None = None) -> None:
    """The runs on stdout. `columns` are shown as they are asked for; without them those that fit. A column with a dot
    is a setting, from `settings` by run."""
    if not _terminal():
        width = int(os.environ["COLUMNS"]) if os.environ.get("COLUMNS", "").isdigit() else _PLAIN_WIDTH
        _lines(found, columns, settings, width)
        return
    console = view.out()
    if len(found) > _MANY:
        _lines(found, columns, settings, console.width)
    else:
        console.print(grid(found, console.width, columns, settings))


def grid(found: Sequence[RunStatus], width: int, columns: Sequence[str] = (), settings: Configs | None = None) -> Table:
    """The table of a terminal: a long reason is folded."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown, _ = _fitting(found, columns, settings, width, _GAP)
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for name in shown:
        made.add_column(name, justify=_side(name), overflow="fold", no_wrap=name not in ("run", "reason"))
    for entry, row in zip(found, zip(*shown.values(), strict=True), strict=True):
        styles = {"run": "name", "state": STATE_STYLES.get(entry.state, "")}
        made.add_row(*(Text(cell, style=styles.get(name, "")) for name, cell in zip(shown, row, strict=True)))
    return made


def names(found: Iterable[RunStatus]) -> None:
    """Only the names, for scripts."""
    sys.stdout.write("".join(f"{plain(entry.run)}\n" for entry in found))


def _lines(found: Sequence[RunStatus], columns: Sequence[str], settings: Configs | None, width: int) -> None:
    shown, widths = _fitting(found, columns, settings, width, 2)
    if "reason" in shown and not columns:
        rest = max(_REASON_WIDTH, width - sum(widths[name] + 2 for name in shown if name != "reason"))
        shown["reason"] = [cells.one_line(words, rest) for words in shown["reason"]]
    last = [*shown][-1]
    padded = []
    for name, column in shown.items():
        if name == last and name in TEXT:
            padded.append([name, *column])
            continue
        side = str.ljust if _side(name) == "left" else str.rjust
        padded.append([side(cell, widths[name]) for cell in (name, *column)])
    lines = ("  ".join(row).rstrip() for row in zip(*padded, strict=True))
    sys.stdout.write(plain("".join(f"{line}\n" for line in lines)))


def _fitting(
    found: Sequence[RunStatus], columns: Sequence[str], settings: Configs | None, width: int, gap: int
) -> tuple[dict[str, list[str]], dict[str, int]]:
    """The columns that say something and fit, by name, and how wide each is. By columns and not by rows: of ten
    thousand runs, that is most of the time of a table."""
    shown: dict[str, list[str]] = {}
    for name in columns or USUAL:
        cell = CELLS.get(name) or partial(_setting, name, settings or {})
        shown[name] = [cell(entry) for entry in found]
    if not columns:
        for name in [name for name in shown if name not in _ALWAYS and not set(shown[name]).difference(_NOTHING)]:
            del shown[name]
    widths = {name: max([len(name), *map(len, column)]) for name, column in shown.items()}
    for hidden in () if columns else _HIDE_FIRST:
        needed = sum(gap + widths[name] for name in shown if name != "reason")
        if needed + (_REASON_WIDTH if "reason" in shown else 0) > width:
            shown.pop(hidden, None)
    return shown, widths


def _setting(name: str, settings: Configs, entry: RunStatus) -> str:
    from runctl.status.listing import value

    return cells.value(value(settings.get(entry.run, {}), name))


def _side(name: str) -> Any:
    return "left" if name in TEXT else "right"


def _terminal() -> bool:
    """Whether rich would take stdout for a terminal; asked without loading it where it is not one."""
    forced = any(os.environ.get(name) for name in ("FORCE_COLOR", "TTY_COMPATIBLE"))
    return (forced or sys.stdout.isatty()) and view.out().is_terminal
