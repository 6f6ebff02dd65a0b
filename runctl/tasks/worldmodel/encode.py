"""Encode: games → one dataset folder. Parallel, bounded in memory, interruptible, and honest about what it skips.

    encode.encode(sources.replays(["replays"]), config.encoding, Path("data/melee"))
    encode.encode(sources.simulated(config.data.simulate), config.encoding, Path("data/simulated"))

Games are stored in the order of their sources' names, whatever worker was first, so the same sources give the
same bytes. A game that is already there (the same identity, or the same frames) is skipped as a duplicate.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runctl import record
from runctl.config.model import Encoding
from runctl.errors import DataError, RunctlError, UsageError, of_place
from runctl.tasks.worldmodel import dataset, manifests, partial
from runctl.tasks.worldmodel import encoding as encodings
from runctl.tasks.worldmodel import workers as pool
from runctl.tasks.worldmodel.audit import Audit
from runctl.tasks.worldmodel.partial import Partial
from runctl.tasks.worldmodel.sources import Source
from runctl.tasks.worldmodel.workers import Result, Skipped, Work
from runctl.units import counted

Progress = Callable[[int, int, int], None]


@dataclass(frozen=True)
class EncodeReport:
    """What an encode did. `seconds` is its own time; `continued` counts sources taken over from an earlier one."""

    out: Path
    games: int
    frames: int
    record_bytes: int
    encoding_digest: str
    simulated: bool
    skipped: tuple[Skipped, ...]
    seconds: float
    frames_encoded: int
    continued: int = 0
    up_to_date: bool = False

    @property
    def skipped_counts(self) -> dict[str, int]:
        return dict(sorted(Counter(skip.reason for skip in self.skipped).items()))

    @property
    def frames_per_second(self) -> float:
        """Of the frames encoded this time; 0 if there were none."""
        return self.frames_encoded / self.seconds if self.seconds and self.frames_encoded else 0.0


@dataclass
class Gathered:
    """What is known of the games so far: small facts only, the frames are on the disk."""

    games: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    audit: Audit = field(default_factory=Audit)
    digests: list[str] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)
    frames: int = 0

    def add(self, row: dict[str, Any]) -> None:
        """Take in one line of the journal."""
        self.digests.append(row["digest"])
        self.skipped += [Skipped(*skip) for skip in row["skipped"]]
        for game in row["games"]:
            self.audit.merge(Audit.from_journal(game["audit"]))
            for key in (game["identity"], game["content"]):
                self.seen[key] = game["source"]
            entry = {name: game[name] for name in ("identity", "frames", "source", "sha256")}
            self.games.append({**entry, "start": self.frames})
            self.frames += game["frames"]


def encode(
    sources: Sequence[Source],
    encoding: Encoding,
    out: Path,
    *,
    workers: int | None = None,
    strict: bool = False,
    overwrite: bool = False,
    max_games: int | None = None,
    train_split: float = 0.9,
    progress: Progress = lambda done, total, frames: None,
    do: Work = pool.work,
) -> EncodeReport:
    """Encode the sources into the folder `out` and return what was done.

    `progress(done, total, frames)` is called after each source. Raises DataError if no game could be encoded, or
    with `strict` if any was skipped; UsageError if `out` holds something else and `overwrite` is off, PlaceError if
    it is full or cannot be written to. Ctrl-C
    leaves `<out>.partial`, and the same call continues it.
    """
    began = time.monotonic()
    digest = encodings.dataset_digest(encoding)
    max_games = max_games or None
    try:
        if (current := _current(out, sources, digest, max_games, overwrite)) is not None:
            return current
        stamps = [source.stamp() for source in sources]
        job = {"format": encodings.FORMAT, "encoding_digest": digest, "max_games": max_games}
        with closing(partial.open(out, job, stamps)) as part:
            gathered, before = Gathered(), part.rows
            for row in part.read():
                gathered.add(row)
            old_frames = gathered.frames
            gather(part, gathered, sources, stamps, encoding, workers or cpu_count(), max_games, progress, do)
            if not gathered.games:
                part.discard()
            _check(gathered, sources, strict, part.path)
            manifest = manifests.build(gathered, sources, encoding, max_games, train_split)
            part.finish(manifest, out)
        manifests.write_copy(out, manifest)
    except OSError as error:
        raise _disk(error, out) from error
    seconds = time.monotonic() - began
    return _report(out, manifest, seconds, gathered.frames - old_frames, before)


def cpu_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gather(
    part: Partial,
    gathered: Gathered,
    sources: Sequence[Source],
    stamps: Sequence[list[Any]],
    encoding: Encoding,
    count: int,
    max_games: int | None,
    progress: Progress,
    do: Work,
) -> None:
    """Encode what is left of the sources, in order, until there are enough games."""
    done = part.rows
    progress(done, len(sources), gathered.frames)
    if max_games and len(gathered.games) >= max_games:
        return
    with closing(pool.results(sources[done:], encoding, count, do)) as results:
        for result in results:
            left = max_games - len(gathered.games) if max_games else None
            row, blocks = _row(result, stamps[done], gathered.seen, left)
            part.append(row, blocks)
            gathered.add(row)
            done += 1
            progress(done, len(sources), gathered.frames)
            if max_games and len(gathered.games) >= max_games:
                return


def _row(result: Result, stamp: list[Any], seen: dict[str, str], left: int | None) -> tuple[dict[str, Any], list[Any]]:
    """The journal's line for one source and the frames to store: duplicates and games too many are left out."""
    skipped, games, blocks = list(result.skipped), [], []
    here: dict[str, str] = {}
    for game in result.games[:left]:
        known = {**here, **{key: seen[key] for key in (game.identity, game.content) if key in seen}}
        first = known.get(game.identity) or known.get(game.content)
        if first is not None:
            skipped.append(Skipped(game.source, "duplicate", f"same game as {first}"))
            continue
        here |= {game.identity: game.source, game.content: game.source}
        facts = {"identity": game.identity, "content": game.content, "sha256": game.sha256, "source": game.source}
        games.append({**facts, "frames": len(game.records), "audit": game.audit.to_journal()})
        blocks.append(game.records)
    skips = [[skip.source, skip.reason, skip.detail] for skip in skipped]
    return {"stamp": stamp, "digest": result.digest, "games": games, "skipped": skips}, blocks


