"""What can be encoded: replay files, or batches of simulated games. Each source says how to read its games."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runctl.config.model import Encoding, Simulate
from runctl.errors import UsageError
from runctl.tasks.worldmodel.games import Game

SUFFIXES = (".slp", ".slp.gz")


@dataclass(frozen=True)
class Replay:
    """One replay file; `name` is its path relative to the folder that was given."""

    name: str
    path: Path

    simulated = False

    def stamp(self) -> list[Any]:
        """What tells cheaply that the file is still the one that was read: name, size, time of change."""
        facts = self.path.stat()
        return [self.name, facts.st_size, facts.st_mtime_ns]

    def digest(self) -> str:
        """sha256 (hex) of the file as it lies on the disk."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def games(self, encoding: Encoding) -> Iterator[Game]:
        """The file's one game; raises Skip."""
        from runctl.tasks.worldmodel import slp

        yield slp.read(self.path, self.name, encoding)


@dataclass(frozen=True)
class SimulatedBatch:
    """Some simulated games that are made together."""

    name: str
    spec: Simulate
    number: int
    first: int
    count: int

    simulated = True

    def stamp(self) -> list[Any]:
        from runctl.tasks.worldmodel.simulate import VERSION

        return [self.name, VERSION, self.spec.seed, self.spec.seconds, self.first, self.count]

    def digest(self) -> str:
        return hashlib.sha256(repr(self.stamp()).encode()).hexdigest()

    def games(self, encoding: Encoding) -> Iterator[Game]:
        from runctl.tasks.worldmodel import simulate

        yield from simulate.batch(self.spec, self.number, self.first, self.count)


Source = Replay | SimulatedBatch


def simulated(spec: Simulate) -> list[Source]:
    """The batches of a simulation."""
    from runctl.tasks.worldmodel import simulate

    name = f"simulated/seed-{spec.seed}/batch-"
    return [SimulatedBatch(f"{name}{batch[0]:05d}", spec, *batch) for batch in simulate.batches(spec)]


def replays(paths: Sequence[Path | str]) -> list[Source]:
    """All `.slp` and `.slp.gz` files under the given files and folders, each once, ordered by name.

    Raises UsageError for a path that does not exist, and if there is no replay at all.
    """
    found: dict[Path, str] = {}
    for root in map(Path, paths):
        if not root.exists():
            raise UsageError(f"no replays at {root}: it does not exist", hint="--replays takes a file or a folder")
        for path in _files(root):
            name = path.relative_to(root).as_posix() if root.is_dir() else path.name
            found.setdefault(path.resolve(), f"{root.resolve().name}/{name}" if len(paths) > 1 else name)
    if not found:
        raise UsageError(
            f"no replays in {', '.join(str(path) for path in paths)}",
            hint=f"runctl reads files that end in {' or '.join(SUFFIXES)}",
        )
    return [Replay(name, path) for path, name in sorted(found.items(), key=lambda item: (item[1], str(item[0])))]


def _files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    for path in root.rglob("*"):
        if path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".") and path.is_file():
            yield path
