"""The parts of a run's page: metrics beside baselines, attempts, guards, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from runctl.journal import COUNTS
from runctl.supervisor.failures import INTERRUPTIONS
from runctl.units import counted, format_bytes, format_duration
from runctl.view.cells import MISSING, age

if TYPE_CHECKING:
    from rich.console import RenderableType

    from runctl.page import Page


def own(found: Page) -> list[str]:
    """What there is to say of a program of the user's own, unless the reason has said it: exit code, last words."""
    entry = found.status
    if entry.task != "command":
        return []
    code = [] if entry.exit_code is None or f"exit {entry.exit_code}" in entry.reason else [f"exit {entry.exit_code}"]
    code += ["progress is read from its output"] if entry.source == "output" and entry.active else []
    return code + ([f"last line: {found.last_line}"] if found.last_line and found.last_line not in entry.reason else [])


def metrics(found: Page) -> Iterable[RenderableType]:
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
        return MISSING
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def attempts(found: Page) -> Iterable[RenderableType]:
    """Every attempt with its state, its steps, its rate and how it ended."""
    from rich.text import Text

    yield Text(f"\n{tally(found)}", style="bold")
    for entry in found.attempts:
        seconds = format_duration(entry["seconds"]) if isinstance(entry["seconds"], int | float) else MISSING
        state = entry["state"] or (found.status.state if entry["attempt"] == found.status.attempt else "no record")
        span = f"steps {entry['from_step'] or 0:,} to {'…' if entry['step'] is None else format(entry['step'], ',')}"
        words = [*([] if found.status.task == "command" and entry["step"] is None else [span]), seconds]
        words += [f"{entry['steps_per_second']:.3g} steps/s"] if entry["steps_per_second"] else []
        reason = ": ".join(filter(None, [kind_words(entry["failure"]), entry["reason"]]))
        yield Text(f"  {entry['attempt']}  {state:<10} {', '.join(words)}  {reason}".rstrip())
        if entry["restart"]:
            yield Text(f"     started by itself: {entry['restart']}", style="dim")
        if entry["changed"]:
            yield Text(f"     config changed ({entry['changed_by']}): {entry['changed']}", style="warn")
        if entry["resume"]:
            yield Text(f"     {entry['resume']['words']}", style="dim" if entry["resume"]["verified"] else "warn")
        for why in entry["passed_over"]:
            yield Text(f"     resumed at step {entry['from_step'] or 0:,}: {why}", style="warn")


def kind_words(kind: str | None) -> str:
    """The class of a failure as words."""
    return (kind or "").replace("_", " ")


def tally(found: Page) -> str:
    """`3 attempts: 1 interrupted (preemption), 1 failed (out of memory), 1 running; 12m03s together`: what came from
    outside apart from what the run did itself."""
    groups: dict[str, list[str]] = {}
    for entry in found.attempts:
        outside = entry["failure"] in INTERRUPTIONS
        groups.setdefault("interrupted" if outside else entry["state"] or "without a record", []).append(
            kind_words(entry["failure"])
        )
    words = []
    for name, kinds in groups.items():
        known = ", ".join(dict.fromkeys(kind for kind in kinds if kind))
        words.append(f"{len(kinds)} {name}" + (f" ({known})" if known else ""))
    total = found.status.total_seconds
    together = "" if total is None else f"; {format_duration(total)} together"
    return f"{counted(len(found.attempts), 'attempt')}: {', '.join(words)}{together}"


def guards(found: Page) -> Iterable[RenderableType]:
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


def checkpoints(found: Page) -> Iterable[RenderableType]:
    """Every checkpoint with its size and age."""
    from rich.text import Text

    yield Text("\ncheckpoints", style="bold")
    for entry in found.checkpoints:
        since = age(time.time() - entry["time"]) if isinstance(entry["time"], int | float) else ""
        yield Text(f"  {entry['path']}  {format_bytes(entry['bytes'])}  {since}")
