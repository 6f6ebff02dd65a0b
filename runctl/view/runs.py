"""Runs as a person sees them: one run's page, the live display of a run that is followed, the table that is watched."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from runctl import view
from runctl.status import Listing, RunStatus
from runctl.units import counted, format_bytes, format_duration, format_usd
from runctl.view import account, cells, details, listing
from runctl.view.cells import MISSING, STATE_STYLES

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from runctl.page import Page

T = TypeVar("T")
_LINE_SECONDS = 10.0


def watch_table(snapshots: Iterable[tuple[Listing, Sequence[str], listing.Configs]]) -> None:
    """The table, replaced in place on a terminal, printed again and again elsewhere."""
    from rich.live import Live

    console = view.out()
    if not console.is_terminal:
        for found, columns, settings in snapshots:
            listing.table(found.shown, columns, settings)
        return
    with Live(console=console, auto_refresh=False) as live:
        for found, columns, settings in _cleared(console, snapshots):
            live.update(listing.grid(found.shown, console.width, columns, settings), refresh=True)


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


def _line(entry: RunStatus) -> str:
    """One plain line on a run that is followed without a terminal."""
    from rich.markup import escape

    parts = [entry.run, entry.state, cells.progress(entry)]
    if entry.phase and entry.active and entry.phase != "training":
        parts.append(entry.phase)
    if entry.loss is not None:
        parts.append(f"loss {entry.loss:.4g}")
    parts.append(cells.rate(entry))
    if cells.eta(entry):
        parts.append(f"ETA {cells.eta(entry)}")
    if cells.reason(entry):
        parts.append(cells.reason(entry))
    return escape(" · ".join(part for part in parts if part != MISSING))


def _live(found: Page) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    entry = found.status
    bar = Table.grid(padding=(0, 1))
    eta = f"ETA {cells.eta(entry)}" if cells.eta(entry) else entry.phase or ""
    if entry.step is not None or entry.task != "command":
        bar.add_row(ProgressBar(total=1.0, completed=entry.progress or 0.0, width=40), cells.progress(entry), eta)
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
    if cells.reason(entry):
        title.append(f"  {cells.reason(entry)}")
    return title


def _facts(entry: RunStatus) -> list[str]:
    facts = [] if entry.loss is None else [f"loss {entry.loss:.4g}"]
    facts += [] if cells.rate(entry) == MISSING else [cells.rate(entry)]
    facts += [] if entry.memory_bytes is None else [format_bytes(entry.memory_bytes)]
    facts += [entry.device] if entry.device else []
    facts += [entry.data_source] if entry.data_source else []
    if entry.checkpoint_step is not None:
        facts.append(f"checkpoint at step {entry.checkpoint_step:,}, {cells.age(entry.checkpoint_age_seconds)}")
    elif entry.active and entry.task != "command":
        facts.append("no checkpoint yet")
    if entry.heartbeat_age_seconds is not None and entry.active:
        facts.append(f"heartbeat {cells.age(entry.heartbeat_age_seconds)}")
    return facts


def _page(found: Page) -> Iterable[RenderableType]:
    from rich.text import Text

    entry = found.status
    yield _title(entry)
    if entry.failure:
        yield Text(f"  class {details.kind_words(entry.failure)}: runctl why {entry.run}", style="bad")
    if entry.step is not None or (entry.task != "command" and entry.active):
        yield Text(f"  step {cells.progress(entry)}" + (f", ETA {cells.eta(entry)}" if cells.eta(entry) else ""))
    for line in details.own(found):
        yield Text(f"  {line}")
    if facts := _facts(entry):
        yield Text("  " + " · ".join(facts))
    for remark in found.remarks:
        yield Text(f"  {remark}", style="warn")
    if entry.changed:
        yield Text(f"  config changed since the launch: {entry.changed}", style="warn")
    if entry.resume and not entry.resume["verified"]:
        yield Text(f"  doubtful: {entry.resume['words']}", style="bad")
    if entry.seconds is not None:
        cost = "unknown" if entry.cost_usd is None else format_usd(entry.cost_usd)
        whole = (
            ""
            if entry.attempt < 2 or entry.total_seconds is None
            else (f", {format_duration(entry.total_seconds)} in all {entry.attempt}")
        )
        yield Text(f"  time {format_duration(entry.seconds)} in this attempt{whole}, cost {cost}")
    for name, word in entry.tracking.items():
        yield Text(f"  {name}: {word}", style="warn" if str(word).startswith("failed") else "")
    yield from account.speed(found.throughput)
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
    if "supervisor" not in asked:  # a provider's request: all of it, as it would be sent
        for name, value in asked.items():
            console.print(Text(f"{name.replace('_', ' '):<22} {_written(value)}"))
        console.print(Text(f"{'digest':<22} {data['digest']}"))
        return
    for name in ("backend", "run", "run_dir", "cwd", "log"):
        console.print(Text(f"{name.replace('_', ' '):<12} {asked[name]}"))
    for name in ("supervisor", "trainer"):
        console.print(Text(f"{name:<12} {' '.join(asked[name])}"))
    timeout = asked["timeout_seconds"]
    console.print(Text(f"{'timeout':<12} {'none' if timeout is None else format_duration(timeout)}"))
    console.print(Text(f"{'digest':<12} {data['digest']}"))


def _written(value: Any) -> str:
    """A value of a request: text as it is, else as JSON; each step of an image and each file sent on a line."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and isinstance(value.get("files"), dict):
        sent = [f"\n    {format_bytes(size):>9}  {name}" for name, size in value["files"].items()]
        left = [f"\n    {'not sent':>9}  {name}: {why}" for name, why in value["left_out"].items()]
        return "".join([counted(value["count"], "file"), f", {format_bytes(value['bytes'])}", *sent, *left])
    if isinstance(value, list | tuple) and value and isinstance(value[0], dict):
        return "".join(f"\n    {json.dumps(entry)}" for entry in value)
    return json.dumps(value)


def waiting(run: str) -> Any:
    """A function that shows, on stderr, what a run does before its first step; each new phase gets a line."""
    said: list[str] = []

    def look(entry: RunStatus) -> None:
        words = f"{entry.phase}: {entry.message}" if entry.message else entry.phase or entry.reason or entry.state
        if said[-1:] != [words] and not (said and entry.message and not sys.stderr.isatty()):
            said.append(words)
            view.err().print(f"{run}: {words}", style="dim", markup=False)

    return look