def _check(gathered: Gathered, sources: Sequence[Source], strict: bool, left: Path) -> None:
    """Raise DataError if there is nothing to store, or if anything was skipped that must not be."""
    counts = Counter(skip.reason for skip in gathered.skipped)
    reasons = "; ".join(f"{count} {reason}" for reason, count in counts.most_common())
    if not gathered.games:
        hint = f"for example {gathered.skipped[0].source}: {gathered.skipped[0].detail or gathered.skipped[0].reason}"
        raise DataError(f"none of {counted(len(sources), 'replay')} could be encoded: {reasons}", hint=hint)
    if strict and gathered.skipped:
        names = "; ".join(f"{skip.source} ({skip.reason})" for skip in gathered.skipped[:5])
        raise DataError(
            f"--strict: {len(gathered.skipped)} of {counted(len(sources), 'replay')} would be skipped: {reasons}",
            hint=f"{names}{'; …' * (len(gathered.skipped) > 5)}; without --strict the work in {left} is taken over",
        )


def _current(
    out: Path, sources: Sequence[Source], digest: str, max_games: int | None, overwrite: bool
) -> EncodeReport | None:
    """The report of a dataset that is already what is asked for; raises UsageError for anything else at `out`."""
    if not out.exists():
        return None
    try:
        opened = dataset.open(out)
    except DataError:
        if overwrite and _left_by_encode(out):
            return None
        message = f"{out} exists and is not an encoded dataset that can be read"
        raise UsageError(message, hint="choose another place with --out, or remove it") from None
    found = opened.manifest
    same_sources = manifests.same_sources(found, sources, max_games)
    if found["encoding_digest"] == digest and same_sources:
        return _report(out, found, 0.0, 0, 0, up_to_date=True)
    if overwrite:
        return None
    what = "other sources" if found["encoding_digest"] == digest else "another encoding"
    raise UsageError(f"{out} was encoded with {what}", hint="replace it with --overwrite, or choose another --out")


def _left_by_encode(out: Path) -> bool:
    """Whether what cannot be opened is a damaged dataset or an empty folder: nothing else is ever replaced."""
    manifest = record.read_json(out / dataset.MANIFEST)
    known = isinstance(manifest, dict) and manifest.get("kind") == dataset.KIND
    return out.is_dir() and (known or (out / dataset.FRAMES).exists() or not any(out.iterdir()))


def _report(
    out: Path, manifest: dict[str, Any], seconds: float, encoded: int, continued: int, up_to_date: bool = False
) -> EncodeReport:
    skipped = tuple(Skipped(skip["source"], skip["reason"], skip["detail"]) for skip in manifest["skipped"])
    return EncodeReport(
        out=out,
        games=len(manifest["games"]),
        frames=manifest["frames"],
        record_bytes=manifest["layout"]["record_bytes"],
        encoding_digest=manifest["encoding_digest"],
        simulated=manifest["simulated"],
        skipped=skipped,
        seconds=seconds,
        frames_encoded=encoded,
        continued=continued,
        up_to_date=up_to_date,
    )


def _disk(error: OSError, out: Path) -> RunctlError:
    hint = f"what is done is kept in {partial.folder(out)}: make room or fix it, then run the same command again"
    if known := of_place(error, partial.folder(out)):
        known.hint = hint
        return known
    return DataError(f"cannot write {error.filename or out}: {error.strerror or error}", hint=hint)
