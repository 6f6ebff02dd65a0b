"""Runs as a person sees them: the table, one run's page, the live display of a run that is followed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from runctl import view
from runctl.journal import COUNTS
from runctl.status import RunStatus
from runctl.supervisor.failures import INTERRUPTIONS
from runctl.units import counted, format_bytes, format_count, format_duration, format_usd
from runctl.view import account

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
_MISSING = "–"
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
    columns = [name for name in COLUMNS if name in _ALWAYS or any(row[name] not in ("", _MISSING) for row in rows)]
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
        "ETA": _eta(entry) or _MISSING,
        "loss": _MISSING if entry.loss is None else f"{entry.loss:.4g}",
        "rate": _rate(entry),
        "memory": _MISSING if entry.memory_bytes is None else format_bytes(entry.memory_bytes),
        "checkpoint": _age(entry.checkpoint_age_seconds),
        "heartbeat": _age(entry.heartbeat_age_seconds) if entry.active else _MISSING,
        "cost": _MISSING if entry.cost_usd is None else format_usd(entry.cost_usd),
        "reason": _reason(entry),
    }


def _progress(entry: RunStatus) -> str:
    if entry.step is None:
        return _MISSING
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
        return _MISSING
    if entry.examples_per_second is not None:
        return f"{format_count(entry.examples_per_second)} ex/s"
    return _MISSING if entry.steps_per_second is None else f"{entry.steps_per_second:.3g} steps/s"


def _age(seconds: float | None) -> str:
    return _MISSING if seconds is None else f"{format_duration(max(1.0, seconds))} ago"


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
    return escape(" · ".join(part for part in parts if part != _MISSING))


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
    parts: list[RenderableType] = [_title(entry), bar, *(Text(line, style="dim") for line in _own(found))]
    parts += [Text(" · ".join(facts), style="dim")] if (facts := _facts(entry)) else []
    if found.metrics:
        parts += _metrics(found)
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
    facts += [] if _rate(entry) == _MISSING else [_rate(entry)]
    facts += [] if entry.memory_bytes is None else [format_bytes(entry.memory_bytes)]
    facts += [entry.device] if entry.device else []
    facts += [entry.data_source] if entry.data_source else []
    if entry.checkpoint_step is not None:
        facts.append(f"checkpoint at step {entry.checkpoint_step:,}, {_age(entry.checkpoint_age_seconds)}")
    elif entry.active and entry.task != "command":
        facts.append("no checkpoint yet")
    if entry.heartbeat_age_seconds is not None and entry.active:
        facts.append(f"heartbeat {_age(entry.heartbeat_age_seconds)}")
    return facts


def _page(found: Page) -> Iterable[RenderableType]:
    from rich.text import Text

    entry = found.status
    yield _title(entry)
    if entry.failure and found.status.state == "failed":
        yield Text(f"  class {_class(entry.failure)}: runctl why {entry.run}", style="bad")
    if entry.step is not None or (entry.task != "command" and entry.active):
        yield Text(f"  step {_progress(entry)}" + (f", ETA {_eta(entry)}" if _eta(entry) else ""))
    for line in _own(found):
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
        yield from _metrics(found)
    if len(found.attempts) > 1:
        yield from _attempts(found)
    if found.checkpoints:
        yield from _checkpoints(found)
    yield from _guards(found)
    if found.account:
        yield from account.rows(found.account)
    yield Text("\nwhere it lies", style="bold")
    for name, path in found.paths.items():
        yield Text(f"  {name.replace('_', ' '):<12} {path}")
    yield Text("\nnext", style="bold")
    for command in found.commands:
        yield Text(f"  {command}")


def _own(found: Page) -> list[str]:
    """What there is to say of a program of the user's own, unless the reason has said it: exit code, last words."""
    entry = found.status
    if entry.task != "command":
        return []
    code = [] if entry.exit_code is None or f"exit {entry.exit_code}" in entry.reason else [f"exit {entry.exit_code}"]
    return code + ([f"last line: {found.last_line}"] if found.last_line and found.last_line not in entry.reason else [])


