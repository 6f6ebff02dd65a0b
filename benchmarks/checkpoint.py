"""How long a checkpoint holds the training: runctl's beside a plain copy of the state and beside others' ways.

    python benchmarks/checkpoint.py [--sizes 43,1000] [--rounds 9] [--json FILE]

The state is that of AdamW on blocks of matrices and vectors, weights and two moments, in fp32. Ways take turns, and
medians over the rounds count. `copy` is the state copied tensor by tensor into kept memory; `torch.save` and
safetensors write it to one file and flush that to disk; `dcp.async_save` is torch's distributed checkpoint, which
copies and then writes in a thread, with its default settings and with its staging buffers kept. For runctl it is the
whole of the loop's `save`: the look at the losses, the capture, the snapshot, the start of the writing thread. The
first of its saves, which makes the buffers, is told by itself, and so is what a matrix product loses while the thread
writes: hashing and copying to the disk's cache take a core. A write in flight ends before the next turn.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from bench import machine, write
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

from runctl import record
from runctl.config import RunConfig
from runctl.train.control import Control
from runctl.train.heartbeat import Heartbeat
from runctl.train.loop import Loop, Place
from runctl.train.trackers import start

ROOT = Path(__file__).resolve().parents[1]
AIM = 1.3  # times the copy
PER_PARAMETER = 12  # bytes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="43,1000", help="MB of state")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "checkpoint.json")
    parser.add_argument("--into", type=Path, help="the disk to write to; the temporary folder if not given")
    options = parser.parse_args()
    if "OMP_WAIT_POLICY" not in os.environ:  # as the trainer sets it, before torch is loaded
        os.execve(sys.executable, sys.orig_argv, os.environ | {"OMP_WAIT_POLICY": "PASSIVE"})
    warnings.simplefilter("ignore")
    found: dict[str, Any] = {"machine": machine() | {"threads": torch.get_num_threads()}, "sizes": {}}
    for megabytes in map(int, options.sizes.split(",")):
        with tempfile.TemporaryDirectory(dir=options.into) as folder:
            found["sizes"][str(megabytes)] = measure(Path(folder), megabytes, options.rounds)
    write(options.json, found)
    return int(any(one["ways"]["runctl"]["times_the_copy"] > AIM for one in found["sizes"].values()))


def measure(folder: Path, megabytes: int, rounds: int) -> dict[str, Any]:
    """All ways in turn on one state."""
    loop = made(folder, megabytes)
    tensors, _ = loop.state.capture()
    state = {f"{file}/{name}": tensor for file in ("model", "optimizer") for name, tensor in tensors[file].items()}
    size = sum(tensor.nbytes for tensor in state.values())
    kept = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    before = resident()
    own = Own(loop)
    first = own.save()
    own.finish()
    grown = resident() - before
    ways: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
        "copy": (lambda: copy(state, kept), nothing),
        "runctl": (own.save, own.finish),
        "torch.save + fsync": (lambda: flushed(folder / "one.pt", lambda file: torch.save(state, file)), nothing),
        "safetensors + fsync": (
            lambda: flushed(folder / "one.safetensors", lambda file: save_file(state, file)),
            nothing,
        ),
    }
    for name, stager in stagers().items():
        other = Distributed(folder / "dcp", state, stager)
        ways[name] = (other.save, other.finish)
    stalls: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, (save, finish) in ways.items():
            stalls[name].append(lasting(save))
            finish()
    stalls = {name: found[1:] for name, found in stalls.items()}  # the first round makes buffers
    result: dict[str, Any] = {"bytes": size, "tensors": len(state), "rounds": rounds, "ways": {}}
    print(f"{size / 1e6:,.0f} MB in {len(state)} tensors")
    for name, found in stalls.items():
        waited = [1e3 * wall for wall, _ in found]
        least = min(waited) / min(1e3 * wall for wall, _ in stalls["copy"])
        ratios = [
            [one / other for one, other in zip(a, b, strict=True)] for a, b in zip(found, stalls["copy"], strict=True)
        ]
        result["ways"][name] = {
            "stall_ms": round(statistics.median(waited), 3),
            "least_ms": round(min(waited), 3),
            "most_ms": round(max(waited), 3),
            "processor_ms": round(1e3 * statistics.median(busy for _, busy in found), 3),
            "times_the_copy": round(statistics.median(wall for wall, _ in ratios), 3),
            "least_times_the_copy": round(least, 3),
            "processor_times_the_copy": round(statistics.median(busy for _, busy in ratios), 3),
        }
        told = result["ways"][name]
        print(
            f"  {name:<30} {told['stall_ms']:9.2f} ms, {told['times_the_copy']:6.2f} times the copy; at best "
            f"{told['least_ms']:8.2f} ms, {least:5.2f}; processor {told['processor_ms']:8.2f} ms, "
            f"{told['processor_times_the_copy']:5.2f}",
            flush=True,
        )
    result["first_save_ms"] = round(1e3 * first, 3)
    result["resident_growth_bytes"] = grown
    result["write_ms"] = round(1e3 * statistics.median(own.writes), 1)
    result["beside_the_write"] = beside(own)
    told = result["beside_the_write"]
    print(f"  the first save, which makes the buffers: {result['first_save_ms']:.1f} ms; ", end="")
    print(f"resident memory grew by {grown / size:.2f} times the state")
    print(f"  written after {result['write_ms']:.0f} ms; a matrix product runs at {told:.0%} meanwhile", flush=True)
    own.loop.writer.close(nothing)
    return result


class Own:
    """runctl's way: the loop's own `save`."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.writes: list[float] = []
        self._began = 0.0

    def save(self) -> float:
        self.loop.state.step += 1
        began = time.perf_counter()
        self.loop.save()
        self._began = time.perf_counter()
        return self._began - began

    def finish(self) -> None:
        self.loop.writer.wait(nothing)
        self.writes.append(time.perf_counter() - self._began)


