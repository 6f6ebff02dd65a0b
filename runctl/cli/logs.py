"""`runctl logs`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from runctl.cli.options import RunName

if TYPE_CHECKING:
    from pathlib import Path

    from runctl.cli._loglines import Lines
    from runctl.journal import Entry, Journal, Span
    from runctl.record import RunDir

_SILENT_EVENTS = 4  # of an attempt, which a text does not show


def command(
    run: RunName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", "-n", min=0, metavar="N", help="Only the last N lines.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="From then on: 10m (ago), 14:30, 2026-11-21.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="WHEN", help="Up to then.")] = None,
    search: Annotated[
        str | None, typer.Option("--search", metavar="TEXT|/REGEX/", help="Only lines in which it stands.")
    ] = None,
    attempt: Annotated[
        str | None, typer.Option("--attempt", metavar="N|all", help="The newest by default; with --since, all.")
    ] = None,
    timestamps: Annotated[
        bool, typer.Option("--timestamps", "-t", help="Each line with its time, known to the second.")
    ] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Only what the program wrote, byte for byte.")] = False,
    supervisor: Annotated[bool, typer.Option("--supervisor", help="The supervisor's own log.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each line.")] = False,
) -> None:
    """Print the story of a run's newest attempt: progress, checkpoints, what its program wrote, how it ended.

    With -f it goes on over restarts until the run ends. Of a progress bar only its last state is shown.

    \b
    Examples:
      runctl logs big-2 --tail 50
      runctl logs -f big-2
      runctl logs big-2 --since 10m --timestamps
      runctl logs big-2 --search '/error|warn/i' --attempt all
      runctl logs big-2 --attempt 1 --raw
      runctl logs big-2 --json | jq 'select(.kind == "metrics")'
    """
    from runctl import journal, logs, project, record
    from runctl.cli._loglines import Lines
    from runctl.cli._moments import moment
    from runctl.errors import UsageError

    found = record.find(project.root(), run)
    if found.remote.exists():
        _bring(found)
        chosen = (tail, since, search, attempt, timestamps, supervisor)
        if raw and follow and chosen == (None, None, None, None, False, False) and _stream(found):
            return
    begin = None if since is None else moment(since, "--since")
    end = None if until is None else moment(until, "--until")
    if begin is not None and end is not None and begin > end:
        raise UsageError("--since is later than --until: nothing lies between them")
    if follow and end is not None:
        raise UsageError("--until does not go with --follow, which goes on until the run ends")
    if supervisor and (as_json or begin is not None or end is not None or timestamps or search is not None):
        raise UsageError("--supervisor goes with --tail, --follow and --raw only", hint="leave out the others")
    if raw and as_json:
        raise UsageError("--json goes with neither --raw nor --supervisor", hint="leave out one of them")
    everything = attempt == "all" or (attempt is None and (begin is not None or end is not None))
    numbers = _numbers(found, attempt, everything)
    if supervisor or (raw and search is None and not timestamps):
        paths = [logs.find(found, supervisor=True)] if supervisor else [found.attempt(one).log for one in numbers]
        parts = [journal.part(found, one, begin, end) for one in numbers] if not supervisor else [(0, None)]
        _bytes(found, list(zip(paths, parts, strict=True)), tail, follow, pinned=attempt not in (None, "all"))
        return
    wanted = logs.matcher(search) if search is not None else None
    screen = Lines(found, as_json=as_json, timestamps=timestamps, raw=raw, wanted=wanted)
    span = journal.Span(
        begin, end, None if tail is None or wanted is not None else tail + _SILENT_EVENTS, logs.hint(search)
    )
    readers = [journal.Journal(found, number) for number in numbers]
    _tell_untimed(readers, span)
    for entry, line in _read(readers, span, tail, screen, following=follow):
        screen.print(entry, line)
    if follow:
        pinned = not everything and attempt is not None
        for entry in journal.follow(found, readers[-1], later=not pinned):
            screen.show(entry)
        screen.close()
    elif not screen.count and tail != 0:
        _nothing(found.attempt(numbers[-1]).log, begin is not None or end is not None or wanted is not None)


def _bring(run: RunDir) -> None:
    """Of a run on a provider's machines: its logs as they are there now, or what is here and why it may be old."""
    from runctl import backends, record, status, view

    backends.remote(status.backend_of(run)).refresh(run, whole=True)
    seen = record.read_object(run.remote).get("seen")
    for problem in seen.get("problems", []) if isinstance(seen, dict) else []:
        view.err().print(f"note: {problem}; what is here may be old", style="warn", markup=False)


