"""Whole training steps, data included, beside a trainer as most teams write their first (`naive_trainer.py`).

    python benchmarks/train.py [--seconds 20] [--threads N] [--shape tiny|small|medium|all] [--json FILE]
                                [--processor-time]

All train on the same simulated games, windows of 10 frames, on the CPU: runctl's loop with its rows of metrics, and the
naive trainer with runctl's own model and with a plain one, without and with two workers. Slices of about half a second
take turns, in turn with plain square matmuls, so that drift of the machine hits all alike; medians over the slices.
The arithmetic of a step of runctl is counted by torch's FLOP counter: matmuls only, so that its share of the matmuls'
own rate is a lower bound.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from bench import machine, passive, write
from naive_trainer import steps as naive
from torch.utils.flop_counter import FlopCounterMode

from runctl.config import RunConfig
from runctl.record import RunDir
from runctl.tasks.worldmodel import task
from runctl.train import device as devices
from runctl.train.control import Control
from runctl.train.heartbeat import Heartbeat
from runctl.train.loop import Loop, Place
from runctl.train.trackers import start

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"d_model": 32, "n_layers": 1, "batch": 512},
    "small": {"d_model": 64, "n_layers": 2, "batch": 512},
    "medium": {"d_model": 384, "n_layers": 4, "batch": 512},
}
OWN = ("runctl, bf16", "runctl, fp32")
NAIVE = {  # name: (model, workers, precision)
    "naive, same model, fp32": ("own", 0, "fp32"),
    "naive, same model, fp32, 2 workers": ("own", 2, "fp32"),
    "naive, same model, bf16": ("own", 0, "bf16"),
    "naive, plain model, fp32": ("plain", 0, "fp32"),
    "naive, plain model, fp32, 2 workers": ("plain", 2, "fp32"),
    "naive, plain model, bf16": ("plain", 0, "bf16"),
}
AIM = 10.0
SLICE_SECONDS = 0.5
clock = time.perf_counter


def main() -> None:
    global clock
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of training for each contender of a shape")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--shape", choices=[*SHAPES, "all"], default="all")
    parser.add_argument("--json", type=Path, help="write what was found there")
    parser.add_argument("--processor-time", action="store_true", help="by the processor's clock: where others work too")
    options = parser.parse_args()
    passive()
    found: dict[str, Any] = {"machine": machine(), "threads": options.threads, "shapes": {}}
    if options.processor_time:
        clock = time.process_time  # of all threads of this process; that of workers is not counted
        found["machine"]["processor_time"] = True
    with tempfile.TemporaryDirectory() as folder:
        for name in SHAPES if options.shape == "all" else [options.shape]:
            found["shapes"][name] = measure(Path(folder), name, options.threads, options.seconds)
    write(options.json, found)


def measure(folder: Path, name: str, threads: int, seconds: float) -> dict[str, Any]:
    """Medians over slices that take turns, printed as a table."""
    shape, contenders, flops = SHAPES[name], dict[str, Iterator[int]](), 0
    for title in OWN:
        config = make_config(name, title.rpartition(" ")[2], threads)
        devices.prepare(config)
        loop = make_loop(folder, config)
        if not flops:
            with FlopCounterMode(display=False) as counter:
                loop.step()
            flops = counter.get_total_flops()
        contenders[title] = trained(loop)
    for title, (kind, workers, precision) in NAIVE.items():
        contenders[title] = naive(
            folder / "run" / "dataset",
            config.encoding,
            config.model,
            kind=kind,
            batch=shape["batch"],
            workers=workers,
            precision=precision,
        )
    for one in contenders.values():
        precise("fp32")
        next(one)
    rates: dict[str, list[float]] = {title: [] for title in (*contenders, "bf16", "fp32")}
    ends = time.monotonic() + seconds * len(contenders)
    while time.monotonic() < ends or len(rates["bf16"]) < 3:
        for title, one in contenders.items():
            precise("bf16" if "bf16" in title and title in OWN else "fp32")
            rates[title].append(slice_of(one))
        for precision in ("bf16", "fp32"):
            precise("fp32")
            rates[precision].append(matmul_rate(precision))
    return table(name, shape, flops, rates)


def table(name: str, shape: dict[str, int], flops: int, rates: dict[str, list[float]]) -> dict[str, Any]:
    medians = {title: statistics.median(found) for title, found in rates.items()}
    told: dict[str, Any] = {**shape, "context_len": 10, "slices": len(rates["bf16"]), "contenders": {}}
    print(f"\n{name}: width {shape['d_model']}, {shape['n_layers']} layers, K=10, batch {shape['batch']}")
    print(f"  {'':<38}{'examples/s':>11}{'runctl, bf16 ÷ this':>21}{'of the matmul rate':>20}")
    for title, rate in medians.items():
        if title in ("bf16", "fp32"):
            continue
        times = [own / other for own, other in zip(rates[OWN[0]], rates[title], strict=True)]
        one = {"examples_per_second": round(rate, 1), "runctl_times": round(statistics.median(times), 2)}
        share = ""
        if title in OWN:
            one["flops_per_second"] = flops / shape["batch"] * rate
            one["share_of_matmul"] = round(one["flops_per_second"] / medians[title[-4:]], 3)
            share = f"{one['share_of_matmul']:.0%}"
        told["contenders"][title] = one
        print(f"  {title:<38}{rate:>11,.0f}{one['runctl_times']:>21.2f}{share:>20}", flush=True)
    told["matmul_flops_per_second"] = {precision: medians[precision] for precision in ("bf16", "fp32")}
    told["aim"] = AIM
    return told


def slice_of(one: Iterator[int]) -> float:
    """Examples a second over about SLICE_SECONDS."""
    began, seen = clock(), 0
    while (took := clock() - began) < SLICE_SECONDS:
        seen += next(one)
    return seen / took if seen else 0.0


def precise(precision: str) -> None:
    torch.set_float32_matmul_precision("medium" if precision == "bf16" else "highest")


def trained(loop: Loop) -> Iterator[int]:
    """The loop's steps and rows of metrics, without end."""
    while True:
        loop.step()
        if loop.state.step % loop.config.training.log_every == 0:
            loop.log()
        yield loop.windows


