"""What a second process brings: the trainer's steps in one process beside the same steps in two, over gloo on the CPU.

    python benchmarks/ddp.py [--seconds 60] [--shape tiny|small|medium|all] [--json FILE]

Two processes are started once, as the leader of a run starts them. Then slices of about half a second alternate: the
first process alone with one thread (the other waits, idle), alone with two threads, and both with one thread each. All
read whole batches of the same size, so that drift of the machine and its other work hit all alike; medians over the
slices. What one process makes of two threads is the measure of what the two cores have to give. `agreeing` is the time
that two idle processes need for the one exchange on the CPU that each step has. `efficiency` is what two processes of
one thread each do, against twice what one does; of one process with two threads it is what the cores have to give.
"""

from __future__ import annotations

import argparse
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
from torch import distributed

from runctl.config import RunConfig
from runctl.record import RunDir, read_object, write_json
from runctl.tasks.worldmodel import task
from runctl.train.control import Control
from runctl.train.heartbeat import Heartbeat
from runctl.train.loop import Loop, Place
from runctl.train.presence import RANKS, Mark, heartbeat, seat
from runctl.train.ranks import Alone, Group, Ranks
from runctl.train.trackers import Silent

ROOT = Path(__file__).resolve().parents[1]
SHAPES = {
    "tiny": {"d_model": 16, "n_layers": 1, "batch": 64},
    "small": {"d_model": 64, "n_layers": 2, "batch": 512},
    "medium": {"d_model": 384, "n_layers": 4, "batch": 512},
}
SLICE_SECONDS = 0.5
WAYS = ("1 process, 1 thread", "1 process, 2 threads", "2 processes, 1 thread each")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0, help="for each shape")
    parser.add_argument("--shape", choices=[*SHAPES, "all"], default="all")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "ddp.json")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)  # in the two processes
    options = parser.parse_args()
    if options.into is not None:
        measure(options.into, options.shape, options.seconds)
        return
    found: dict[str, Any] = {"machine": machine(), "shapes": {}}
    for shape in SHAPES if options.shape == "all" else [options.shape]:
        with tempfile.TemporaryDirectory() as folder:
            start(Path(folder), shape, options.seconds)
            found["shapes"][shape] = read_object(Path(folder) / "found.json")
    write(options.json, found)


def start(folder: Path, shape: str, seconds: float) -> None:
    given = "-m torch.distributed.run --standalone --local-addr 127.0.0.1 --nproc-per-node 2"
    own = [str(Path(__file__)), "--shape", shape, "--seconds", str(seconds), "--into", str(folder)]
    env = os.environ | {RANKS: "2", "OMP_NUM_THREADS": "2", "GLOO_SOCKET_IFNAME": "lo", "OMP_WAIT_POLICY": "PASSIVE"}
    subprocess.run([sys.executable, *given.split(), *own], check=True, cwd=ROOT, env=env)


def measure(folder: Path, shape: str, seconds: float) -> None:
    """In each of the two processes: alternate the ways until the time is over; the first one writes what it found."""
    torch.set_num_threads(1)
    here = seat()
    attempt = RunDir(folder / "run").attempt(1)
    group = Group(here, attempt, Mark(attempt, here.rank))
    group.meet(lambda words: None)
    if not here.first:
        group.after_first()
    loops = {"alone": make_loop(folder, shape, Alone())}
    group.done()
    group.join(torch.device("cpu"))
    loops["shared"] = make_loop(folder, shape, group)
    for _ in range(3):
        one_step(loops["alone"], 1)
        one_step(loops["shared"], 1)
    steps = max(1, round(SLICE_SECONDS / lasting(lambda: one_step(loops["alone"], 1))))
    steps = int(group.total(torch.tensor(float(steps))).item() / 2)
    slices: dict[str, list[float]] = {way: [] for way in WAYS}
    ends = time.monotonic() + seconds
    while not group.agree(time.monotonic() >= ends)[0]:
        for way, threads in zip(WAYS[:2], (1, 2), strict=True):
            if here.first:
                slices[way].append(lasting(lambda threads=threads: one_step(loops["alone"], threads, steps)) / steps)
            group.agree(False)
        slices[WAYS[2]].append(lasting(lambda: one_step(loops["shared"], 1, steps)) / steps)
    agreeing = [lasting(lambda: group.agree(False, False, False)) for _ in range(500)]
    if here.first:
        write_json(folder / "found.json", table(shape, steps, slices, agreeing))
    distributed.barrier()
    sys.stdout.flush()
    os._exit(0)  # gloo may abort in its teardown


def one_step(loop: Loop, threads: int, steps: int = 1) -> None:
    torch.set_num_threads(threads)
    for _ in range(steps):
        loop.step()
        loop.ranks.agree(False, False, False)
    torch.set_num_threads(1)


def lasting(do: Callable[[], Any]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def make_loop(folder: Path, shape: str, ranks: Ranks) -> Loop:
    chosen, here = SHAPES[shape], seat()
    config = RunConfig.model_validate(
        {
            "name": "bench",
            "data": {"simulate": {"games": 8, "seconds": 60}},
            "model": {"d_model": chosen["d_model"], "n_layers": chosen["n_layers"], "headdim": 16, "context_len": 10},
            "training": {"batch_size": chosen["batch"], "steps": 10**6, "threads": 1, "device": "cpu"},
        }
    )
    run = RunDir(folder / "run")
    device = torch.device("cpu")
    torch.manual_seed(0)
    job = task.build(config, project=folder, run=run, device=device, report=lambda _: None)
    job.metrics()  # counted before, not beside, what is measured
    job.model.train()
    beat = Heartbeat(run.attempt(1), path=heartbeat(run.attempt(1), here.rank))
    return Loop(job, config, Place(run, 1, device, Control(), beat, Silent(), ranks))


def table(shape: str, steps: int, slices: dict[str, list[float]], agreeing: list[float]) -> dict[str, Any]:
    """Print and return the medians of one shape."""
    batch = int(str(SHAPES[shape]["batch"]))
    base = statistics.median(slices[WAYS[0]])
    told: dict[str, Any] = {**SHAPES[shape], "steps_in_a_slice": steps, "ways": {}}
    for way, found in slices.items():
        step = statistics.median(found)
        ratio = statistics.median(one / other for one, other in zip(slices[WAYS[0]], found, strict=True))
        quarters = statistics.quantiles(found, n=4)
        told["ways"][way] = {
            "slices": len(found),
            "step_ms": round(1e3 * step, 3),
            "step_ms_quarters": [round(1e3 * quarters[0], 3), round(1e3 * quarters[2], 3)],
            "examples_per_second": round(batch / step),
            "times_one_thread": round(base / step, 3),
            "times_one_thread_by_slice": round(ratio, 3),
            "efficiency": round(ratio / (1 if way == WAYS[0] else 2), 3),
        }
        print(f"{shape:<8}{way:<28}{told['ways'][way]}", flush=True)
    told["agreeing_us"] = round(1e6 * statistics.median(agreeing), 1)
    print(f"{shape:<8}agreeing {told['agreeing_us']} us", flush=True)
    return told


if __name__ == "__main__":
    main()
