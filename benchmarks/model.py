"""Training steps of the built-in model against the machine's own rate of matrix products.

    python benchmarks/model.py [--threads N] [--seconds 5]

Each shape runs forward, loss, backward, in fp32 and bf16. FLOP/s are those that `estimate/parameters.py` counts for
what is computed, so they compare with the rate of a plain matrix product in the same precision. The last line of a
shape is the stack of blocks as it would be without the shortcut for the last layer, every position computed.
Contenders take turns, medians are printed: what else runs on the machine hits all alike.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from runctl.config.model import Encoding, LossWeights, Model
from runctl.estimate import parameters
from runctl.tasks.worldmodel import losses
from runctl.tasks.worldmodel.encoding import columns
from runctl.tasks.worldmodel.model import WorldModel

ENCODING = Encoding(state_age_as_embed=True)
SHAPES = {
    "384 × 4, K=10, batch 256": (Model(d_model=384, n_layers=4, dropout=0.0), 256),
    "384 × 4, K=60, batch 64": (Model(d_model=384, n_layers=4, context_len=60, chunk_size=60, dropout=0.0), 64),
    "128 × 2, K=10, batch 256": (Model(d_model=128, n_layers=2, dropout=0.0), 256),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=5.0, help="for each contender of a shape")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"{options.threads} threads, torch {torch.__version__}")
    for title, (model, batch) in SHAPES.items():
        compare(title, model, batch, options.seconds)


def compare(title: str, model: Model, batch: int, seconds: float) -> None:
    """Rates of one shape: tokens/s, GFLOP/s, and the share of the matrix product's rate."""
    flops = batch * parameters.flops(ENCODING, model)
    contenders: dict[str, tuple[Callable[[], None], float]] = {}
    for precision in ("fp32", "bf16"):
        contenders[f"matmul {precision}"] = (matmul(precision), 2 * 2048**2 * 1024)
        contenders[f"training step {precision}"] = (step(model, batch, precision), flops)
    contenders["whole blocks bf16"] = (blocks(model, batch), 0.0)
    times = measure({name: call for name, (call, _) in contenders.items()}, seconds)
    print(f"\n{title}, {parameters.count(ENCODING, model):,} parameters")
    for name, (_, work) in contenders.items():
        rate = f"{work / times[name] / 1e9:8.0f} GFLOP/s" if work else " " * 16
        if name.startswith("matmul"):
            print(f"  {name:<22}{'':>22}{rate}")
            continue
        peak = f"matmul {name[-4:]}"
        share = work / times[name] / (contenders[peak][1] / times[peak])
        tokens = f"{batch * model.context_len / times[name]:>12,.0f} tokens/s"
        print(f"  {name:<22}{tokens}{rate}" + (f"   {share:5.0%} of {peak}" if work else ""))


def measure(calls: dict[str, Callable[[], None]], seconds: float) -> dict[str, float]:
    """Median seconds of each call, in turn, after one call to warm up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    end = time.perf_counter() + seconds * len(calls)
    while time.perf_counter() < end or len(next(iter(times.values()))) < 3:
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(seen) for name, seen in times.items()}


def autocast(precision: str) -> torch.autocast:
    torch.set_float32_matmul_precision("medium" if precision == "bf16" else "highest")
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")


def matmul(precision: str) -> Callable[[], None]:
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = torch.randn(2048, 1024).to(dtype), torch.randn(1024, 2048).to(dtype)

    def call() -> None:
        with autocast(precision):
            left @ right

    return call


def step(model: Model, batch: int, precision: str) -> Callable[[], None]:
    net, records, weights = WorldModel(ENCODING, model), frames(model, batch), LossWeights()

    def call() -> None:
        with autocast(precision):
            total, _ = losses.loss(net(records), records, weights, net.targets)
        net.zero_grad()
        total.backward()

    return call


def blocks(model: Model, batch: int) -> Callable[[], None]:
    net = WorldModel(ENCODING, model)
    inputs = torch.randn(batch, model.context_len, model.d_model)
    layers: list[tuple[nn.Module, nn.Module]] = list(zip(net.norms, net.blocks, strict=True))

    def call() -> None:
        with autocast("bf16"):
            x: Tensor = inputs
            for norm, block in layers:
                x = x + block(x, norm)
        net.zero_grad()
        x.float().square().mean().backward()

    return call


def frames(model: Model, batch: int) -> Tensor:
    """Records of zeros with small random bytes where ids are: (B, K+1, R)."""
    layout = columns(ENCODING)
    records = torch.zeros(batch, model.context_len + 1, layout.record_bytes, dtype=torch.uint8)
    for column in layout.columns:
        if column.vocab is not None:
            records[..., column.offset] = torch.randint(0, min(column.vocab, 256), records.shape[:2], dtype=torch.uint8)
    return records


if __name__ == "__main__":
    main()
