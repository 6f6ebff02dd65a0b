"""Runs as a person sees them: the table, one run's page, the live display of a run that is followed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from runctl import view
from runctl.status import RunStatus
from runctl.units import format_bytes, format_count, format_duration, format_usd
from runctl.view import account, details
from runctl.view.details import MISSING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from runctl.page import Page

T = TypeVar("T")
STATE_STYLES = {"succeeded": "good", "failed": "bad", "killed": "bad", "lost": "bad", "stalled": "warn"}
STATE_STYLES |= {"stopped": "warn", "stopping": "warn", "running": "name"}
_LINE_SECONDS = 10.0
_PLAIN_WIDTH = 120
_UNLIMITED = 10_000  # a name is never cut
_REASON_WIDTH = 16
_GAP = 3  # between two columns
COLUMNS = ("run", "state", "step", "ETA", "loss", "rate", "memory", "checkpoint", "heartbeat", "cost", "reason")
_ALWAYS = ("run", "state", "step")
_HIDE_FIRST = ("cost", "rate", "memory", "loss", "checkpoint", "heartbeat", "ETA")


def table(found: Sequence[RunStatus]) -> None:
    """The runs on stdout, with the columns that fit and say something; elsewhere than on a terminal one line each."""
    from rich.console import Console
    from rich.theme import Theme

    console = view.out()
    if console.is_terminal:
        console.print(_grid(found, console.width))
        return
    width = console.width if "COLUMNS" in os.environ else _PLAIN_WIDTH
    grid = _grid(found, width, one_line=True)
    Console(theme=Theme(view.STYLES), highlight=False, width=_UNLIMITED).print(grid)


def watch_table(snapshots: Iterable[Sequence[RunStatus]]) -> None:
    """The table, replaced in place on a terminal, printed again and again elsewhere."""
    from rich.live import Live

    console = view.out()
    if not console.is_terminal:
        for found in snapshots:
            table(found)
        return
    with Live(console=console, auto_refresh=False) as live:
        for found in _cleared(console, snapshots):
            live.update(_grid(found, console.width), refresh=True)


def follow(snapshots: Iterable[Page]) -> Page | None:
    """Show a run live on stderr until the snapshots end; returns the last one. Elsewhere than on a terminal, a line
    now and then."""
    from rich.live import Live

    console = view.err()
    last: Page | None = None
    if not console.is_terminal:
        shown, said = float("-inf"), ""
        for last in snapshots:
            key = f"{last.status.state} {last.metrics_step}"
            if time.monotonic() - shown >= _LINE_SECONDS or key != said:
                console.print(_line(last.status))
                shown, said = time.monotonic(), key
        return last
    with Live(console=console, auto_refresh=False, transient=True) as live:
        for last in _cleared(console, snapshots):
            live.update(_live(last), refresh=True)
    return last


def _cleared(console: Console, snapshots: Iterable[T]) -> Iterator[T]:
    """The snapshots; the screen is cleared where its size has changed, as what it showed was wrapped anew."""
    size = console.size
    for found in snapshots:
        if console.size != size:
            size = console.size
            console.clear()
        yield found


def page(found: Page) -> None:
    """One run's page on stdout."""
    from rich.console import Group

    view.out().print(Group(*_page(found)))


def _grid(found: Sequence[RunStatus], width: int, *, one_line: bool = False) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    rows = [_cells(entry) for entry in found]
    columns = [name for name in COLUMNS if name in _ALWAYS or any(row[name] not in ("", MISSING) for row in rows)]
    for hidden in (*_HIDE_FIRST, ""):
        needed = sum(_GAP + max([len(name), *(len(row[name]) for row in rows)]) for name in columns if name != "reason")
        if needed + (_REASON_WIDTH if "reason" in columns else 0) > width and hidden in columns:
            columns.remove(hidden)
    for row in rows if one_line else []:
        row["reason"] = _cut(row["reason"], max(_REASON_WIDTH, width - needed))
    grid = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for column in columns:
        text = column in ("run", "state", "reason")
        grid.add_column(
            column, justify="left" if text else "right", overflow="fold", no_wrap=column not in ("run", "reason")
        )
    for entry, row in zip(found, rows, strict=True):
        styles = {"run": "name", "state": STATE_STYLES.get(entry.state, "")}
        grid.add_row(*(Text(row[column], style=styles.get(column, "")) for column in columns))
    return grid


