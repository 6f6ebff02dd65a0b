"""The manifest of an encoded dataset, and its small copy that is meant to be committed."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runctl import __version__, record
from runctl.config.model import Encoding
from runctl.tasks.worldmodel import dataset
from runctl.tasks.worldmodel import encoding as encodings
from runctl.tasks.worldmodel.dataset import GameEntry
from runctl.tasks.worldmodel.sources import Source

if TYPE_CHECKING:
    from runctl.tasks.worldmodel.encode import Gathered

COPIED = (
    "schema_version", "kind", "simulated", "encoding", "encoding_digest", "frames", "skipped_counts", "columns",
    "runctl_version", "created",
)  # fmt: skip


def build(
    gathered: Gathered, sources: Sequence[Source], encoding: Encoding, max_games: int | None, train_split: float
) -> dict[str, Any]:
    """The whole manifest. Everything but `created` follows from the sources and the encoding."""
    entries = [GameEntry(game["start"], game["frames"], game["identity"], game["source"]) for game in gathered.games]
    train, validation = dataset.split(entries, train_split)
    skipped = [{"source": skip.source, "reason": skip.reason, "detail": skip.detail} for skip in gathered.skipped]
    return {
        "schema_version": dataset.SCHEMA_VERSION,
        "kind": dataset.KIND,
        "simulated": all(source.simulated for source in sources),
        "encoding": encodings.dataset_keys(encoding),
        "encoding_digest": encodings.dataset_digest(encoding),
        "layout": encodings.columns(encoding).to_manifest(),
        "frames": gathered.frames,
        "games": gathered.games,
        "skipped": skipped,
        "skipped_counts": dict(sorted(Counter(skip.reason for skip in gathered.skipped).items())),
        "columns": gathered.audit.to_manifest(),
        "split": {"train_split": train_split, "train": train, "validation": validation},
        "sources": {
            "count": len(sources),
            "read": len(gathered.digests),
            "max_games": max_games,
            "names_digest": _names(sources),
            "content_digest": _contents(gathered.digests),
        },
        "runctl_version": __version__,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def write_copy(out: Path, manifest: dict[str, Any]) -> Path:
    """Write `<out>.manifest.json`: counts, encoding and audit, without any file's name."""
    path = out.with_name(f"{out.name}.manifest.json")
    small = {name: manifest[name] for name in COPIED} | {"games": len(manifest["games"])}
    small["split"] = {
        "train_split": manifest["split"]["train_split"],
        "train": len(manifest["split"]["train"]),
        "validation": len(manifest["split"]["validation"]),
    }
    record.write_json(path, small)
    return path


def same_sources(manifest: dict[str, Any], sources: Sequence[Source], max_games: int | None) -> bool:
    """Whether a dataset was made of exactly these sources: names first, then the bytes of those that were read."""
    facts = manifest.get("sources") or {}
    if facts.get("names_digest") != _names(sources) or facts.get("max_games") != max_games:
        return False
    return bool(facts.get("content_digest") == _contents([source.digest() for source in sources[: facts["read"]]]))


def _names(sources: Sequence[Source]) -> str:
    return hashlib.sha256(json.dumps([source.name for source in sources]).encode()).hexdigest()


def _contents(digests: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
