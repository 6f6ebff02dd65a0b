"""The shipped answer about memory against a new trace: python benchmarks/memory_shipped.py [N] [--json FILE]

Twelve named shapes, and N random ones drawn from all forms of the step: 1M to 1.5B parameters, batch 1 to 4,096, K 4 to
4,096, up to 48 layers, both precisions, with and without accumulation, every second one with activation checkpointing.
On a GPU the traced events also run through the model of CUDA's allocator: what they need there must lie below the high
end, or a run would "fit" that does not. Exits 1 where that happens, where the 95th percentile is off by more than 2 %,
or where an answer is lower than the trace by more than 1 %.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from runctl import hardware
from runctl.config.model import Encoding, Model
from runctl.estimate import allocator, memory, parameters, solve, trace, traced
from runctl.estimate.traced import Shape

NAMED = [  # width, layers, K, chunk, batch, precision
    (384, 4, 60, 60, 512, "bf16"),
    (384, 4, 60, 30, 512, "bf16"),
    (384, 4, 10, 10, 4096, "bf16"),
    (2304, 46, 10, 10, 64, "bf16"),
    (2048, 48, 4096, 64, 1, "fp32"),
    (256, 4, 4096, 4096, 4, "fp32"),
]
QUESTIONS = NAMED[:3]


def drawn(count: int) -> Iterator[Shape]:
    """The shapes: those with names, each with and without activation checkpointing, then random ones."""
    for row in NAMED:
        for recompute in (False, True):
            yield named(row, recompute)
    rng = random.Random(2)
    seed = found = 0
    while found < count:
        seed += 1
        form = rng.choice([form for form in solve.FORMS if form["recompute"] == bool(found % 2)])
        shape = replace(next(solve.shapes(form, 1, seed=seed)), accumulation=rng.choice((1, 1, 2, 8)))
        total = parameters.count(shape.encoding, shape.model)
        if 10**6 <= total <= 1.5e9 and shape.model.context_len <= 4096 >= shape.batch and shape.model.n_layers <= 48:
            found += 1
            yield shape


def named(row: tuple, recompute: bool = False) -> Shape:
    width, layers, context, chunk, batch, precision = row
    model = Model(d_model=width, n_layers=layers, context_len=context, chunk_size=chunk)
    return Shape(Encoding(state_age_as_embed=True), model, batch, precision, recompute=recompute)


def compared(job: tuple[Shape, traced.Device]) -> dict[str, object]:
    """One shape: what the trace says, what the file says, and how long the file took."""
    shape, device = job
    events = trace.of(shape, device)
    wanted = events.peak().total
    began = time.perf_counter()
    found = traced.peak(shape, device).total
    took = time.perf_counter() - began
    needed = room = None
    if device == "cuda":
        needed = allocator.needed(events.allocations())
        room = memory.peak(memory.Request(shape, hardware.find("H100"))).high - memory.CUDA_CONTEXT[2]
    keys = ("d_model", "n_layers", "d_state", "headdim", "expand", "context_len", "chunk_size")
    return {
        "form": traced.form(shape, device),
        "device": device,
        **{key: getattr(shape.model, key) for key in keys},
        "batch": shape.batch,
        "accumulation": shape.accumulation,
        "parameters": parameters.count(shape.encoding, shape.model),
        "traced": wanted,
        "shipped": found,
        "off": found / wanted - 1,
        "seconds": round(took, 6),
        "needed": needed,
        "high": room,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", nargs="?", type=int, default=84)
    parser.add_argument("--json", metavar="FILE", help="also write the rows here")
    options = parser.parse_args()
    rng = random.Random(3)
    jobs = [(shape, rng.choice(("cpu", "cuda"))) for shape in drawn(options.count)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        rows = list(pool.imap(compared, jobs))
    spread, took = sorted(abs(row["off"]) for row in rows), sorted(row["seconds"] for row in rows)
    sizes, lowest = sorted(row["parameters"] for row in rows), min(row["off"] for row in rows)
    p95 = spread[int(0.95 * len(spread))]
    again = sum("recomputed" in row["form"] for row in rows)
    print(f"{len(rows)} shapes, {again} of them with activation checkpointing, {sizes[0] / 1e6:.1f}M to "
          f"{sizes[-1] / 1e6:.0f}M parameters, batch to {max(row['batch'] for row in rows)}, "
          f"K to {max(row['context_len'] for row in rows)}")  # fmt: skip
    print(f"off by: median {spread[len(spread) // 2]:.4%}, p95 {p95:.4%}, worst {spread[-1]:.4%}, lowest {lowest:+.4%}")
    print(f"an answer takes {took[len(took) // 2] * 1000:.1f} ms (median), {took[-1] * 1000:.1f} ms (worst)")
    modelled = [row["needed"] / row["high"] for row in rows if row["needed"]]
    print(
        f"of the high end the allocator's model needs at most {max(modelled):.1%} on {len(modelled)} shapes for a GPU"
    )
    gpu = hardware.find("A100-40GB")
    print(f"on an {gpu.name}, of which {gpu.usable_bytes / 2**30:.1f} GiB are usable:")
    for row in QUESTIONS:
        for recompute in (False, True):
            found = memory.peak(memory.Request(named(row, recompute), gpu))
            width, layers, context, chunk, batch, precision = row
            low, likely, high = (size / 2**30 for size in (found.low, found.likely, found.high))
            print(f"  {width}×{layers}, K {context} in chunks of {chunk}, batch {batch}, {precision}"
                  f"{', recomputed' if recompute else ''}: {likely:.2f} GiB ({low:.2f} to {high:.2f}), "
                  f"{'fits' if found.fits else 'does not surely fit'}")  # fmt: skip
    if options.json:
        today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
        result = {"schema_version": 1, "date": today, "made_with": traced.source(), "p95": p95, "worst": spread[-1]}
        Path(options.json).write_text(json.dumps(result | {"lowest": lowest, "rows": rows}, indent=1) + "\n")
    return int(p95 > 0.02 or lowest < -0.01 or max(modelled) > 1)


if __name__ == "__main__":
    sys.exit(main())