def _cut(words: str, width: int) -> str:
    line = " ".join(words.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _cells(entry: RunStatus) -> dict[str, str]:
    return {
        "run": entry.run,
        "state": entry.state,
        "step": _progress(entry),
        "ETA": _eta(entry) or MISSING,
        "loss": MISSING if entry.loss is None else f"{entry.loss:.4g}",
        "rate": _rate(entry),
        "memory": MISSING if entry.memory_bytes is None else format_bytes(entry.memory_bytes),
        "checkpoint": details.age(entry.checkpoint_age_seconds),
        "heartbeat": details.age(entry.heartbeat_age_seconds) if entry.active else MISSING,
        "cost": MISSING if entry.cost_usd is None else format_usd(entry.cost_usd),
        "reason": _reason(entry),
    }


def _progress(entry: RunStatus) -> str:
    if entry.step is None:
        return MISSING
    if not entry.total_steps:
        return f"{entry.step:,}"
    return f"{entry.step:,}/{entry.total_steps:,} {100 * (entry.progress or 0):.0f}%"


def _eta(entry: RunStatus) -> str:
    """When the run will have done its last step; "" where that cannot be said, or it has."""
    if not entry.active or not entry.eta_seconds:
        return ""
    return "under 1s" if entry.eta_seconds < 1 else format_duration(entry.eta_seconds)


def _rate(entry: RunStatus) -> str:
    """Examples, else steps, per second; of a run that is over, nothing: the last seconds say little of the whole."""
    if not entry.active:
        return MISSING
    if entry.examples_per_second is not None:
        return f"{format_count(entry.examples_per_second)} ex/s"
    return MISSING if entry.steps_per_second is None else f"{entry.steps_per_second:.3g} steps/s"


def _reason(entry: RunStatus) -> str:
    troubles = [f"{name}: {text}" for name, text in entry.tracking.items() if str(text).startswith("failed")]
    troubles += [entry.guard] if entry.guard and entry.guard not in entry.reason else []
    words = [entry.reason or (entry.message if entry.active else ""), *troubles]
    return "; ".join(word for word in words if word)


def _line(entry: RunStatus) -> str:
    """One plain line on a run that is followed without a terminal."""
    from rich.markup import escape

    parts = [entry.run, entry.state, _progress(entry)]
    if entry.phase and entry.active and entry.phase != "training":
        parts.append(entry.phase)
    if entry.loss is not None:
        parts.append(f"loss {entry.loss:.4g}")
    parts.append(_rate(entry))
    if _eta(entry):
        parts.append(f"ETA {_eta(entry)}")
    if _reason(entry):
        parts.append(_reason(entry))
    return escape(" · ".join(part for part in parts if part != MISSING))


def _live(found: Page) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    entry = found.status
    bar = Table.grid(padding=(0, 1))
    eta = f"ETA {_eta(entry)}" if _eta(entry) else entry.phase or ""
    if entry.step is not None or entry.task != "command":
        bar.add_row(ProgressBar(total=1.0, completed=entry.progress or 0.0, width=40), _progress(entry), eta)
    parts: list[RenderableType] = [_title(entry), bar, *(Text(line, style="dim") for line in details.own(found))]
    parts += [Text(" · ".join(facts), style="dim")] if (facts := _facts(entry)) else []
    if found.metrics:
        parts += details.metrics(found)
    return Group(*parts, Text("Ctrl-C leaves the run running", style="dim"))


def _title(entry: RunStatus) -> RenderableType:
    from rich.text import Text

    title = Text(entry.run, style="name")
    title.append("  ")
    title.append(entry.state, style=STATE_STYLES.get(entry.state, ""))
    if entry.attempt > 1:
        title.append(f"  attempt {entry.attempt}", style="dim")
    if _reason(entry):
        title.append(f"  {_reason(entry)}")
    return title


def _facts(entry: RunStatus) -> list[str]:
    facts = [] if entry.loss is None else [f"loss {entry.loss:.4g}"]
    facts += [] if _rate(entry) == MISSING else [_rate(entry)]
    facts += [] if entry.memory_bytes is None else [format_bytes(entry.memory_bytes)]
    facts += [entry.device] if entry.device else []
    facts += [entry.data_source] if entry.data_source else []
    if entry.checkpoint_step is not None:
        facts.append(f"checkpoint at step {entry.checkpoint_step:,}, {details.age(entry.checkpoint_age_seconds)}")
    elif entry.active and entry.task != "command":
        facts.append("no checkpoint yet")
    if entry.heartbeat_age_seconds is not None and entry.active:
        facts.append(f"heartbeat {details.age(entry.heartbeat_age_seconds)}")
    return facts


def _page(found: Page) -> Iterable[RenderableType]:
    from rich.text import Text

    entry = found.status
    yield _title(entry)
    if entry.failure and found.status.state == "failed":
        yield Text(f"  class {details.kind_words(entry.failure)}: runctl why {entry.run}", style="bad")
    if entry.step is not None or (entry.task != "command" and entry.active):
        yield Text(f"  step {_progress(entry)}" + (f", ETA {_eta(entry)}" if _eta(entry) else ""))
    for line in details.own(found):
        yield Text(f"  {line}")
    if facts := _facts(entry):
        yield Text("  " + " · ".join(facts))
    if entry.seconds is not None:
        cost = "unknown" if entry.cost_usd is None else format_usd(entry.cost_usd)
        yield Text(f"  time {format_duration(entry.seconds)} in this attempt, cost {cost}")
    for name, word in entry.tracking.items():
        yield Text(f"  {name}: {word}", style="warn" if str(word).startswith("failed") else "")
    if found.digest:
        code = f", code {found.commit[:10]}" if found.commit else ""
        yield Text(f"  config {found.config_file} (digest {found.digest[:12]}{code})", style="dim")
    for allowance in found.allowed:
        yield Text(f"  allowed {allowance.get('rule')}: {allowance.get('because')}", style="warn")
    if found.metrics:
        yield from details.metrics(found)
    if len(found.attempts) > 1:
        yield from details.attempts(found)
    if found.checkpoints:
        yield from details.checkpoints(found)
    yield from details.guards(found)
    if found.account:
        yield from account.rows(found.account)
    yield Text("\nwhere it lies", style="bold")
    for name, path in found.paths.items():
        yield Text(f"  {name.replace('_', ' '):<12} {path}")
    yield Text("\nnext", style="bold")
    for command in found.commands:
        yield Text(f"  {command}")


def request(data: dict[str, Any]) -> None:
    """What `launch --dry-run` would start, on stdout."""
    from rich.text import Text

    asked = data["request"]
    console = view.out()
    for name in ("backend", "run", "run_dir", "cwd", "log"):
        console.print(Text(f"{name.replace('_', ' '):<12} {asked[name]}"))
    for name in ("supervisor", "trainer"):
        console.print(Text(f"{name:<12} {' '.join(asked[name])}"))
    timeout = asked["timeout_seconds"]
    console.print(Text(f"{'timeout':<12} {'none' if timeout is None else format_duration(timeout)}"))
    console.print(Text(f"{'digest':<12} {data['digest']}"))


def waiting(run: str) -> Any:
    """A function that shows, on stderr, what a run does before its first step; each new phase gets a line."""
    said: list[str] = []

    def look(entry: RunStatus) -> None:
        words = f"{entry.phase}: {entry.message}" if entry.message else entry.phase or entry.state
        if said[-1:] != [words] and not (said and entry.message and not sys.stderr.isatty()):
            said.append(words)
            view.err().print(f"{run}: {words}", style="dim", markup=False)

    return look
