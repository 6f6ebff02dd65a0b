"""Work on sources in parallel, in order, in bounded memory, surviving a worker that dies.

Why processes: a parser written in another language may abort, hang or be killed. The file that a worker died on is
tried once more, alone (memory may have been short); if that kills the worker too, the file is skipped by name. A
file that takes longer than `LIMIT_SECONDS` is skipped at once.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from runctl.config.model import Encoding
from runctl.tasks.worldmodel import encoding as encodings
from runctl.tasks.worldmodel.audit import Audit
from runctl.tasks.worldmodel.games import Array, Skip, content, identity
from runctl.tasks.worldmodel.pack import pack
from runctl.tasks.worldmodel.sources import Source

LIMIT_SECONDS = 300.0
CRASHED, TOO_LONG = "crashed the parser", "took too long"


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
    crew = Crew(do, encoding)
    done: dict[int, Result] = {}
    todo, again = deque(range(len(sources))), deque[int]()
    try:
        for following in range(len(sources)):
            while following not in done:
                if again and not crew.busy:
                    crew.give(again[0], sources[again[0]])
                while not again and todo and len(crew.busy) < count and todo[0] < following + 2 * count:
                    crew.give(todo[0], sources[todo[0]])
                    todo.popleft()
                for index, result in crew.wait():
                    if isinstance(result, Result):
                        done[index] = result
                    elif index in again or result == TOO_LONG:
                        source = sources[index]
                        done[index] = Result(source.name, _digest(source), skipped=[Skipped(source.name, result)])
                    else:
                        again.append(index)
                        continue
                    if index in again:
                        again.remove(index)
            yield done.pop(following)
    finally:
        crew.end()


@dataclass
class Member:
    """One worker process and the source it is at; `since` is when it began, on the monotonic clock."""

    process: BaseProcess
    pipe: Connection[Any, Any]
    index: int | None = None
    since: float = 0.0


class Crew:
    """Worker processes, each with a pipe of its own: a dead one is known at once, and what it was at.

    Why not `concurrent.futures`: its workers share one pipe, and one that is killed while it sends blocks all.
    """

    def __init__(self, do: Work, encoding: Encoding) -> None:
        self._do, self._encoding = do, encoding
        self._context = multiprocessing.get_context("spawn")
        self._members: list[Member] = []

    @property
    def busy(self) -> list[Member]:
        return [member for member in self._members if member.index is not None]

    def give(self, index: int, source: Source) -> None:
        """Let an idle worker, or a new one, work on a source."""
        member = next((member for member in self._members if member.index is None), None) or self._new()
        member.index, member.since = index, time.monotonic()
        with suppress(BrokenPipeError):  # it died idle: `wait` finds that out
            member.pipe.send(source)

    def wait(self) -> list[tuple[int, Result | str]]:
        """Wait until something ends: (index, its result, or in a word what became of the worker).

        What a worker raised is raised here.
        """
        busy = self.busy
        left = min(member.since for member in busy) + LIMIT_SECONDS - time.monotonic()
        ready = wait([member.pipe for member in busy], max(left, 0))
        ended: list[tuple[int, Result | str]] = []
        for member in busy:
            index, word = member.index or 0, ""
            if member.pipe in ready:
                try:
                    answer = member.pipe.recv()
                except (EOFError, OSError):
                    word = CRASHED
                else:
                    if isinstance(answer, BaseException):
                        raise answer
                    member.index = None
                    ended.append((index, answer))
            elif time.monotonic() - member.since > LIMIT_SECONDS:
                word = TOO_LONG
            if word:
                _stop(member)
                self._members.remove(member)
                ended.append((index, word))
        return ended

    def end(self) -> None:
        """Stop all workers now: after Ctrl-C nobody waits for a long file."""
        for member in self._members:
            _stop(member)

    def _new(self) -> Member:
        mine, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._do, self._encoding), daemon=True)
        # Ctrl-C reaches the whole terminal, but this process alone decides what it means: a child inherits the mask.
        # (Starting the resource tracker would lift it, so that comes first.)
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        theirs.close()  # so that the end of the process is the end of the pipe
        self._members.append(Member(process, mine))
        return self._members[-1]


def _serve(pipe: Connection[Any, Any], do: Work, encoding: Encoding) -> None:
    """A worker: answer each source until the other side goes away."""
    while True:
        try:
            source = pipe.recv()
        except EOFError:
            return
        try:
            answer: Any = do(source, encoding)
        except Exception as error:
            answer = error
        try:
            pipe.send(answer)
        except BrokenPipeError:
            return


def _stop(member: Member) -> None:
    member.pipe.close()
    member.process.kill()
    member.process.join()


def _digest(source: Source) -> str:
    try:
        return source.digest()
    except OSError:
        return ""
