"""Training examples per second, and the share of this machine's own matmul rate that the steps reach.

    python benchmarks/train.py [--seconds 20] [--threads N] [--shape small|medium|all]

Whole optimizer steps as the trainer runs them (gather, features, forward, backward, clip, AdamW, sums) on simulated
games, in turn with plain square matmuls of the same precision, so that drift of the machine hits both alike. The
arithmetic of a step is counted by torch's FLOP counter: matmuls only, so the share is a lower bound.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from runctl.config import RunConfig
from runctl.record import RunDir
from runctl.tasks.worldmodel import task
from runctl.train import device as devices
from runctl.train.control import Control
from runctl.train.heartbeat import Heartbeat
from runctl.train.loop import Loop, Place
from runctl.train.trackers import start

SHAPES = {
    "small": {"d_model": 64, "n_layers": 2, "batch": 512},
    "medium": {"d_model": 384, "n_layers": 4, "batch": 512},
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20.0, help="of training for each line")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--shape", choices=[*SHAPES, "all"], default="all")
    options = parser.parse_args()
    print(f"{options.threads} threads; load of the machine {os.getloadavg()[0]:.1f}")
    print(f"{'shape':<16}{'precision':<11}{'examples/s':>11}{'tokens/s':>10}{'ms/step':>9}{'GFLOP/s':>9}{'share':>7}")
    with tempfile.TemporaryDirectory() as folder:
        for name in SHAPES if options.shape == "all" else [options.shape]:
            for precision in ("fp32", "bf16"):
                measure(Path(folder), name, precision, options.threads, options.seconds)


def measure(folder: Path, name: str, precision: str, threads: int, seconds: float) -> None:
    """Print one line: medians over alternating slices of training and of matmuls."""
    shape = SHAPES[name]
    config = make_config(name, precision, threads)
    devices.prepare(config)
    loop = make_loop(folder, config)
    with FlopCounterMode(display=False) as counter:
        loop.step()
    flops = counter.get_total_flops()
    for _ in range(3):
        loop.step()
    steps, rates = [], []
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        rates.append(matmul_rate(precision))
        for _ in range(5):
            began = time.perf_counter()
            loop.step()
            steps.append(time.perf_counter() - began)
    step, rate = statistics.median(steps), statistics.median(rates)
    batch, context = shape["batch"], config.model.context_len
    title = f"{shape['d_model']}×{shape['n_layers']}, K={context}"
    reached = flops / step
    print(
        f"{title:<16}{precision:<11}{batch / step:>11,.0f}{batch * context / step:>10,.0f}{step * 1e3:>9.1f}"
        f"{reached / 1e9:>9.1f}{reached / rate:>7.1%}   ({rate / 1e9:.0f} GFLOP/s matmul, {len(steps)} steps)",
        flush=True,
    )


def make_config(name: str, precision: str, threads: int) -> RunConfig:
    shape = SHAPES[name]
    return RunConfig.model_validate(
        {
            "name": f"benchmark-{name}",
            "data": {"simulate": {"games": 8, "seconds": 60}},
            "model": {"d_model": shape["d_model"], "n_layers": shape["n_layers"], "context_len": 10, "dropout": 0.1},
            "encoding": {"state_age_as_embed": True},
            "training": {"batch_size": shape["batch"], "precision": precision, "threads": threads, "device": "cpu"},
        }
    )


def make_loop(folder: Path, config: RunConfig) -> Loop:
    run = RunDir(folder / "run")
    run.attempt(1).path.mkdir(parents=True, exist_ok=True)
    device = torch.device("cpu")
    job = task.build(config, project=folder, run=run, device=device, report=lambda _: None)
    job.model.train()
    place = Place(run, 1, device, Control(), Heartbeat(run.attempt(1)), start(config, {}, run))
    return Loop(job, config, place)


def matmul_rate(precision: str, size: int = 1536) -> float:
    """FLOP/s of square matmuls in that precision; in fp32 without the shortcuts that `medium` allows."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    out = a @ b
    began = time.perf_counter()
    for _ in range(3):
        torch.matmul(a, b, out=out)
    return 3 * 2 * size**3 / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
