"""What launch and resume do once a run has been started: wait for its first step, then return or follow it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import typer

from runctl.errors import Exit

if TYPE_CHECKING:
    from runctl.page import Page
    from runctl.record import RunDir


def start_and_follow(
    start: Callable[[], RunDir], quiet_seconds: float, *, detach: bool, as_json: bool, no_wait: bool = False
) -> None:
    """Start a run; return at once (`no_wait`) or after its first step (`detach`), else follow it to its end.
    Ctrl-C before the start leaves nothing; after it, the run goes on, and that is said."""
    from runctl import launch, starting, view, wait
    from runctl.view import runs

    run: RunDir | None = None
    try:
        with starting.uninterrupted():
            run = start()
        if no_wait:
            _print_name(run, f"[name]{run.name}[/name] is on its way. See: runctl status {run.name}", as_json)
            return
        found = launch.await_start(run, quiet_seconds, runs.waiting(run.name))
        if detach:
            step = f"step {found.step:,} has run" if found.step else "it has started"
            is_ = "has" if found.state == "succeeded" else "is"
            said = f"[name]{run.name}[/name] {is_} {found.state}: {step}. See: runctl status {run.name}"
            _print_name(run, said, as_json, {"status": found.to_json()})
            return
        last = runs.follow(pages(run))
    except KeyboardInterrupt:
        if run is None:
            raise
        leave_running(run)
        raise typer.Exit(Exit.INTERRUPTED) from None
    if last is None:
        return
    data = {"run": run.name, "path": str(run.path), **last.to_json()}
    code = wait.exit_code(last.status)
    if not as_json:
        runs.page(last)
    if code != Exit.OK and last.status.state == "failed":
        failed = launch.failure(run, last.status)
        failed.data = data  # `--json` prints one document, the error in it
        raise failed
    if as_json:
        view.print_json(data)
    raise typer.Exit(code)


def _print_name(run: RunDir, said: str, as_json: bool, more: dict[str, Any] | None = None) -> None:
    """The name alone on stdout, for scripts."""
    from runctl import view

    view.say(said)
    if as_json:
        view.print_json({"run": run.name, "path": str(run.path), **(more or {})})
    else:
        typer.echo(run.name)


def pages(run: RunDir, every_seconds: float = 0.5) -> Iterator[Page]:
    """A run's page again and again, until the run has ended."""
    from runctl import page, wait

    for _ in wait.watch(run, every_seconds):
        yield page.read(run)


def leave_running(run: RunDir) -> None:
    """Say what goes on after Ctrl-C, and how to come back to it or end it."""
    from runctl import status, view

    found = status.read(run)
    if found.over:
        view.say(f"\n[name]{run.name}[/name] has ended: {found.state}")
        return
    view.say(
        f"\n[name]{run.name}[/name] goes on ({found.state}); nothing was stopped.\n"
        f"  come back:  runctl status {run.name} --watch\n"
        f"  end it:     runctl stop {run.name}"
    )
