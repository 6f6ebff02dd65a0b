"""Where the time of a training step goes: a table by torch's profiler.

    python benchmarks/step_profile.py [--width 384] [--layers 4] [--context 10] [--batch 512] [--precision bf16]
                                      [--steps 10] [--device cpu|cuda] [--json FILE]

Whole steps of the trainer's loop on simulated games. Each row is the time that operators of one kind took by
themselves, as a share of all: on the CPU in the threads that called them, on CUDA in kernels.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from bench import machine, passive, write
from torch.profiler import ProfilerActivity, profile

from runctl.config import RunConfig
from runctl.train import device as devices

KINDS = {  # the first that an operator's name contains
    "matrix products": ("mm", "linear", "matmul", "gemm", "cutlass", "nvjet"),
    "optimizer": ("adam", "foreach", "clip"),
    "embeddings and gather": ("embedding", "index", "gather"),
    "copies and casts": ("copy", "_to_copy", "cat", "clone", "contiguous", "fill_", "zero_"),
    "sums and norms": ("sum", "norm", "mean", "softmax", "cumsum", "rsqrt", "reduce"),
    "pointwise": (
        "mul", "add", "sub", "div", "exp", "silu", "softplus", "dropout", "bernoulli", "where", "mask", "sigmoid",
        "elementwise",
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in {"width": 384, "layers": 4, "context": 10, "batch": 512, "steps": 10}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path, help="write what was found there")
    options = parser.parse_args()
    passive()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device here: nothing measured")
    with tempfile.TemporaryDirectory() as folder:
        loop = make(Path(folder), options)
        for _ in range(3):
            loop.step()
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (options.device == "cuda")
        began = time.perf_counter()
        with profile(activities=activities) as seen:
            for _ in range(options.steps):
                loop.step()
            if options.device == "cuda":
                torch.cuda.synchronize()
        wall = time.perf_counter() - began
    found = {"machine": machine(), "step_ms": 1e3 * wall / options.steps, **table(seen, options.device)}
    found["shape"] = {name: getattr(options, name) for name in ("width", "layers", "context", "batch", "precision")}
    print(f"\na step: {found['step_ms']:.1f} ms, profiled")
    for name, share in found["kinds"].items():
        print(f"  {name:<24}{share:>7.1%}")
    print("\nthe ten operators that took most")
    for row in found["operators"]:
        print(f"  {row['name'][:44]:<46}{row['share']:>7.1%}{row['calls'] // options.steps:>8} a step")
    write(options.json, found)


def table(seen: Any, device: str) -> dict[str, Any]:
    """Shares of the time by kind, and of the ten operators that took most."""
    field = "self_cpu_time_total" if device == "cpu" else "self_device_time_total"
    rows = [(one.key, float(getattr(one, field)), one.count) for one in seen.key_averages()]
    whole = sum(took for _, took, _ in rows) or 1.0
    kinds = dict.fromkeys((*KINDS, "else"), 0.0)
    for name, took, _ in rows:
        kinds[kind(name)] += took / whole
    first = sorted(rows, key=lambda row: -row[1])[:10]
    return {
        "kinds": dict(sorted(kinds.items(), key=lambda one: -one[1])),
        "operators": [{"name": name, "share": took / whole, "calls": count} for name, took, count in first],
    }


def kind(name: str) -> str:
    lower = name.lower().removeprefix("aten::")
    return next((found for found, words in KINDS.items() if any(word in lower for word in words)), "else")


def make(folder: Path, options: argparse.Namespace) -> Any:
    from train import make_loop

    config = RunConfig.model_validate(
        {
            "name": "profile",
            "data": {"simulate": {"games": 8, "seconds": 60}},
            "encoding": {"state_age_as_embed": True},
            "model": {
                "d_model": options.width,
                "n_layers": options.layers,
                "context_len": options.context,
                "dropout": 0.1,
            },
            "training": {
                "batch_size": options.batch,
                "precision": options.precision,
                "device": options.device,
                "steps": 10**6,
            },
        }
    )
    devices.prepare(config)
    return make_loop(folder, config)


if __name__ == "__main__":
    main()
