"""What a person sees: the only package that knows rich. Data goes to stdout, prose to stderr.

Colours are words here and nowhere else: `good`, `bad`, `warn`, `dim`, `name`.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from runctl.errors import ConfigError, RunctlError
from runctl.light import pattern

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

STYLES = {"good": "green", "bad": "bold red", "warn": "yellow", "dim": "dim", "name": "bold cyan", "note": "blue"}
SCHEMA_VERSION = 1
_UNSEEN = pattern(r"[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")  # JSON escapes only what is below a space


@cache
def out() -> Console:
    """The console of data."""
    from rich.theme import Theme

    from runctl.view.console import PlainConsole

    return PlainConsole(theme=Theme(STYLES), highlight=False, emoji=False, soft_wrap=not sys.stdout.isatty())


@cache
def err() -> Console:
    """The console of prose."""
    from rich.theme import Theme

    from runctl.view.console import PlainConsole

    return PlainConsole(
        theme=Theme(STYLES), highlight=False, emoji=False, stderr=True, soft_wrap=not sys.stderr.isatty()
    )


def say(text: str) -> None:
    """One line of prose on stderr; `text` may carry markup of STYLES."""
    err().print(text)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, right: Sequence[str] = ()) -> None:
    """A table on stdout; `right` names the columns of numbers. Ids and names are never cut."""
    from rich import box
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        grid.add_row(
            *[cell if hasattr(cell, "__rich__") or hasattr(cell, "__rich_console__") else str(cell) for cell in row]
        )
    out().print(grid)


@contextmanager
def progress(description: str, unit: str = "") -> Iterator[Progress]:
    """A progress bar on stderr, gone when done; the caller adds tasks to it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err(), transient=True) as bar:
        yield bar


def print_json(data: dict[str, Any]) -> None:
    """Data for programs: indented JSON on stdout, with a schema_version first."""
    sys.stdout.write(as_json(data, indent=2) + "\n")


def as_json(data: dict[str, Any], indent: int | None = None) -> str:
    """JSON that any program reads, whatever stands in a run's files: NaN and infinite numbers become null, what is no
    character is escaped."""
    whole = {"schema_version": SCHEMA_VERSION, **data}
    try:
        text = json.dumps(whole, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(whole), indent=indent, ensure_ascii=False, allow_nan=False)
    return writable(_UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def writable(text: str) -> str:
    """Text that any file takes: a byte of a file's name that is not UTF-8 becomes `\\udcff`, which JSON reads back."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def print_error(error: RunctlError) -> None:
    """An error in three beats on stderr: what and where, each problem, what to do."""
    from rich.markup import escape as escaped

    def escape(text: str) -> str:
        return writable(escaped(text))

    console = err()
    if isinstance(error, ConfigError):
        for problem in error.problems:
            where = f"{problem.where()}: " if problem.where() else ""
            console.print(f"{escape(where)}[bad]error[/bad]: {escape(problem.message)} [dim]({problem.rule})[/dim]")
            if problem.hint:
                console.print(f"  [note]hint[/note]: {escape(problem.hint)}")
    else:
        console.print(f"[bad]error[/bad]: {escape(error.message)}")
    if error.hint:
        console.print(f"[note]hint[/note]: {escape(error.hint)}")
