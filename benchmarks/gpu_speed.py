"""Speed on one GPU: training steps, data paths, mamba-ssm's kernels beside ours, and an epoch of 18.8 million windows.

    python benchmarks/gpu_speed.py [--epoch-windows 18800000] [--steps 200] [--kernels auto,eager] [--json FILE]

Simulated games are encoded and tiled in a temporary folder (3 GB for the epoch). Every shape trains by the loop's own
steps in bf16; rates are whole steps, the device waited for at both ends of a slice, medians of slices. Shares are of
the catalogue's peak, and of what one product of 8192-square matrices reaches here. Exits 2 where there is no GPU.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

SHAPES: dict[str, dict[str, int]] = {
    "medium, K=10": {"d_model": 384, "n_layers": 4, "context_len": 10, "batch": 4096},
    "medium, K=60": {"d_model": 384, "n_layers": 4, "context_len": 60, "chunk_size": 60, "batch": 1024},
    "256 × 4, length 1024": {"d_model": 256, "n_layers": 4, "context_len": 1024, "chunk_size": 64, "batch": 32},
}
AIM_SECONDS = 60.0
SLICES = 5
MATMUL = {"cuda": 8192, "cpu": 512}
on = "cuda"  # cpu: a rehearsal of the script itself


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epoch-windows", type=int, default=18_800_000)
    parser.add_argument("--steps", type=int, default=200, help="in all slices of a contender")
    parser.add_argument("--kernels", default="auto", help="values of training.kernel to try, by comma")
    parser.add_argument("--json", type=Path, help="write what was found there")
    parser.add_argument("--rehearse", action="store_true", help="everything once, small, on the CPU: does it run?")
    options = parser.parse_args()
    if options.rehearse:
        rehearse(options)
    elif not torch.cuda.is_available():
        print("no CUDA device here: nothing measured", file=sys.stderr)
        return 2
    from bench import machine, write
    from opening import tile

    from runctl.config.model import Simulate
    from runctl.tasks.worldmodel import encode, sources

    found: dict[str, Any] = {"machine": machine(), "matmul": {}, "shapes": {}}
    found["matmul"]["bf16_flops_per_second"] = matmul_rate()
    rate = found["matmul"]["bf16_flops_per_second"]
    print(f"{found['machine'].get('gpu', on)}: {rate / 1e12:.3g} TFLOP/s in bf16 products")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        games = sources.simulated(Simulate(games=32, seconds=120))
        small = encode.encode(games, config("medium, K=10", folder, "auto").encoding, folder / "small").out
        frames = encode_frames(small)
        tile(small, folder / "dataset", round(options.epoch_windows / 0.9 / 0.9985) * frames[1])
        for shape in SHAPES:
            found["shapes"][shape] = one_shape(folder, shape, options.steps, options.kernels.split(","))
        found["blocks"] = {shape: blocks(shape) for shape in SHAPES}
        found["epoch"] = epoch(folder)
    write(options.json, found)
    return 0


def rehearse(options: argparse.Namespace) -> None:
    """Make everything small, and run it on the CPU."""
    global on
    from bench import passive

    passive()
    on = "cpu"
    options.epoch_windows, options.steps = 5_000, SLICES
    for shape in SHAPES.values():
        shape |= {
            "d_model": 64,
            "n_layers": 2,
            "context_len": min(shape["context_len"], 20),
            "chunk_size": 10,
            "batch": 8,
        }
    SHAPES["medium, K=10"]["batch"] = 512


def wait() -> None:
    if on == "cuda":
        torch.cuda.synchronize()


def held(*, fresh: bool = False) -> int:
    """Bytes of tensors on the GPU; with `fresh` the peak is counted from here."""
    if on != "cuda":
        return 0
    if fresh:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return int(torch.cuda.memory_allocated())


def peak() -> int:
    return int(torch.cuda.max_memory_allocated()) if on == "cuda" else 0


def encode_frames(folder: Path) -> tuple[int, int]:
    """(frames, bytes of a frame) of a dataset."""
    from runctl.tasks.worldmodel import dataset

    return dataset.open(folder).records.shape


def config(shape: str, folder: Path, kernel: str, **training: Any) -> Any:
    from runctl.config import RunConfig
    from runctl.config.model import Training

    given = {key: value for key, value in SHAPES[shape].items() if key != "batch"}
    chosen = {"kernel": kernel} if "kernel" in Training.model_fields else {}
    return RunConfig.model_validate(
        {
            "name": "gpu-speed",
            "data": {"encoded": str(folder / "dataset")},
            "encoding": {"state_age_as_embed": True},
            "model": {**given, "dropout": 0.1},
            "training": {"batch_size": SHAPES[shape]["batch"], "precision": "bf16", "device": on, **chosen, **training},
        }
    )


def make_loop(asked: Any, folder: Path, resident: bool = True) -> Any:
    """The trainer's loop on the GPU; with `resident` off the dataset stays on the host, whatever its size."""
    from runctl.record import RunDir
    from runctl.tasks.worldmodel import task
    from runctl.train import device as devices
    from runctl.train import gather
    from runctl.train.control import Control
    from runctl.train.heartbeat import Heartbeat
    from runctl.train.loop import Loop, Place
    from runctl.train.trackers import start

    devices.prepare(asked)
    share, gather.RESIDENT_SHARE = gather.RESIDENT_SHARE, gather.RESIDENT_SHARE if resident else 0.0
    run = RunDir(folder / "run")
    run.attempt(1).path.mkdir(parents=True, exist_ok=True)
    device = torch.device(on, 0) if on == "cuda" else torch.device(on)
    job = task.build(asked, project=folder, run=run, device=device, report=lambda _: None)
    gather.RESIDENT_SHARE = share
    job.metrics()  # counted before, not beside, what is measured
    job.model.train()
    return Loop(job, asked, Place(run, 1, device, Control(), Heartbeat(run.attempt(1)), start(asked, {}, run)))


