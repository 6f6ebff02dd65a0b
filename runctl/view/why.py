"""Why a run failed, as a person reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runctl import view
from runctl.units import counted

if TYPE_CHECKING:
    from runctl.why import Why


def show(found: Why) -> None:
    """The explanation on stdout."""
    from rich.text import Text

    console = view.out()
    step = f" at step {found.step:,}" if found.step is not None else ""
    head = Text(found.run, style="name").append(f" {found.state}{step}", style="")
    failure = found.failure
    if failure is None:
        console.print(head.append(": nothing to explain" if found.state == "succeeded" else _because(found.reason)))
        _rest(found)
        return
    console.print(head.append(f" in attempt {found.attempt}{_because(found.reason)}"))
    console.print(Text("\nclass       ", style="bold").append(failure.kind.replace("_", " "), style="bad"))
    console.print(Text("cause       ", style="bold").append(failure.cause))
    if found.where:
        console.print(Text("where       ", style="bold").append(found.where))
    advice = failure.advice.replace(" RUN", f" {found.run}")
    console.print(Text("what to do  ", style="bold").append(advice))
    again = "may be started again by itself (compute.retries)" if failure.again else "is never started again by itself"
    console.print(Text("restarts    ", style="bold").append(f"such a failure {again}{_history(found)}"))
    if found.saved:
        console.print(Text("saved       ", style="bold").append(found.saved))
    if failure.evidence or found.measured:
        console.print(Text("\nwhat speaks for it, the most certain first", style="bold"))
        for line in (*failure.evidence, *found.measured):
            console.print(Text(f"  {line}"))
    if found.context:
        console.print(Text("\nin the log", style="bold"))
        for index, row in enumerate(found.context):
            said = index == found.at
            console.print(Text(f"  {'>' if said else ' '} {row.text}", style="bad" if said else "dim"))
    if found.stacks:
        console.print(Text("\nwhere it stood", style="bold"))
        for line in found.stacks:
            console.print(Text(f"    {line}", style="dim"))
    _next(found)


def _rest(found: Why) -> None:
    """Of what did not fail: what it measured last, what is saved, what to type next."""
    from rich.text import Text

    console = view.out()
    for line in found.measured:
        console.print(Text(f"  {line}"))
    if found.saved:
        console.print(Text("saved       ", style="bold").append(found.saved))
    if found.state != "succeeded":
        _next(found)


def _next(found: Why) -> None:
    from rich.text import Text

    if found.commands:
        view.out().print(Text("\nnext", style="bold"))
    for command in found.commands:
        view.out().print(Text(f"  {command}"))


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


def _history(found: Why) -> str:
    if found.interruptions + found.failures < 2:
        return ""
    return f"; so far {counted(found.failures, 'failure')} and {counted(found.interruptions, 'interruption')}"
