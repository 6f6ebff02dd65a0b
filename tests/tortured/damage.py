"""What is done to files: cut, flipped, emptied, overwritten with noise, replaced by other JSON, removed."""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from tortured.scene import Scene

from runctl import record

HOWS = ("cut", "cut", "flip", "flip", "empty", "noise", "delete", "list", "deep")


def spoil(scene: Scene, path: Path, how: str) -> None:
    """Damage one file; of one that is being replaced meanwhile, what is there at the moment."""
    random = scene.random
    shown = path.relative_to(scene.run.path)
    scene.notes.append(f"{how} {shown}")
    scene.damaged.add(str(shown))
    try:
        data = bytearray(path.read_bytes())
    except OSError:
        data = bytearray()
    with suppress(FileNotFoundError):
        if how == "cut":
            os.truncate(path, random.randrange(len(data)) if data else 0)
        elif how == "flip":
            for _ in range(3):
                if data:
                    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
            _overwrite(path, bytes(data))
        elif how == "empty":
            os.truncate(path, 0)
        elif how == "noise":
            _overwrite(path, random.randbytes(random.choice([1, 100, 100_000])))
        elif how == "list":
            _overwrite(
                path, random.choice([b"[]\n", b"null\n", b'"text"\n', b"1e999\n", b'{"step": "ten", "time": []}\n'])
            )
        elif how == "deep":
            _overwrite(path, b"[" * 100_000 + b"\n")
        else:
            path.unlink()


def record_paths(scene: Scene) -> dict[str, Path]:
    attempt, run = scene.run.attempt(1), scene.run
    return {
        "heartbeat": attempt.heartbeat,
        "start": attempt.start,
        "measured": attempt.measured,
        "exit": attempt.exit,
        "result": attempt.result,
        "resumed": attempt.resumed,
        "events": run.events,
        "latest": run.latest,
        "lock": run.lock,
        "summary": run.summary,
    }


def record_file(scene: Scene, names: list[str]) -> None:
    """Damage one of the named records that is there."""
    found = {name: path for name, path in record_paths(scene).items() if name in names and path.is_file()}
    if found:
        name = scene.random.choice(sorted(found))
        spoil(scene, found[name], scene.random.choice(HOWS))


def remove(scene: Scene, path: Path) -> None:
    scene.notes.append(f"remove {path.relative_to(scene.run.path)}")
    if path.is_dir():
        deadline = time.monotonic() + 2
        while path.exists() and time.monotonic() < deadline:  # its owner may write into it meanwhile
            shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def tear(scene: Scene, path: Path) -> None:
    """Cut the last line of a file somewhere in it."""
    with suppress(OSError):
        data = path.read_bytes()
        start = data.rfind(b"\n", 0, len(data) - 1) + 1
        if start < len(data):
            os.truncate(path, scene.random.randrange(start, len(data)))


def tear_metrics(scene: Scene) -> None:
    """Cut the rows after the newest checkpoint somewhere; those before it were flushed before it was written."""
    saved = scene.whole_steps()
    step = int(saved[-1].name.removeprefix("step-")) if saved else 0
    with suppress(OSError):
        lines = scene.run.metrics.read_bytes().splitlines(keepends=True)
        kept = sum(len(line) for line in lines if json.loads(line)["step"] <= step)
        os.truncate(scene.run.metrics, scene.random.randint(kept, sum(map(len, lines))))


def shift_times(scene: Scene) -> None:
    """Move every time in the records, and of the files, by one and the same or by random spans."""
    random = scene.random
    for path in [*scene.run.path.glob("*.json"), *scene.run.path.glob("attempts/1/*.json")]:
        shift = random.choice([-1, 1]) * random.choice([3600.0, 86_400.0 * 30, 1e9, 1e15])
        data = record.read_object(path)
        for key in ("time", "created", "started", "ended"):
            if isinstance(data.get(key), int | float) and random.random() < 0.7:
                data[key] += shift
        record.write_json(path, data)
        if random.random() < 0.5:
            when = random.choice([0, 1, time.time() + 1e9])
            os.utime(path, (when, when))
    rows = list(record.read_lines(scene.run.events))
    for row in rows:
        row["time"] += random.choice([0, 1e9, -1e9])
    scene.run.events.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _overwrite(path: Path, data: bytes) -> None:
    with path.open("r+b") as file:
        file.truncate(0)
        file.write(data)