def one_shape(folder: Path, shape: str, steps: int, kernels: list[str]) -> dict[str, Any]:
    """Whole steps: each kernel with the dataset on the device, the first also with it on the host, and the trainers of
    `naive_trainer.py`; memory beside the estimate."""
    from naive_trainer import steps as naive

    from runctl.estimate import parameters

    told: dict[str, Any] = {**SHAPES[shape], "contenders": {}}
    contenders: dict[str, Callable[[], Iterator[int]]] = {}
    asked = config(shape, folder, kernels[0])
    for kernel in kernels:
        contenders[f"runctl, {kernel}"] = lambda kernel=kernel: trained(
            make_loop(config(shape, folder, kernel), folder)
        )
    contenders[f"runctl, {kernels[0]}, data on the host"] = lambda: trained(make_loop(asked, folder, resident=False))
    for kind, workers in (("own", 0), ("own", 4), ("plain", 0), ("plain", 4)):
        contenders[f"naive, {kind} model, {workers} workers"] = lambda kind=kind, workers=workers: naive(
            folder / "small",
            asked.encoding,
            asked.model,
            kind=kind,
            batch=SHAPES[shape]["batch"],
            workers=workers,
            precision="bf16",
            on=on,
        )
    flops = parameters.flops(asked.encoding, asked.model)
    print(f"\n{shape}, batch {SHAPES[shape]['batch']}")
    for title, make in contenders.items():
        before = held(fresh=True)
        try:
            rate = rate_of(make(), steps if title.startswith("runctl") else max(SLICES * 2, steps // 10))
        except (RuntimeError, ValueError) as error:
            told["contenders"][title] = {"failed": str(error).splitlines()[0][:200]}
            print(f"  {title:<40} failed: {str(error).splitlines()[0][:80]}")
            continue
        one = {
            "examples_per_second": rate,
            "flops_per_second": rate * flops,
            "share_of_matmul": rate * flops / matmul_rate(),
        }
        stored = (folder / "dataset" / "frames.bin").stat().st_size
        resident = title.startswith("runctl") and not title.endswith("host")
        one["peak_bytes"] = peak() - before - (stored if resident else 0)
        told["contenders"][title] = one
        size = f"{one['peak_bytes'] / 2**20:>9,.0f} MiB"
        print(f"  {title:<40}{rate:>12,.0f} examples/s{one['share_of_matmul']:>8.1%}{size}")
    told["estimate"] = estimated(asked)
    print(f"  tensors by the estimate, dataset left out: {told['estimate']['tensors_bytes'] / 2**20:,.0f} MiB")
    return told


def estimated(asked: Any) -> dict[str, int]:
    """The traced peak of tensors without the dataset."""
    from runctl.estimate import traced

    training = asked.training
    shape = traced.Shape(
        asked.encoding, asked.model, training.batch_size, training.precision, training.accumulation, 0, 1000, False
    )
    return {"tensors_bytes": int(traced.peak(shape, "cuda").total)}


def trained(loop: Any) -> Iterator[int]:
    """The loop's steps and rows of metrics, without end."""
    while True:
        loop.step()
        if loop.state.step % loop.config.training.log_every == 0:
            loop.log()
        yield loop.windows


def rate_of(one: Iterator[int], steps: int) -> float:
    """Examples a second: the median of SLICES slices, after a warm-up of a tenth."""
    for _ in range(max(3, steps // 10)):
        next(one)
    rates = []
    for _ in range(SLICES):
        wait()
        began = time.perf_counter()
        seen = sum(next(one) for _ in range(max(1, steps // SLICES)))
        wait()
        rates.append(seen / (time.perf_counter() - began))
    return statistics.median(rates)


def matmul_rate() -> float:
    """FLOP/s of one large bf16 product: the best of ten."""
    size = MATMUL[on]
    left = torch.rand(size, size, device=on).bfloat16()
    taken = []
    for _ in range(10):
        wait()
        began = time.perf_counter()
        left @ left
        wait()
        taken.append(time.perf_counter() - began)
    return 2 * size**3 / min(taken)


def blocks(shape: str) -> dict[str, Any]:
    """One block, forward and backward in bf16: ours beside mamba-ssm's, where that can be imported."""
    from runctl.models.mamba2 import Mamba2

    given = SHAPES[shape]
    sizes = {"d_state": 64, "headdim": 64, "chunk_size": given.get("chunk_size", 64)}
    makers: dict[str, Callable[[], Any]] = {"ours": lambda: Mamba2(given["d_model"], **sizes)}
    try:
        from mamba_ssm.modules.mamba2 import Mamba2 as Fused

        makers["mamba-ssm"] = lambda: Fused(given["d_model"], **sizes)
    except ImportError as error:
        print(f"{shape}: mamba-ssm cannot be imported ({error}): ours alone", file=sys.stderr)
    inputs = torch.randn(given["batch"], given["context_len"], given["d_model"], device=on, requires_grad=True)
    told: dict[str, Any] = {}
    for name, make in makers.items():
        block = make().to(on)

        def once(block: Any = block) -> Iterator[int]:
            while True:
                with torch.autocast(on, torch.bfloat16):
                    out = block(inputs)
                out.float().square().mean().backward()
                yield given["batch"] * given["context_len"]

        held(fresh=True)
        told[name] = {"frames_per_second": rate_of(once(), 50), "peak_bytes": peak()}
        print(f"{shape}, one block, {name}: {told[name]['frames_per_second']:,.0f} frames/s")
    return told


def epoch(folder: Path) -> dict[str, Any]:
    """A whole epoch of the medium config, from the first step to the last, with its rows of metrics."""
    loop = make_loop(config("medium, K=10", folder, "auto", epochs=1), folder)
    steps, one = loop.plan.steps_per_epoch, trained(loop)
    wait()
    began = time.perf_counter()
    seen = sum(next(one) for _ in range(steps))
    wait()
    took = time.perf_counter() - began
    print(f"\nan epoch of {seen:,} windows in {steps:,} steps: {took:.1f} s (aim {AIM_SECONDS:.0f})")
    return {"windows": seen, "steps": steps, "seconds": took, "aim_seconds": AIM_SECONDS}


if __name__ == "__main__":
    sys.exit(main())