def _stream(run: RunDir) -> bool:
    """What its containers print, as it comes from the provider; what is here once that has ended. False, with nothing
    printed, where the provider does not tell it: then its log on the volume does."""
    import sys

    from runctl import backends, logs, status, view
    from runctl.cli._loglines import tell_end
    from runctl.errors import ProviderError

    if status.read(run).over:
        sys.stdout.buffer.write(logs.tail(logs.find(run), None)[0])
    else:
        begun = False
        try:
            for text in backends.remote(status.backend_of(run)).stream(run):
                sys.stdout.write(text)
                sys.stdout.flush()
                begun = True
        except ProviderError as error:
            if begun:
                raise
            view.err().print(f"note: {error}; followed on its volume, some seconds late", style="warn", markup=False)
            return False
        over = status.observe(run).over
        if not over and not begun:
            return False
        if not over:  # the stream broke off, or its end is being written down
            for chunk in logs.follow(run, logs.find(run), logs.size(logs.find(run))):
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
    tell_end(run)
    return True


def _numbers(run: RunDir, attempt: str | None, everything: bool) -> list[int]:
    """The attempts asked for, oldest first; raises UsageError."""
    from runctl import logs
    from runctl.errors import UsageError

    known = [entry.number for entry in run.attempts()] or [1]
    if everything:
        return known
    if attempt is None:
        return known[-1:]
    if not attempt.isdecimal() or int(attempt) < 1:
        raise UsageError(f"--attempt: {attempt!r} is no number of an attempt", hint="write 1, 2, … or all")
    logs.find(run, int(attempt))
    return [int(attempt)]


def _read(
    readers: list[Journal], span: Span, tail: int | None, screen: Lines, *, following: bool
) -> Iterable[tuple[Entry, str]]:
    """What is there, oldest first; of several attempts the last `tail` lines together. The newest may be followed."""

    def lines(reader: Journal) -> Iterator[tuple[Entry, str]]:
        entries = reader.read(span, following=following and reader is readers[-1])
        return ((entry, line) for entry in entries if (line := screen.line(entry)) is not None)

    if tail is None:
        for reader in readers:
            yield from lines(reader)
        return
    kept: list[deque[tuple[Entry, str]]] = []
    for reader in reversed(readers):
        kept.append(deque(lines(reader), maxlen=max(0, tail - sum(map(len, kept)))))
    for part in reversed(kept):
        yield from part


def _tell_untimed(readers: list[Journal], span: Span) -> None:
    from runctl import view

    if span.since is None and span.until is None:
        return
    for reader in readers:
        if not reader.timed:
            number = reader.attempt.number
            view.say(f"when the lines of attempt {number} were written is not known: all of them count, or none")


def _bytes(
    run: RunDir, parts: list[tuple[Path, tuple[int, int | None]]], tail: int | None, follow: bool, *, pinned: bool
) -> None:
    import sys

    from runctl import logs
    from runctl.cli._loglines import tell_end

    def write(chunk: bytes) -> None:
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()

    written = end = 0
    for number, (path, (begin, limit)) in enumerate(parts):
        end = logs.size(path) if limit is None else limit
        if tail is not None and number == len(parts) - 1:
            begin = max(begin, logs.begin_of(path, end, tail))
        elif tail is not None:
            continue
        for chunk in logs.read_from(path, begin, end):
            written += len(chunk)
            write(chunk)
    if not follow:
        if not written and tail != 0:
            _nothing(parts[-1][0], any(part != (0, None) for _, part in parts))
        return
    for chunk in logs.follow(run, parts[-1][0], end, later=not pinned):
        write(chunk)
    tell_end(run)


def _nothing(path: Path, chosen: bool) -> None:
    from runctl import view

    if chosen and path.is_file():
        view.say("no line is as asked for")
    else:
        view.say(f"nothing in {path} yet" if path.is_file() else f"no log yet: {path}")