def make_config(name: str, precision: str, threads: int) -> RunConfig:
    shape = SHAPES[name]
    training = {"batch_size": shape["batch"], "precision": precision, "threads": threads, "device": "cpu"}
    return RunConfig.model_validate(
        {
            "name": f"benchmark-{name}",
            "data": {"simulate": {"games": 8, "seconds": 60}},
            "model": {"d_model": shape["d_model"], "n_layers": shape["n_layers"], "context_len": 10, "dropout": 0.1},
            "encoding": {"state_age_as_embed": True},
            "training": {**training, "steps": 10**6},
        }
    )


def make_loop(folder: Path, config: RunConfig, build: Callable[..., Any] = task.build) -> Loop:
    run = RunDir(folder / "run")
    run.attempt(1).path.mkdir(parents=True, exist_ok=True)
    device = devices.choose(config)
    job = build(config, project=folder, run=run, device=device, report=lambda _: None)
    job.metrics()  # counted before, not beside, what is measured
    job.model.train()
    place = Place(run, 1, device, Control(), Heartbeat(run.attempt(1)), start(config, {}, run))
    return Loop(job, config, place)


def matmul_rate(precision: str, size: int = 1536) -> float:
    """FLOP/s of square matmuls in that precision; in fp32 without the shortcuts that `medium` allows."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    out = a @ b
    began = clock()
    for _ in range(3):
        torch.matmul(a, b, out=out)
    return 3 * 2 * size**3 / (clock() - began)


if __name__ == "__main__":
    main()
