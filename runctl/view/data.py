"""Datasets on a volume: the bar while they are sent, their list, and what a comparison says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from runctl import view
from runctl.units import counted, format_bytes

if TYPE_CHECKING:
    from runctl.backends.modal.datasets import Checked, Pushed, Stored
    from runctl.backends.modal.encoding import Encoded

PUSHED = ("volume", "path", "bytes", "sent", "parts", "parts_sent", "removed", "up_to_date")
STORED = ("path", "bytes", "whole", "games", "frames", "encoding_digest", "simulated", "created")
CHECKED = ("volume", "path", "faults", "notes", "agrees")


@contextmanager
def bar() -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr in MiB; yields `advance(done, total)`."""
    with view.progress("sending", "MiB") as progress:
        task = progress.add_task("sending", total=None)

        def advance(done: int, total: int) -> None:
            progress.update(task, completed=done >> 20, total=max(1, total >> 20))

        yield advance


@contextmanager
def steps() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on stderr; yields `advance(what, done, total)`."""
    with view.progress("asking Modal", "") as progress:
        task = progress.add_task("asking Modal", total=None)

        def advance(what: str, done: int, total: int) -> None:
            progress.update(task, description=what, completed=done, total=total)

        yield advance


def encoded(done: Encoded) -> None:
    rows = [
        ["volume", done.volume],
        ["where", done.path],
        ["games", f"{done.games:,}"],
        ["frames", f"{done.frames:,}"],
        ["skipped", f"{done.skipped:,}"],
        ["replays sent", f"{done.replays_sent:,}"],
        ["chunks", f"{done.chunks} ({done.taken_over} taken over)"],
        ["to commit", done.copy],
    ]
    view.table(["dataset", ""], rows)
    for source, reason, detail in done.for_example:
        view.err().print(f"skipped {source}: {reason}{f' ({detail})' * bool(detail)}", markup=False, style="dim")


def pushed(done: Pushed) -> None:
    sent = (
        "nothing: it was all there" if done.up_to_date else f"{format_bytes(done.sent)} of {format_bytes(done.bytes)}"
    )
    rows = [
        ["volume", done.volume],
        ["where", done.path],
        ["parts", f"{done.parts} ({done.parts_sent} sent)"],
        ["sent", sent],
    ]
    view.table(["dataset", ""], rows)
    if done.removed:
        view.say(f"[dim]{counted(done.removed, 'file')} of an earlier dataset removed[/dim]")


def listed(volume: str, found: Sequence[Stored]) -> None:
    if not found:
        view.say(f"no dataset on the volume [name]{volume}[/name]: runctl data push CONFIG sends one")
        return
    rows = [
        [
            one.path,
            "" if one.games is None else f"{one.games:,}" + " (simulated)" * bool(one.simulated),
            "" if one.frames is None else f"{one.frames:,}",
            format_bytes(one.bytes),
            (one.encoding_digest or "")[:12],
            (one.created or "")[:10] if one.whole else "not whole: push it again",
        ]
        for one in found
    ]
    view.table([f"on {volume}", "games", "frames", "size", "encoding", "made"], rows, right=("games", "frames", "size"))


def checked(found: Checked) -> None:
    for words in found.agrees:
        view.out().print(f"same   {words}", markup=False, style="good")
    for words in found.notes:
        view.out().print(f"note   {words}", markup=False, style="dim")
    for words in found.faults:
        view.out().print(f"wrong  {words}", markup=False, style="bad")
