"""Inside the peers' environment: the contenders of `mamba_peers.py`, in turn. A JSON argument says what to measure."""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import sys
import time
import types
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runctl.models.mamba2 import Mamba2, RMSNorm

Call = Callable[[], None]
SHAPES = {  # name: width, frames, batch, chunks that the peers try, windows that they get at a time
    "384 × 4, K=10, batch 256": (384, 10, 256, (10, 5), (64, 256)),
    "384 × 4, K=60, batch 256": (384, 60, 256, (10, 20, 60), (16, 64)),
    "256 × 4, length 1024, batch 4": (256, 1024, 4, (16, 32, 64), (1, 4)),
}
LAYERS, HEAD, STATE, CONV = 4, 64, 64, 4
SLOW = 20.0  # seconds of a call beyond which a contender is called once more and no more
LIMIT = 300 << 20  # bytes of the largest tensor that a peer may make: it keeps many of them
TRIES = 2


def clock() -> float:
    """Seconds by the clock on the wall, or of the processor where the machine has other work (`--processor-time`)."""
    return time.process_time() if json.loads(sys.argv[1])["processor_time"] else time.perf_counter()


def main() -> None:
    asked = json.loads(sys.argv[1])
    torch.set_num_threads(asked["threads"])
    warnings.simplefilter("ignore")
    for title, shape in SHAPES.items():
        if not asked["only"] or asked["only"] in title:
            print(json.dumps({title: compare(title, shape, asked)}), flush=True)
    if asked["memory"]:
        print(json.dumps({"memory, 384 × 4, K=10, batch 4096": memory()}), flush=True)


def compare(title: str, shape: tuple, asked: dict[str, Any]) -> dict[str, Any]:
    width, frames, batch, chunks, pieces = shape
    print(f"\n{title}, {asked['threads']} threads, load {os.getloadavg()[0]:.1f}", flush=True)
    found: dict[str, Any] = {}
    for precision in ("fp32", "bf16"):
        torch.set_float32_matmul_precision("medium" if precision == "bf16" else "highest")
        minimal = scan_of(asked["source"])
        calls: dict[str, tuple[Call, int]] = {"matmul": (matmul(precision), 0), "ours": (ours(shape, precision), batch)}
        warm_up = None
        if asked["compiled"]:
            call = ours(shape, precision, "compiled")
            began = clock()
            call()
            warm_up = clock() - began
            calls["ours, compiled"] = (call, batch)
        peers = {"transformers": transformers, "minimal SSD": partial(in_mamba_ssms_manner, minimal)}
        for peer, make in peers.items():
            tried = [
                (chunk, piece)
                for chunk in chunks
                for piece in pieces
                if peer != "transformers" or fits(width, frames, chunk, piece)
            ]
            calls |= the_best(peer, make, shape, precision, tried)
        calls |= as_shipped(shape, precision)
        times = take_turns({name: call for name, (call, _) in calls.items()}, asked["seconds"])
        found[precision] = told(times, calls, shape, warm_up)
    return found


def the_best(peer: str, make: Callable, shape: tuple, precision: str, tried: list) -> dict[str, tuple[Call, int]]:
    """The (chunk, windows at a time) with the highest rate: one call to warm up and TRIES that count."""
    best: dict[str, tuple[Call, int]] = {}
    highest = 0.0
    for chunk, piece in tried:
        name, call = f"{peer}, chunk {chunk}, {piece} at a time", make(shape, precision, chunk, piece)
        times = take_turns({name: call}, 0.0, least=TRIES)[name]
        rate = piece * shape[1] / statistics.median(times)
        print(f"  {precision}: tried {name}: {rate:,.0f} tokens/s", flush=True)
        if rate > highest:
            highest, best = rate, {name: (call, piece)}
    return best


