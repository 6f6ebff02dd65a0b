"""What can be known of a dataset without opening its arrays: its manifest, or the small copy that is committed.

`dataset.place` says where this machine looked and what it found:
`encoded` the folder with its manifest · `committed` only `<folder>.manifest.json` · `partial` a folder without a
manifest · `file` no folder, but a file · `absent` nothing, under the project · `elsewhere` nothing, outside
the project.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runctl.config import RunConfig
from runctl.facts import Facts
from runctl.filekind import other_than_file
from runctl.project import Project
from runctl.tasks.worldmodel import split as splits
from runctl.units import counted

FRAMES_PER_GAME = 9_000  # 2,000 public games held 18.8M frames; the 39 full games of a test set 8,250 each
FRAMES_PER_SECOND = 60
MAX_BYTES = 256 << 20
_PARTS = ("encoding", "encoding_digest", "layout", "frames", "columns")


def read(config: RunConfig, project: Project, facts: Facts) -> None:
    """Put `dataset.*` and `data.*` facts, or why they are unknown."""
    if config.data.encoded is None:
        _without(config, facts)
        return
    try:
        manifest = _find(config.data.encoded, project.root, facts)
    except (OSError, ValueError) as error:  # a name that no file system takes
        manifest = None
        why = getattr(error, "strerror", None) or str(error)
        facts.put("dataset.folder", config.data.encoded[:80], "derived", "data.encoded")
        facts.put("dataset.place", "absent", "derived", why)
        facts.put("dataset.unreadable", f"data.encoded cannot be looked at: {why}", "derived", "data.encoded")
    if manifest is None:
        why = facts.get("dataset.unreadable") or f"{config.data.encoded} has no manifest here"
        for part in _PARTS:
            facts.miss(f"dataset.{part}", why)
        _guess(config, facts, why)
        return
    file = facts.get("dataset.manifest_file")
    for part in _PARTS:
        if part in manifest and not _whole(part, manifest[part]):
            facts.miss(f"dataset.{part}", f"{file} is damaged: its {part} are not what they must be")
        elif part in manifest:
            facts.put(f"dataset.{part}", manifest[part], "manifest", file)
        else:
            facts.miss(f"dataset.{part}", f"{file} does not say")
    games = manifest.get("games")
    if isinstance(games, int | list):
        facts.put("dataset.games", games if isinstance(games, int) else len(games), "manifest", file)
    else:
        facts.miss("dataset.games", f"{file} does not count its games")
    facts.put("dataset.simulated", manifest.get("simulated") is True, "manifest", str(file))
    _windows(config, manifest, facts, str(file))


def _find(encoded: str, root: Path, facts: Facts) -> dict[str, Any] | None:
    folder, shown = root / encoded, Path(encoded)
    committed = folder.with_name(folder.name + ".manifest.json")
    inside = folder.resolve().is_relative_to(root.resolve())
    facts.put("dataset.folder", str(encoded), "derived", "data.encoded")
    for place, file in (("encoded", folder / "manifest.json"), ("committed", committed)):
        if file.exists():
            short = str(shown.parent / file.relative_to(folder.parent))
            facts.put("dataset.place", place, "manifest", short)
            facts.put("dataset.manifest_file", short, "manifest", short)
            return _json(file, short, facts)
    place = "partial" if folder.is_dir() else "file" if folder.exists() else "absent" if inside else "elsewhere"
    facts.put("dataset.place", place, "derived", str(folder))
    return None


def _json(file: Path, shown: str, facts: Facts) -> dict[str, Any] | None:
    try:
        if kind := other_than_file(file):
            raise ValueError(f"it is {kind}, not a file")
        if file.stat().st_size > MAX_BYTES:
            raise ValueError("it is larger than a manifest can be")
        data = json.loads(file.read_text("utf-8"))
        if not isinstance(data, dict) or data.get("kind") != "encoded-dataset":
            raise ValueError("it is not the manifest of an encoded dataset")
    except (OSError, ValueError, RecursionError) as error:
        facts.put("dataset.unreadable", f"{shown} cannot be read: {error}", "manifest", shown)
        return None
    return data


def _whole(part: str, value: Any) -> bool:
    """Whether a part of a manifest has the kind of value that the rules rely on."""
    if part == "columns":
        return isinstance(value, dict) and all(
            isinstance(audit, dict) and all(item is None or isinstance(item, int | float) for item in audit.values())
            for audit in value.values()
        )
    kinds: dict[str, type] = {"encoding": dict, "encoding_digest": str, "layout": dict, "frames": int}
    return isinstance(value, kinds[part])


def _windows(config: RunConfig, manifest: dict[str, Any], facts: Facts, file: str) -> None:
    """Windows of the training games: exact where the manifest lists the games, about right where it counts them."""
    context, split = config.model.context_len, config.data.train_split
    games = manifest.get("games")
    try:
        frames = int(manifest["frames"])
        if isinstance(games, list) and games and all("identity" in game for game in games):
            train, held_out = splits.sides([game["identity"] for game in games], split)
            facts.put("dataset.both_sides", _both_sides(games, train, held_out), "manifest", file)
            sizes = [max(0, int(game["frames"]) - context) for game in games]
            detail = f"{file}: {len(train)} of {counted(len(games), 'game')}"
            facts.put("data.train_windows", sum(sizes[index] for index in train), "manifest", detail)
            facts.put("data.validation_windows", sum(sizes[index] for index in held_out), "manifest", file)
        else:
            windows = max(0, frames - context * int(facts.get("dataset.games", 0)))
            facts.put("data.train_windows", round(windows * split), "manifest", f"about, from the counts of {file}")
            facts.put("data.validation_windows", round(windows * (1 - split)), "manifest", f"about, from {file}")
        facts.put("data.frames", frames, "manifest", file)
    except (KeyError, TypeError, ValueError, AttributeError):
        for name in ("data.train_windows", "data.validation_windows", "data.frames"):
            facts.miss(name, f"{file} does not list its games as it should")


def _both_sides(games: list[Any], train: list[int], held_out: list[int]) -> tuple[tuple[str, str], ...]:
    """Pairs of games with the same bytes or the same identity, one trained on and one held out: (source, source)."""
    seen: dict[str, Any] = {}
    for index in train:
        for key in ("sha256", "identity"):
            if games[index].get(key):
                seen[str(games[index][key])] = games[index]
    found = []
    for index in held_out:
        game = games[index]
        twin = seen.get(str(game.get("sha256"))) or seen.get(str(game["identity"]))
        if twin is not None:
            found.append((str(twin.get("source", twin["identity"])), str(game.get("source", game["identity"]))))
    return tuple(found)


def _without(config: RunConfig, facts: Facts) -> None:
    simulate = config.data.simulate
    why = (
        "the config names no dataset (data.encoded)"
        if simulate is None
        else "the run simulates and encodes its games itself"
    )
    for part in (*_PARTS, "place", "games"):
        facts.miss(f"dataset.{part}", why)
    if simulate is None:
        _guess(config, facts, why)
        return
    frames = round(simulate.seconds * FRAMES_PER_SECOND)
    train = splits.training_games(simulate.games, config.data.train_split)
    windows = max(0, frames - config.model.context_len)
    facts.put("data.frames", frames * simulate.games, "derived", "data.simulate")
    facts.put("data.train_windows", train * windows, "derived", f"{train} of {simulate.games} simulated games")
    facts.put("data.validation_windows", (simulate.games - train) * windows, "derived", "data.simulate")


def _guess(config: RunConfig, facts: Facts, why: str) -> None:
    """Without a manifest, `data.max_games` still tells the order of size."""
    if config.data.max_games:
        games = config.data.max_games
        detail = f"about, from data.max_games × {FRAMES_PER_GAME:,} frames"
        _about(config, games * FRAMES_PER_GAME, games, detail, facts)
        return
    for name in ("data.train_windows", "data.validation_windows", "data.frames"):
        facts.miss(name, why)


def _about(config: RunConfig, frames: int, games: int, detail: str, facts: Facts) -> None:
    windows = max(0, frames - config.model.context_len * games)
    facts.put("data.frames", frames, "derived", detail)
    facts.put("data.train_windows", round(windows * config.data.train_split), "derived", detail)
    facts.put("data.validation_windows", round(windows * (1 - config.data.train_split)), "derived", detail)
