"""An encode as it goes, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from runctl import view
from runctl.units import format_bytes, format_count, format_duration

if TYPE_CHECKING:
    from runctl.tasks.worldmodel.encode import EncodeReport

LISTED = 10


@contextmanager
def bar(total: int, *, simulated: bool) -> Iterator[Callable[[int, int, int], None]]:
    """A progress bar on stderr; yields `advance(done, total, frames)`."""
    what = "simulating" if simulated else "encoding"
    with view.progress(what, "batches" if simulated else "replays") as progress:
        task = progress.add_task(what, total=total)

        def advance(done: int, total: int, frames: int) -> None:
            progress.update(task, completed=done, total=total, description=f"{what} {format_count(frames)} frames")

        yield advance


def report(encoded: EncodeReport) -> None:
    """The facts on stdout, and on stderr every skipped source up to a limit."""
    frames = f"{encoded.frames:,} ({format_duration(encoded.frames / 60)} of play)"
    size = encoded.frames * encoded.record_bytes
    rows = [
        ["games", f"{encoded.games:,}{' (simulated)' * encoded.simulated}"],
        ["frames", frames],
        ["bytes/frame", f"{encoded.record_bytes} ({format_bytes(size)} in all)"],
        ["frames/s", _rate(encoded)],
        ["skipped", f"{len(encoded.skipped):,}"],
        *[[f"  {reason}", str(count)] for reason, count in encoded.skipped_counts.items()],
        ["where", _from_here(encoded.out)],
        ["to commit", f"{_from_here(encoded.out)}.manifest.json"],
    ]
    view.table(["dataset", ""], rows)
    for skip in encoded.skipped[:LISTED]:
        detail = f" ({skip.detail})" if skip.detail else ""
        view.err().print(f"skipped {skip.source}: {skip.reason}{detail}", markup=False, style="dim")
    if len(encoded.skipped) > LISTED:
        rest = len(encoded.skipped) - LISTED
        view.say(f"[dim]… and {rest} more, all in {encoded.out}/manifest.json[/dim]")


def _from_here(path: Path) -> str:
    """A path as one would type it here: short where it lies below the current folder."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _rate(encoded: EncodeReport) -> str:
    if encoded.up_to_date:
        return "up to date: nothing to do"
    if not encoded.frames_encoded:
        return "all taken over from an earlier encode"
    taken = f", {encoded.continued} sources taken over" if encoded.continued else ""
    return f"{encoded.frames_per_second:,.0f} ({format_duration(encoded.seconds)}{taken})"
