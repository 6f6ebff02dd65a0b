"""Replays → a dataset on the volume, encoded in CPU containers beside each other.

The replays are sent once, then each container takes some of them, and the last one puts the dataset together
(`remote/encoding.py`). The app is no detached one: it ends with this command, and so does what it costs. The same
command goes on where an interrupted one ended: files, chunks and parts that are there are not sent or made again.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from runctl import record
from runctl.backends.modal import client as clients
from runctl.backends.modal import datasets, image
from runctl.backends.modal import place as places
from runctl.backends.modal.plan import MOUNT, SOURCE, Place, short
from runctl.backends.modal.recipe import recipe
from runctl.config import RunConfig
from runctl.errors import DataError, RefusedError, RunctlError
from runctl.light import dataclass
from runctl.tasks.worldmodel import encoding as encodings
from runctl.tasks.worldmodel import sources as found
from runctl.tasks.worldmodel.sources import Source
from runctl.units import counted

CHUNK = 256  # replays for one call
CONTAINERS = 8
CORES, MEMORY_MIB, SECONDS = 8.0, 16_384, 3600
_SENT_AT_ONCE = 32
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Encoded:
    """What came of it. `taken_over` are chunks of an earlier command."""

    volume: str
    path: str
    games: int
    frames: int
    skipped: int
    for_example: list[list[str]]
    replays_sent: int
    chunks: int
    taken_over: int
    copy: str


def encode(
    config: RunConfig,
    root: Path,
    place: Place,
    paths: Sequence[Path],
    *,
    strict: bool = False,
    overwrite: bool = False,
    containers: int = CONTAINERS,
    progress: Progress = lambda what, done, total: None,
) -> Encoded:
    """Encode replays on Modal. Raises UsageError, DataError where nothing could be encoded (or, with `strict`, anything
    was skipped), RefusedError where another dataset is in the place, ProviderError."""
    encoded = datasets.named(config)
    there, listed = places.dataset(encoded), found.replays(paths)
    seen = datasets.asked(place, there)
    digest = encodings.dataset_digest(config.encoding)
    if seen.manifest is not None and not overwrite:
        what = "a dataset" if seen.manifest.get("encoding_digest") == digest else "a dataset of another encoding"
        raise RefusedError(f"the volume '{place.volume}' has {what} at {there}", hint="replace it: --overwrite")
    sizes = [source.stamp()[1] for source in listed]
    job = hashlib.sha256(json.dumps([digest, CHUNK, [one.name for one in listed], sizes]).encode()).hexdigest()[:12]
    replays = f"replays/{job}"
    with datasets.opened(place, make=True) as (volume, names):
        sent = _send(volume, names(replays), listed, sizes, replays, progress)
        present = names(f"{there}.partial/{job}")
    shared = {
        "mount": MOUNT,
        "volume": place.volume,
        "environment": place.environment,
        "replays": replays,
        "encoding": config.encoding.model_dump(),
    }
    chunks = [
        {**shared, "folder": f"{there}.partial/{job}/chunk-{number:05d}", "sources": [one.name for one in some]}
        for number, some in enumerate(listed[at : at + CHUNK] for at in range(0, len(listed), CHUNK))
    ]
    todo = [spec for spec in chunks if f"{spec['folder']}/journal.jsonl" not in present]
    last = {
        **shared,
        "sources": [one.name for one in listed],
        "chunks": [spec["folder"] for spec in chunks],
        "dataset": there,
        "partial": f"{there}.partial/{job}",
        "max_games": config.data.max_games or None,
        "train_split": config.data.train_split,
        "strict": strict,
    }
    answer = _run(place, todo, last, len(chunks), containers, progress)
    examples = [[str(word) for word in one] for one in answer["for_example"]]
    if not answer["made"]:
        hint = "; ".join(f"{source}: {detail or reason}" for source, reason, detail in examples)
        what = "--strict: " if answer["games"] else "nothing could be encoded: "
        raise DataError(f"{what}{answer['skipped']} of {counted(len(listed), 'replay')} would be skipped", hint=hint)
    copy = (root / encoded).with_name(f"{Path(encoded).name}.manifest.json")
    copy.parent.mkdir(parents=True, exist_ok=True)
    record.write_json(copy, answer["copy"])
    return Encoded(
        volume=place.volume,
        path=there,
        games=int(answer["games"]),
        frames=int(answer["frames"]),
        skipped=int(answer["skipped"]),
        for_example=examples,
        replays_sent=sent,
        chunks=len(chunks),
        taken_over=len(chunks) - len(todo),
        copy=str(copy),
    )


def _send(
    volume: Any, present: dict[str, int], listed: Sequence[Source], sizes: Sequence[int], there: str, progress: Progress
) -> int:
    """Send the replays that are not there; returns how many those were."""
    missing = [one for one, size in zip(listed, sizes, strict=True) if present.get(f"{there}/{one.name}") != size]
    for begin in range(0, len(missing), _SENT_AT_ONCE):
        progress("sending replays", len(listed) - len(missing) + begin, len(listed))
        with volume.batch_upload(force=True) as batch:
            for one in missing[begin : begin + _SENT_AT_ONCE]:
                batch.put_file(one.path, f"/{there}/{one.name}")  # type: ignore[union-attr]
    return len(missing)


def _run(
    place: Place, todo: Sequence[dict[str, Any]], last: dict[str, Any], total: int, containers: int, progress: Progress
) -> dict[str, Any]:
    """The calls: some at a time, then the one that puts the dataset together."""
    modal = clients.load()
    from runctl.remote import encoding as remote

    try:
        client = clients.connect()
        volume = modal.Volume.from_name(place.volume, environment_name=place.environment)
        with tempfile.TemporaryDirectory(prefix="runctl-source-") as folder:
            steps = recipe(gpu=False, kernels=False, python=place.python, packages=place.packages)
            options = {
                "image": image.build(steps, SOURCE, image.stage(SOURCE, Path(folder))),
                "cpu": CORES,
                "memory": MEMORY_MIB,
                "timeout": SECONDS,
                "retries": modal.Retries(max_retries=2, initial_delay=0.0, backoff_coefficient=1.0),
                "volumes": {MOUNT: volume},
                "include_source": False,
            }
            app = modal.App(short(f"runctl-encode-{Path(last['dataset']).name}", 64), tags=dict(place.tags))
            chunk = app.function(max_containers=containers, **options)(remote.chunk)
            merge = app.function(max_containers=1, **options)(remote.merge)
            with app.run(client=client, environment_name=place.environment):
                waiting = list(todo)
                going: list[Any] = []
                while waiting or going:
                    while waiting and len(going) < containers:
                        going.append(chunk.spawn(waiting.pop(0)))
                    progress("encoding", total - len(waiting) - len(going), total)
                    going = [call for call in going if not _over(call, 1.0 / len(going))]
                progress("putting together", total, total)
                return dict(merge.spawn(last).get())
    except RunctlError:
        raise
    except Exception as error:
        raise clients.told(error) from error


def _over(call: Any, seconds: float) -> bool:
    """Whether a call is over; raises what it raised."""
    with suppress(TimeoutError):
        call.get(timeout=seconds)
        return True
    return False
