"""From nothing to the first batch of a large dataset, beside `torch.load` of the same bytes.

    python benchmarks/opening.py [--gigabytes 1] [--rounds 5] [--json FILE] [--processor-time]

Simulated games are encoded and tiled to the size that is asked for, in a temporary folder; the same bytes are saved as
a tensor. Each round opens both in fresh processes, in turn, in which torch is imported before the clock starts; the
files lie in the page cache. Resident memory is what the process holds beyond what it held then: `anonymous` is its own,
`of files` are pages that the kernel may take back at any time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bench import machine, write

from runctl import record
from runctl.config import RunConfig
from runctl.record import RunDir
from runctl.tasks.worldmodel import dataset, encode, sources, task
from runctl.train.gather import Gather

CONTEXT, BATCH = 10, 512
AIM = 0.1
PASSIVE = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}  # as the trainer sets it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write what was found there")
    parser.add_argument("--processor-time", action="store_true", help="by the processor's clock: where others work too")
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)  # in a process of its own
    parser.add_argument("--folder", type=Path, help="where both are, or are to be made; else a temporary one")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.folder)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        if not (folder / "tensor.pt").exists():
            make(folder, options.gigabytes)
        found: dict[str, Any] = {"machine": machine(), "gigabytes": options.gigabytes, "ways": {}}
        taken: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for _ in range(options.rounds):
            for way in WAYS:
                argv = [sys.executable, __file__, "--one", way, "--folder", str(folder)]
                done = subprocess.run(argv, check=True, capture_output=True, text=True, env=PASSIVE)
                taken[way].append(json.loads(done.stdout))
    clock = "processor_seconds" if options.processor_time else "seconds"
    found["machine"]["processor_time"] = options.processor_time
    base = statistics.median(one[clock] for one in taken[BASE])
    print(f"{'':<34}{'ms':>9}{'of torch.load':>15}{'anonymous':>12}{'of files':>11}")
    for way, rows in taken.items():
        one = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        found["ways"][way] = one | {"measured_seconds": one[clock], "of_torch_load": one[clock] / base}
        sizes = [f"{one[key] / 2**20:,.0f} MiB" for key in ("anonymous_bytes", "file_bytes")]
        print(f"{way:<34}{one[clock] * 1e3:>9.1f}{one[clock] / base:>15.1%}{sizes[0]:>12}{sizes[1]:>11}")
    write(options.json, found | {"aim": AIM})


def config() -> RunConfig:
    return RunConfig.model_validate(
        {
            "name": "opening",
            "data": {"encoded": "dataset"},
            "encoding": {"state_age_as_embed": True},
            "model": {"d_model": 32, "n_layers": 1, "headdim": 16, "d_state": 16, "context_len": CONTEXT},
            "training": {"batch_size": BATCH, "device": "cpu"},
        }
    )


def make(folder: Path, gigabytes: float) -> None:
    """`dataset` (encoded, tiled) and `tensor.pt` with the same bytes."""
    games = RunConfig.model_validate({"name": "x", "data": {"simulate": {"games": 16, "seconds": 120}}}).data.simulate
    small = encode.encode(sources.simulated(games), config().encoding, folder / "small").out
    tile(small, folder / "dataset", int(gigabytes * 1e9))
    torch.save(torch.from_numpy(dataset.open(folder / "dataset").records.copy()), folder / "tensor.pt")


def tile(small: Path, out: Path, size_bytes: int) -> None:
    """The games of a dataset again and again, until they have this size; each copy is another game."""
    manifest = dataset.read_manifest(small)
    frames = (small / dataset.FRAMES).read_bytes()
    times = max(1, round(size_bytes / len(frames)))
    out.mkdir()
    with (out / dataset.FRAMES).open("wb") as file:
        for _ in range(times):
            file.write(frames)
    games = [
        {**game, "start": game["start"] + turn * manifest["frames"], "identity": f"{game['identity']}-{turn}"}
        for turn in range(times)
        for game in manifest["games"]
    ]
    record.write_json(out / dataset.MANIFEST, {**manifest, "frames": times * manifest["frames"], "games": games})


def load(folder: Path) -> Any:
    whole = torch.load(folder / "tensor.pt")
    return whole, whole[:BATCH].sum()


def load_mapped(folder: Path) -> Any:
    whole = torch.load(folder / "tensor.pt", mmap=True)
    return whole, whole[:BATCH].sum()


def first_batch(folder: Path) -> Any:
    data = dataset.open(folder / "dataset")
    training, _ = dataset.split(data.games, 0.9)
    windows = dataset.Windows(data.games, training, CONTEXT)
    chosen = torch.randint(len(windows), (BATCH,))
    gather = Gather(data.records, CONTEXT + 1, torch.device("cpu"))
    return gather, gather(torch.from_numpy(windows[chosen.numpy()])).sum()


def job(folder: Path) -> Any:
    built = task.build(
        config(), project=folder, run=RunDir(folder / "run"), device=torch.device("cpu"), report=lambda _: None
    )
    return built, built.batch(torch.randint(built.train_windows, (BATCH,)), validation=False).sum()


BASE = "torch.load"
WAYS: dict[str, Callable[[Path], Any]] = {
    BASE: load,
    "torch.load(mmap=True)": load_mapped,
    "runctl: open, first batch": first_batch,
    "runctl: the job, first batch": job,
}


def measure(way: str, folder: Path) -> dict[str, float]:
    torch.zeros(1)
    before = resident()
    began, worked = time.perf_counter(), time.process_time()
    held = WAYS[way](folder)
    took, worked = time.perf_counter() - began, time.process_time() - worked
    after = resident()
    del held
    return {"seconds": took, "processor_seconds": worked, **{key: after[key] - before[key] for key in after}}


def resident() -> dict[str, int]:
    """Bytes by kind, of this process."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    names = {"anonymous_bytes": "RssAnon", "file_bytes": "RssFile", "peak_bytes": "VmHWM"}
    return {key: int(lines[name].split()[0]) * 1024 for key, name in names.items()}


if __name__ == "__main__":
    main()
