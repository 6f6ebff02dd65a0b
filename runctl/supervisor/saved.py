"""The checkpoints that a program of one's own writes, watched on the disk: found by `command.checkpoints`, or named by
`runctl.checkpoint(path)`, told as the event `checkpoint` and kept in saved.json once they are whole.

One is whole when its done marker is there; where none is asked for, when it did not change between two looks and the
format of its file proves it (zip, safetensors), or it was renamed after it was written; else, and of a folder, when it
did not change over four. What a program that was killed has left, and nothing proves, is passed over.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from runctl import placeholders, record
from runctl.fields import number, text, whole
from runctl.light import dataclass
from runctl.supervisor import kept
from runctl.supervisor.watchers import Scene, Watcher

_LOOK_SECONDS = 1.0
_COST = 200.0  # a look that takes long is followed by so many times its processor time without one,
_LONGEST_SECONDS = 20.0  # but not by more than this: somebody may be waiting for a checkpoint
_LOOKS_UNPROVED = 3
_MOST_ENTRIES = 20_000  # of a folder
_MOST_FOUND = 500  # newest candidates of one look
_TEMPORARY = (".tmp", ".part", ".partial", "~")


@dataclass(frozen=True)
class Pattern:
    """Where a config says that checkpoints lie: below `base`, one expression for each name of the path."""

    base: Path
    parts: tuple[re.Pattern[str], ...]
    done: str | None


@dataclass
class Waiting:
    """A candidate, and over how many looks it has stayed as it is."""

    seen: kept.Look
    step: int | None
    looks: int = 0


class Saved(Watcher):
    """Off for a run of runctl's own trainer."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.command = scene.config.get("task") == "command"
        self.files = scene.run.attempt(scene.number)
        self.pattern = pattern_of(scene.run, scene.config, scene.project) if self.command else None
        self.since = (number(scene.content, "created") or 0.0) - 1.0
        self.waiting: dict[Path, Waiting] = {}
        self.known: dict[Path, kept.Look] = {}
        self.told_steps: set[int] = set()
        self.new: list[dict[str, Any]] = []  # counted, not yet written down
        self.said: Path | None = None  # what the program itself calls whole
        self.beat: dict[str, Any] = {}
        self.due = 0.0
        self.rows: list[dict[str, Any]] = kept.entries(scene.run) if self.command else []
        for row in self.rows:
            self.known[kept.place(scene.run, row)] = kept.Look(row["bytes"], whole(row, "files") or 1, row["stamp"])
        if self.command and scene.number > 1:
            self._account()

    def look(self, seconds: float) -> None:
        now = time.monotonic()
        if not self.command or now < self.due:
            return
        begun = time.thread_time()
        self._look()
        self.due = now + min(_LONGEST_SECONDS, max(_LOOK_SECONDS, _COST * (time.thread_time() - begun)))

    def orphaned(self, group: int) -> None:
        """The program has ended: what its format proves is whole, whenever it was written."""
        if self.command:
            self._look()
            self._account(time.time())

    def told(self, row: dict[str, Any]) -> None:
        if not self.command:
            return
        if row.get("event") == "checkpoint" and (step := whole(row, "step")) is not None:
            self.told_steps.add(step)
        elif row.get("event") == "attempt_ended" and row.get("exit_code") == 0:
            for path, one in list(self.waiting.items()):  # it left by itself, so what it wrote last is whole too
                if (
                    kept.look(path) == one.seen
                    and kept.whole_by_format(path) is not False
                    and not self._lacks_done(path)
                ):
                    self._keep(path, one)
            self._write()

    def _look(self) -> None:
        self.beat = record.read_object(self.files.heartbeat)
        for path, step in self._candidates():
            seen = kept.look(path)
            if seen is None or self.known.get(path) == seen:
                self.waiting.pop(path, None)
                continue
            one = self.waiting.get(path)
            if one is None or one.seen != seen:
                one = self.waiting[path] = Waiting(seen, self._step(step))
                if not self._done(path) and path != self.said:
                    continue
            one.looks += 1
            if self._is_whole(path, one):
                self._keep(path, one)
        self._write()

    def _account(self, ended: float | None = None) -> None:
        """What is there and can be proved now that nobody writes any more. `ended`: when that was, if it was just now;
        what had not changed for a while by then is whole too. Between two attempts others may have written there: what
        is of no later step than the newest one known does not take its place."""
        newest = None if ended is not None else kept.newest(self.scene.run)[0]
        for path, step in self._candidates():
            seen = kept.look(path)
            if seen is None or self.known.get(path) == seen or self._lacks_done(path):
                continue
            if newest is not None and step is not None and step <= newest["step"]:
                self.known[path] = seen
                continue
            rested = ended is not None and ended - seen.stamp / 1e9 > _LOOKS_UNPROVED * _LOOK_SECONDS
            rested = rested and kept.whole_by_format(path) is not False
            if self._done(path) or self._is_proved(path) or rested:
                self._keep(path, self.waiting.get(path) or Waiting(seen, self._step(step)), seen)
        self._write()

    def _candidates(self) -> Iterator[tuple[Path, int | None]]:
        said = self.beat.get("checkpoint")
        name = text(said, "path")
        if name and "\0" not in name and os.path.isabs(name) and not self.scene.run.path.is_relative_to(name):
            self.said = Path(name)
            yield self.said, whole(said, "step")
        if self.pattern is not None:
            yield from found(self.pattern, self.since)

    def _is_whole(self, path: Path, one: Waiting) -> bool:
        if self.pattern is not None and self.pattern.done and path != self.said:
            return self._done(path)
        return self._is_proved(path) or (one.looks >= _LOOKS_UNPROVED and kept.whole_by_format(path) is not False)

    def _is_proved(self, path: Path) -> bool:
        """By its format; where that says nothing, by the word of the program or a rename after it was written."""
        by_format = kept.whole_by_format(path)
        if by_format and not path.is_dir():  # of a folder more files may be to come
            return True
        return by_format is not False and (path == self.said or kept.moved(path))

    def _done(self, path: Path) -> bool:
        """Whether the marker that the config names is there: in a folder a file of that name, beside a file one whose
        name is the file's and it."""
        if self.pattern is None or not self.pattern.done:
            return False
        return (path / self.pattern.done if path.is_dir() else Path(f"{path}{self.pattern.done}")).exists()

    def _lacks_done(self, path: Path) -> bool:
        wanted = self.pattern is not None and bool(self.pattern.done) and path != self.said
        return wanted and not self._done(path)

    def _step(self, named: int | None) -> int | None:
        """The step in its name, else that of the program now."""
        return named if named is not None else whole(self.beat, "step")

    def _keep(self, path: Path, one: Waiting, seen: kept.Look | None = None) -> None:
        seen = seen or one.seen
        self.waiting.pop(path, None)
        self.known[path] = seen
        inside = path.is_relative_to(self.scene.run.path)
        entry = {
            "step": one.step or 0,
            "path": str(path.relative_to(self.scene.run.path) if inside else path),
            "time": seen.stamp / 1e9,
            "bytes": seen.bytes,
            "files": seen.files,
            "stamp": seen.stamp,
            "attempt": self.scene.number,
        }
        self.rows = [row for row in self.rows if row["path"] != entry["path"]]
        self.rows = [*self.rows, entry][-kept.MOST :]
        self.new.append(entry)

    def _write(self) -> None:
        if not self.new:
            return
        record.write_json(self.scene.run.saved, {"schema_version": record.SCHEMA_VERSION, "checkpoints": self.rows})
        new, self.new = self.new, []
        for entry in new:
            if entry["step"] not in self.told_steps:
                self.scene.events.add("checkpoint", step=entry["step"], path=entry["path"])