def take_turns(calls: dict[str, Call], seconds: float, least: int = 3) -> dict[str, list[float]]:
    """Seconds of each call, in turn, after one to warm up; what is slow is called `least` times less one."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    warm = {}
    for name, call in calls.items():
        began = clock()
        call()
        warm[name] = clock() - began
    spent = dict.fromkeys(calls, 0.0)
    while open_ := [name for name in calls if len(times[name]) < least - (warm[name] > SLOW) or spent[name] < seconds]:
        for name in open_:
            again = max(1, round(0.5 / warm[name])) if name == "matmul" else 1
            for _ in range(again):
                began = clock()
                calls[name]()
                times[name].append(clock() - began)
                spent[name] += times[name][-1]
    return times


def told(times: dict[str, list[float]], calls: dict[str, tuple[Call, int]], shape: tuple, warm_up: Any) -> dict:
    """Print one shape in one precision and return it."""
    rate = 2 * 2048**2 * 1024 / statistics.median(times["matmul"])
    result: dict[str, Any] = {"matmul_gflops": round(rate / 1e9, 1), "compile_seconds": warm_up and round(warm_up, 1)}
    tokens = {
        name: windows * shape[1] / statistics.median(times[name]) for name, (_, windows) in calls.items() if windows
    }
    print(f"  matmul {rate / 1e9:,.0f} GFLOP/s" + (f", compiled in {warm_up:.0f} s" if warm_up else ""))
    for name, value in tokens.items():
        share = value * flops_of_a_token(shape) / rate
        entry = {"tokens_per_second": round(value), "calls": len(times[name])}
        if name.startswith("ours"):
            entry["share_of_matmul"] = round(share, 3)
        else:
            entry["ours_is"] = round(tokens["ours"] / value, 2)
            if "ours, compiled" in tokens:
                entry["compiled_is"] = round(tokens["ours, compiled"] / value, 2)
        result[name] = entry
        ratio = f"{share:5.0%} of the matmul" if name.startswith("ours") else f"ours is {tokens['ours'] / value:.2f} ×"
        print(f"  {name:<46}{value:>10,.0f} tokens/s   {ratio}   ({len(times[name])} calls)", flush=True)
    return result


def flops_of_a_token(shape: tuple) -> float:
    """Forward and backward, two for each multiply-add, of four layers; as `estimate/parameters.py` counts them."""
    width, frames, *_ = shape
    inner, size = 2 * width, min(frames, 64)
    heads = inner // HEAD
    one = width * (2 * inner + 2 * STATE + heads) + inner * width + CONV * (inner + 2 * STATE) + size * (STATE + inner)
    one += 2 * STATE * inner if frames > size else 0
    return 3.0 * 2 * LAYERS * one


def autocast(precision: str) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")


def matmul(precision: str) -> Call:
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = torch.randn(2048, 1024).to(kind), torch.randn(1024, 2048).to(kind)

    def call() -> None:
        torch.mm(left, right)

    return call


class Layers(nn.Module):
    """Four times norm, block, residual; `block(x, norm)` takes the norm as well."""

    def __init__(self, norms: list[nn.Module], blocks: list[nn.Module], joined: bool) -> None:
        super().__init__()
        self.norms, self.blocks, self.joined = nn.ModuleList(norms), nn.ModuleList(blocks), joined

    def forward(self, x: Tensor) -> Tensor:
        for norm, block in zip(self.norms, self.blocks, strict=True):
            x = x + (block(x, norm) if self.joined else block(norm(x)))
        return x


def forward_backward(net: nn.Module, windows: int, shape: tuple, precision: str) -> Call:
    inputs = torch.randn(windows, shape[1], shape[0])
    direction = torch.randn(windows, shape[1], shape[0])

    def call() -> None:
        with autocast(precision):
            out = net(inputs)
        net.zero_grad()
        out.backward(direction.to(out.dtype))

    return call


def ours(shape: tuple, precision: str, kernel: str = "eager") -> Call:
    width, frames, batch, *_ = shape
    torch.manual_seed(0)
    blocks = [Mamba2(width, d_state=STATE, headdim=HEAD, chunk_size=min(64, frames)) for _ in range(LAYERS)]
    for block in blocks:
        block.kernel = kernel
    net = Layers([RMSNorm(width) for _ in blocks], list(blocks), joined=True)
    return forward_backward(net, batch, shape, precision)


def fits(width: int, frames: int, chunk: int, piece: int) -> bool:
    """Whether transformers' largest tensor, (batch, frames, chunk, heads, state), stays within LIMIT."""
    return 4 * piece * -(-frames // chunk) * chunk * chunk * (2 * width // HEAD) * STATE <= LIMIT


def as_shipped(shape: tuple, precision: str) -> dict[str, tuple[Call, int]]:
    from transformers import Mamba2Config

    width, frames, batch, *_ = shape
    chunk = Mamba2Config().chunk_size
    sizes = (1, 2, 4, 8, 16, 32, 64)
    piece = max((size for size in sizes if size <= batch and fits(width, frames, chunk, size)), default=1)
    call = transformers(shape, precision, chunk, piece)
    return {f"transformers as shipped, chunk {chunk}, {piece} at a time": (call, piece)}


def transformers(shape: tuple, precision: str, chunk: int, piece: int) -> Call:
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    width = shape[0]
    config = Mamba2Config(
        hidden_size=width, num_heads=2 * width // HEAD, head_dim=HEAD, state_size=STATE, n_groups=1, expand=2,
        conv_kernel=CONV, num_hidden_layers=LAYERS, vocab_size=8, chunk_size=chunk, use_cache=False,
    )  # fmt: skip
    torch.manual_seed(0)
    blocks = [Mamba2Mixer(config, layer_idx=index) for index in range(LAYERS)]
    net = Layers([nn.RMSNorm(width) for _ in blocks], list(blocks), joined=False)
    return forward_backward(net, piece, shape, precision)


def scan_of(path: str) -> Callable:
    """`ssd_minimal_discrete` from the file of the sdist; its import of the CUDA kernels, which only its own test uses,
    finds an empty module."""
    for name in ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.triton", "mamba_ssm.ops.triton.ssd_combined"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["mamba_ssm.ops.triton.ssd_combined"].mamba_chunk_scan_combined = None  # type: ignore[attr-defined]
    spec = importlib.util.spec_from_file_location("ssd_minimal", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ssd_minimal_discrete


def in_mamba_ssms_manner(scan: Callable, shape: tuple, precision: str, chunk: int, piece: int) -> Call:
    """The scan in a block as that package has one without its kernels: conv1d, SiLU, gated RMSNorm, two projections."""
    width = shape[0]
    torch.manual_seed(0)
    blocks = [Minimal(width, chunk, scan) for _ in range(LAYERS)]
    net = Layers([nn.RMSNorm(width) for _ in blocks], list(blocks), joined=False)
    return forward_backward(net, piece, shape, precision)


class Minimal(Mamba2):
    """The weights of ours, computed with `ssd_minimal_discrete`, which wants all its inputs in one dtype."""

    def __init__(self, width: int, chunk: int, scan: Callable) -> None:
        super().__init__(width, d_state=STATE, headdim=HEAD, chunk_size=chunk)
        self.scan = scan

    def forward(self, u: Tensor) -> Tensor:
        z, mixed, dt = self.in_proj(u).split([self.d_inner, self.d_inner + 2 * STATE, self.heads], -1)
        dt = F.softplus(dt + self.dt_bias)
        mixed = F.pad(mixed.transpose(1, 2), (CONV - 1, 0))
        mixed = F.silu(F.conv1d(mixed, self.conv1d.weight, self.conv1d.bias, groups=mixed.shape[1]))
        x, B, C = mixed.transpose(1, 2).split([self.d_inner, STATE, STATE], -1)
        x = x.unflatten(-1, (self.heads, HEAD)).float()
        decay = dt.float() * -torch.exp(self.A_log)
        y, _ = self.scan(x * dt[..., None], decay, B[:, :, None].float(), C[:, :, None].float(), self.chunk_size)
        y = (y + x * self.D[:, None]).flatten(2) * F.silu(z)
        return self.out_proj(F.rms_norm(y, (self.d_inner,), self.norm.weight, 1e-5))


def memory() -> dict[str, Any]:
    """Bytes held at most by forward and backward at K=10, batch 4,096, fp32, traced on meta tensors."""
    from runctl.estimate.tracker import Tracker
    from runctl.models import kernels, ssd

    torch.is_autocast_enabled = lambda device: False  # type: ignore[assignment] # meta tensors know of none

    def peak(blocks: list[nn.Module]) -> int:
        with Tracker() as tracker, torch.device("meta"):
            net = Layers([RMSNorm(384) for _ in blocks], blocks, joined=True).to("meta")
            x = torch.randn(4096, 10, 384, device="meta")
            out = net(x)
            out.backward(torch.empty_like(out))
        held = most = 0
        for event in tracker.events:
            held += event.change * tracker.blocks[event.block].size
            most = max(most, held)
        return most

    class Padded(Mamba2):
        def forward(self, u: Tensor, norm: RMSNorm) -> Tensor:
            inputs = (u, norm.weight, self.in_proj.weight, self.conv1d.weight, self.conv1d.bias, self.dt_bias)
            sizes = self.sizes._replace(chunk=64)
            return kernels.plain(*inputs, self.A_log, self.D, self.norm.weight, self.out_proj.weight, sizes, False)

    here = peak([Mamba2(384, chunk_size=10) for _ in range(LAYERS)])
    one = ssd.ssd
    ssd.ssd = lambda *tensors: ssd.chunks(*tensors)  # whole chunks, however short the window
    try:
        there = peak([Padded(384, chunk_size=64) for _ in range(LAYERS)])
    finally:
        ssd.ssd = one
    print(f"\nat most held at K=10, batch 4,096, fp32: {here / 2**30:.2f} GiB, chunked and padded to 64 "
          f"{there / 2**30:.2f} GiB: {here / there:.0%}")  # fmt: skip
    return {"ours_bytes": here, "chunked_bytes": there, "share": round(here / there, 3)}


if __name__ == "__main__":
    main()
