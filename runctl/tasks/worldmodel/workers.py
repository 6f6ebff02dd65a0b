"""Work on sources in parallel, in order, in bounded memory, surviving a worker that dies.

Why spawned processes: a parser written in another language may abort or be killed. A dead worker breaks its whole
pool, so everything that was under way is tried again alone, one file per pool; the file that breaks a pool of its
own is the culprit and is skipped by name.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field

from runctl.config.model import Encoding
from runctl.tasks.worldmodel import encoding as encodings
from runctl.tasks.worldmodel.audit import Audit
from runctl.tasks.worldmodel.games import Array, Skip, content, identity
from runctl.tasks.worldmodel.pack import pack
from runctl.tasks.worldmodel.sources import Source


@dataclass(frozen=True)
class Packed:
    """One encoded game: records uint8 (N, R), its two keys against duplicates, and its audit."""

    source: str
    identity: str
    content: str
    sha256: str
    audit: Audit
    records: Array


@dataclass(frozen=True)
class Skipped:
    source: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Result:
    """What became of one source; `digest` is the sha256 of its bytes, empty if they could not be read."""

    source: str
    digest: str
    games: list[Packed] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


Work = Callable[[Source, Encoding], Result]


def work(source: Source, encoding: Encoding) -> Result:
    """Read, check and pack all games of one source; whatever is wrong with it becomes a reason."""
    layout = encodings.columns(encoding)
    result = Result(source.name, digest := _digest(source))
    try:
        for game in source.games(encoding):
            try:
                records, audit = pack(game, encoding, layout)
            except Skip as skip:
                result.skipped.append(Skipped(game.source, skip.reason, skip.detail))
                continue
            sha256 = hashlib.sha256(records.data).hexdigest() if source.simulated else digest
            result.games.append(Packed(game.source, identity(game), content(game), sha256, audit, records))
    except Skip as skip:
        result.skipped.append(Skipped(source.name, skip.reason, skip.detail))
    except OSError as error:
        result.skipped.append(Skipped(source.name, "unreadable", error.strerror or type(error).__name__))
    return result


def results(
    sources: Sequence[Source], encoding: Encoding, count: int, do: Work = work
) -> Generator[Result, None, None]:
    """The result of every source, in the order of the sources; at most `2 × count` are under way or waiting.

    Simulated games are made in this process where one worker suffices: they cannot crash.
    """
    if all(source.simulated for source in sources) and min(count, len(sources)) <= 1:
        yield from (do(source, encoding) for source in sources)
        return
    todo = deque(sources)
    while todo:
        yield from _until_broken(todo, encoding, min(count, len(todo)), do)


def _until_broken(todo: deque[Source], encoding: Encoding, count: int, do: Work) -> Iterator[Result]:
    """Results from one pool until all is done or the pool breaks; what was under way is then done alone."""
    pending: deque[tuple[Source, Future[Result]]] = deque()
    pool = _pool(count)
    try:
        while todo or pending:
            try:
                while todo and len(pending) < 2 * count:
                    pending.append((todo[0], pool.submit(do, todo[0], encoding)))
                    todo.popleft()
                result = pending[0][1].result()
            except BrokenProcessPool:
                for source, future in pending:
                    whole = future.done() and not future.cancelled() and future.exception() is None
                    yield future.result() if whole else _alone(source, encoding, do)
                return
            pending.popleft()
            yield result
    finally:
        _end(pool)


def _alone(source: Source, encoding: Encoding, do: Work) -> Result:
    pool = _pool(1)
    try:
        return pool.submit(do, source, encoding).result()
    except BrokenProcessPool:
        return Result(source.name, _digest(source), skipped=[Skipped(source.name, "crashed the parser")])
    finally:
        _end(pool)


def _pool(count: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), initializer=_ignore_interrupt)


def _end(pool: ProcessPoolExecutor) -> None:
    """Stop the workers now: after Ctrl-C nobody waits for a long file. Their unfinished work is not lost, only late."""
    processes = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()


def _ignore_interrupt() -> None:
    """Ctrl-C reaches the whole terminal; the parent alone decides what it means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _digest(source: Source) -> str:
    try:
        return source.digest()
    except OSError:
        return ""