class Distributed:
    """torch's asynchronous distributed checkpoint, of one process."""

    def __init__(self, folder: Path, state: dict[str, Tensor], stager: Callable[[], Any]) -> None:
        self.folder, self.state, self.stager = folder, state, stager()
        self._answer: Any = None

    def save(self) -> None:
        options = {"async_stager": self.stager} if self.stager is not None else {}
        self._answer = dcp.async_save(self.state, checkpoint_id=str(self.folder), no_dist=True, **options)

    def finish(self) -> None:
        for future in (self._answer, getattr(self._answer, "upload_completion", None)):
            if hasattr(future, "result"):
                future.result()
        shutil.rmtree(self.folder, ignore_errors=True)


def stagers() -> dict[str, Callable[[], Any]]:
    """By name: the default, and the one that keeps its buffers, which is what a training loop would take."""
    return {
        "dcp.async_save": lambda: None,
        "dcp.async_save, buffers kept": lambda: DefaultStager(StagingOptions(False, False, False, False)),
    }


def beside(own: Own) -> float:
    """The rate of a matrix product while a checkpoint is written, as a share of its rate otherwise; both threads."""
    matrix = torch.randn(768, 768)

    def rate(goes_on: Callable[[], bool]) -> float:
        began, count = time.perf_counter(), 0
        while goes_on() or count == 0:
            matrix @ matrix
            count += 1
        return count / (time.perf_counter() - began)

    shares = []
    for _ in range(3):
        until = time.perf_counter() + 0.5
        alone = rate(lambda until=until: time.perf_counter() < until)
        own.save()
        shares.append(rate(lambda: own.loop.writer.busy) / alone)
        own.finish()
    return round(statistics.median(shares), 3)


def made(folder: Path, megabytes: int) -> Loop:
    """The loop of a model whose state is of that size, after a step of its optimizer."""
    config = RunConfig.model_validate(
        {
            "name": "checkpoint",
            "training": {"steps": 1000, "device": "cpu", "seed": 1},
            "checkpoint": {"keep_last": 1, "keep_best": 0, "every": "never"},
        }
    )
    run = record.RunDir(folder / "run")
    files = run.attempt(1)
    files.path.mkdir(parents=True)
    place = Place(run, 1, torch.device("cpu"), Control(), Heartbeat(files), start(config, {}, run))
    job: Any = Job(megabytes)
    loop = Loop(job, config, place)
    for parameter in job.model.parameters():
        parameter.grad = torch.randn_like(parameter)
    loop.state.optimizer.step()
    loop.state.optimizer.zero_grad()
    return loop


class Job:
    """What the loop asks of a job that only saves: blocks like those of a Mamba-2, eight tensors each."""

    train_windows = validation_windows = 1000
    identity: Mapping[str, str] = MappingProxyType({})
    loss = None  # nothing is trained

    def __init__(self, megabytes: int, layers: int = 8) -> None:
        width = 16
        while PER_PARAMETER * layers * self.block(width + 8) <= megabytes * 1e6:
            width += 8
        inner = 2 * width
        blocks = []
        for _ in range(layers):
            shapes = ((4 * width, width), (width, inner), (inner, 4), (inner,), (width,), (inner,), (24,), (24,))
            blocks.append(nn.ParameterList([torch.randn(shape) for shape in shapes]))
        self.model = nn.ModuleList(blocks)

    @staticmethod
    def block(width: int) -> int:
        return 6 * width * width + 13 * width + 48


def copy(state: dict[str, Tensor], kept: dict[str, Tensor]) -> None:
    for name, tensor in state.items():
        kept[name].copy_(tensor)


def flushed(path: Path, write: Callable[[Path], None]) -> None:
    write(path)
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def lasting(do: Callable[[], Any]) -> tuple[float, float]:
    """(wall time, processor time of this thread), seconds."""
    began, busy = time.perf_counter(), time.thread_time()
    do()
    return time.perf_counter() - began, time.thread_time() - busy


def nothing() -> None: ...


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    sys.exit(main())