def pattern_of(run: record.RunDir, config: Mapping[str, Any], project: Path) -> Pattern | None:
    """Where the checkpoints of a run are said to lie; None where nothing says so."""
    section = config.get("command")
    said = section.get("checkpoints") if isinstance(section, dict) else None
    path = text(said, "path")
    if not path or not isinstance(section, dict):
        return None
    values = placeholders.of_config(config, [path, str(section.get("cwd") or "")])
    own, parts = placeholders.place(path, values)
    values |= {"run_dir": str(run.path), "name": run.name}
    base = run.path if own else project / placeholders.fill(str(section.get("cwd") or "."), values)
    return Pattern(Path(os.path.normpath(base)), tuple(parts), text(said, "done"))


def found(pattern: Pattern, since: float) -> list[tuple[Path, int | None]]:
    """What matches a pattern and was changed after `since`, the newest last. Nothing outside its base, by whatever
    links."""
    level: list[tuple[Path, int | None]] = [(pattern.base, None)]
    for part in pattern.parts:
        level = [one for folder, step in level for one in _matching(folder, step, part)][-_MOST_ENTRIES:]
    base = os.path.realpath(pattern.base)
    stamped = []
    for path, step in level:
        if path.name.endswith((*_TEMPORARY, pattern.done or _TEMPORARY[0])) or path.is_symlink():
            continue
        with suppress(OSError):
            about = path.stat()
            newest = _newest(path, about)
            if newest >= since and os.path.realpath(path).startswith(base + os.sep):
                stamped.append((newest, path, step))
    stamped.sort(key=lambda one: one[0])
    return [(path, step) for _, path, step in stamped[-_MOST_FOUND:]]


def _matching(folder: Path, step: int | None, part: re.Pattern[str]) -> Iterator[tuple[Path, int | None]]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for _, entry in zip(range(_MOST_ENTRIES), entries, strict=False)]
    except OSError:
        return
    for name in names:
        match = part.fullmatch(name)
        if match is None or name.startswith(".") != part.pattern.startswith("\\."):
            continue
        named = match.groupdict().get("step")
        yield folder / name, int(named) if named else step


def _newest(path: Path, about: os.stat_result) -> float:
    """When something of it was last changed, one level deep."""
    if not stat.S_ISDIR(about.st_mode):
        return about.st_mtime
    with os.scandir(path) as entries:
        inner = [entry.stat().st_mtime for _, entry in zip(range(1000), entries, strict=False) if entry.is_file()]
    return max([about.st_mtime, *inner])