def _metrics(found: Page) -> Iterable[RenderableType]:
    """Metrics beside the baselines computed on the same frames, green where the model beats them all. Parts of the
    loss are left to --json."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    names = sorted({key.partition("/")[0] for key in found.baselines if "/" in key})
    shown = {key: value for key, value in found.metrics.items() if "/" not in key and key not in COUNTS}
    counts = [f"{found.metrics[key]:,.0f} {key}" for key in COUNTS if found.metrics.get(key) is not None]
    grid = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    grid.add_column("held-out")
    for column in ["model", *(name.replace("_", " ") for name in names)]:
        grid.add_column(column, justify="right")
    for metric, value in shown.items():
        others = [found.baselines.get(f"{name}/{metric}") for name in names]
        rivals = [other for other in others if isinstance(other, int | float)]
        style = "" if value is None or not rivals else "good" if _beats(metric, value, rivals) else "warn"
        grid.add_row(metric, Text(_figure(value), style=style), *(_figure(other) for other in others))
    yield Text("")
    yield grid
    yield Text(f"at step {found.metrics_step or 0:,}" + (f", on {', '.join(counts)}" if counts else ""), style="dim")


def _beats(metric: str, value: float, rivals: Sequence[float]) -> bool:
    lower = any(word in metric for word in ("loss", "mae", "mse", "error"))
    return value < min(rivals) if lower else value > max(rivals)


def _figure(value: Any) -> str:
    if not isinstance(value, int | float):
        return _MISSING
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _attempts(found: Page) -> Iterable[RenderableType]:
    from rich.text import Text

    yield Text("\nattempts", style="bold").append(_interrupted(found), style="dim")
    for entry in found.attempts:
        seconds = format_duration(entry["seconds"]) if isinstance(entry["seconds"], int | float) else _MISSING
        state = entry["state"] or (found.status.state if entry["attempt"] == found.status.attempt else "no record")
        span = f"steps {entry['from_step'] or 0:,} to {'…' if entry['step'] is None else format(entry['step'], ',')}"
        words = [*([] if found.status.task == "command" and entry["step"] is None else [span]), seconds]
        words += [f"{entry['steps_per_second']:.3g} steps/s"] if entry["steps_per_second"] else []
        reason = ": ".join(filter(None, [_class(entry["failure"]), entry["reason"]]))
        yield Text(f"  {entry['attempt']}  {state:<10} {', '.join(words)}  {reason}".rstrip())
        if entry["restart"]:
            yield Text(f"     started by itself: {entry['restart']}", style="dim")
        for why in entry["passed_over"]:
            yield Text(f"     resumed at step {entry['from_step'] or 0:,}: {why}", style="warn")


def _class(kind: str | None) -> str:
    return (kind or "").replace("_", " ")


def _interrupted(found: Page) -> str:
    """`: 1 failure, 2 interruptions`, and what all attempts together took."""
    kinds = [entry["failure"] for entry in found.attempts if entry["state"] == "failed"]
    outside = sum(kind in INTERRUPTIONS for kind in kinds)
    counts = ((len(kinds) - outside, "failure"), (outside, "interruption"))
    words = [counted(number, noun) for number, noun in counts if number]
    seconds = [entry["seconds"] for entry in found.attempts if isinstance(entry["seconds"], int | float)]
    return ": " + ", ".join([*words, f"{format_duration(sum(seconds))} together"]) if words else ""


def _guards(found: Page) -> Iterable[RenderableType]:
    """What watches the run, while it runs; afterwards only what has tripped, or could not judge."""
    from rich.text import Text

    from runctl.guards import words

    told = [one for one in found.guards if one["trips"] or one["unjudged"]]
    if found.status.active:
        told += [one for one in found.guards if one["on"] and one not in told]
    if told:
        yield Text("\nguards", style="bold")
    for one in told:
        if last := one["last"]:
            times = f", {one['trips']} times" if one["trips"] > 1 else ""
            yield Text(f"  {one['name']}  tripped ({one['do']}{times}): {last['reason']}", style="warn")
        elif one["unjudged"]:
            yield Text(f"  {one['name']}  never judged: {one['unjudged']}", style="warn")
        else:
            yield Text(f"  {words.line(one)}", style="dim")


def _checkpoints(found: Page) -> Iterable[RenderableType]:
    from rich.text import Text

    yield Text("\ncheckpoints", style="bold")
    for entry in found.checkpoints:
        age = _age(time.time() - entry["time"]) if isinstance(entry["time"], int | float) else ""
        yield Text(f"  {entry['path']}  {format_bytes(entry['bytes'])}  {age}")


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
