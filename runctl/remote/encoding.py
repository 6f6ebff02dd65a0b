"""What encodes replays in a provider's containers: each takes some sources, and one puts what came of them together.

What a container has done lies on the volume before its call is answered, so that no container's work is done twice:

    datasets/X.partial/JOB/chunk-00007/{frames.bin, journal.jsonl}     the journal is copied last

The chunks are read in the order of the sources, whatever container was first, and duplicates are found across them: the
dataset is the one that `runctl encode` makes of the same replays on one machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any


def chunk(spec: dict[str, Any]) -> dict[str, int]:
    """Encode some sources into `spec["folder"]` on the volume; returns how many games and frames that are."""
    from runctl.config.model import Encoding
    from runctl.tasks.worldmodel import encode, partial, workers

    found = _sources(spec)
    stamps = [source.stamp() for source in found]
    gathered = encode.Gathered()
    with tempfile.TemporaryDirectory(prefix="runctl-encode-") as folder:
        with closing(partial.open(Path(folder) / "chunk", {}, stamps)) as part:
            encode.gather(
                part, gathered, found, stamps, Encoding(**spec["encoding"]), encode.cpu_count(), None, _silent,
                workers.work,
            )  # fmt: skip
        there = Path(spec["mount"]) / spec["folder"]
        there.mkdir(parents=True, exist_ok=True)
        for name in ("frames.bin", partial.JOURNAL):
            shutil.copyfile(part.path / name, there / f".{name}.new")
            os.replace(there / f".{name}.new", there / name)
    _commit(spec)
    return {"games": len(gathered.games), "frames": gathered.frames}


def merge(spec: dict[str, Any]) -> dict[str, Any]:
    """Make the dataset of the chunks: parts, then its manifest, then the chunks go. Returns the small copy of the
    manifest, or why there is no dataset."""
    from runctl.config.model import Encoding
    from runctl.tasks.worldmodel import encode, manifests, parts

    mount, gathered = Path(spec["mount"]), encode.Gathered()
    target = mount / spec["dataset"]
    with tempfile.TemporaryDirectory(prefix="runctl-merge-") as folder:
        writer = _Parts(target, Path(folder) / "part")
        for path in spec["chunks"]:
            for row, data in _rows(mount / path):
                kept = _kept(row, gathered.seen, spec["max_games"], len(gathered.games))
                for game, frames in zip(row["games"], data, strict=True):
                    if game in kept["games"]:
                        writer.write(frames)
                gathered.add(kept)
                if spec["max_games"] and len(gathered.games) >= spec["max_games"]:
                    break
            else:
                continue
            break
        writer.end()
        reasons = [[one.source, one.reason, one.detail] for one in gathered.skipped[:5]]
        if not gathered.games or (spec["strict"] and gathered.skipped):
            if not (target / "manifest.json").exists():
                shutil.rmtree(target, ignore_errors=True)
            counts = {"games": len(gathered.games), "skipped": len(gathered.skipped)}
            return {**counts, "for_example": reasons, "made": False}
        encoding = Encoding(**spec["encoding"])
        manifest = manifests.build(gathered, _sources(spec), encoding, spec["max_games"], spec["train_split"])
        text = json.dumps({**manifest, "parts": parts.named(writer.made)}, sort_keys=True)
        (target / ".manifest.json.new").write_text(text, encoding="utf-8")
        os.replace(target / ".manifest.json.new", target / "manifest.json")
        small = manifests.write_copy(Path(folder) / "copy", manifest).read_text(encoding="utf-8")
    listed = {part.name for part in writer.made}
    for path in (target / parts.FOLDER).iterdir():
        if f"{parts.FOLDER}/{path.name}" not in listed:
            path.unlink()
    shutil.rmtree(mount / spec["partial"], ignore_errors=True)
    _commit(spec)
    counts = {"games": len(gathered.games), "frames": gathered.frames, "skipped": len(gathered.skipped)}
    return {**counts, "for_example": reasons, "made": True, "copy": json.loads(small)}


class _Parts:
    """Writes frames as parts on the volume; holds one part at a time, on the container's own disk."""

    def __init__(self, target: Path, own: Path) -> None:
        from runctl.tasks.worldmodel.parts import FOLDER, Part

        self.made: list[Part] = []
        self._target, self._own = target, own
        (target / FOLDER).mkdir(parents=True, exist_ok=True)
        self._file = own.open("wb")
        self._digest, self._size, self._start = hashlib.sha256(), 0, 0

    def write(self, data: bytes) -> None:
        from runctl.tasks.worldmodel import parts

        while data:
            now, data = data[: parts.PART_BYTES - self._size], data[parts.PART_BYTES - self._size :]
            self._file.write(now)
            self._digest.update(now)
            self._size += len(now)
            if self._size == parts.PART_BYTES:
                self.end()

    def end(self) -> None:
        """Finish the part that is under way, if anything is in it."""
        from runctl.tasks.worldmodel.parts import FOLDER, Part

        self._file.close()
        if self._size:
            sha256 = self._digest.hexdigest()
            name = f"{FOLDER}/{len(self.made):05d}-{sha256[:16]}.bin"
            shutil.copyfile(self._own, self._target / f"{name}.new")
            os.replace(self._target / f"{name}.new", self._target / name)
            self.made.append(Part(name, self._start, self._size, sha256))
            self._start += self._size
        self._file = self._own.open("wb")
        self._digest, self._size = hashlib.sha256(), 0


def _rows(folder: Path) -> Iterator[tuple[dict[str, Any], list[bytes]]]:
    """Each source of a chunk, with the frames of each of its games."""
    from runctl.tasks.worldmodel import partial

    with (folder / partial.JOURNAL).open("rb") as journal, (folder / "frames.bin").open("rb") as frames:
        next(journal)
        end = 0
        for line in journal:
            row = json.loads(line)
            count = sum(game["frames"] for game in row["games"])
            size = (row["end"] - end) // count if count else 0
            end = row["end"]
            yield row, [frames.read(game["frames"] * size) for game in row["games"]]


def _kept(row: Mapping[str, Any], seen: Mapping[str, str], most: int | None, before: int) -> dict[str, Any]:
    """A source's line without the games that another chunk had, or that are too many."""
    games: list[Any] = []
    skipped = list(row["skipped"])
    for game in row["games"][: most - before if most else None]:
        first = seen.get(game["identity"]) or seen.get(game["content"])
        if first is None:
            games.append(game)
        else:
            skipped.append([game["source"], "duplicate", f"same game as {first}"])
    return {**row, "games": games, "skipped": skipped}


def _sources(spec: Mapping[str, Any]) -> list[Any]:
    from runctl.tasks.worldmodel.sources import Replay

    return [Replay(name, Path(spec["mount"]) / spec["replays"] / name) for name in spec["sources"]]


def _commit(spec: Mapping[str, Any]) -> None:
    import modal

    modal.Volume.from_name(spec["volume"], environment_name=spec["environment"]).commit()


def _silent(done: int, total: int, frames: int) -> None:
    """A container tells nobody how far it is: its call's answer does."""
