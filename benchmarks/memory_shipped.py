"""The shipped answer about memory against a new trace, on random shapes: python benchmarks/memory_shipped.py [N]

Shapes are drawn from all forms of the step, 1M to 1.5B parameters, batch 1 to 8,192, K 4 to 4,096, both precisions.
"""

from __future__ import annotations

import random
import sys
import time
from dataclasses import replace

from runctl.estimate import parameters, solve, trace, traced


def main(count: int) -> int:
    rng = random.Random(2)
    off, took, sizes = [], [], []
    for number in range(10**6):
        if len(off) == count:
            break
        form = rng.choice(solve.FORMS)
        shape = replace(next(solve.shapes(form, 1, seed=number)), accumulation=rng.choice((1, 1, 2, 8)))
        total = parameters.count(shape.encoding, shape.model)
        if not (10**6 <= total <= 1.5 * 10**9 and shape.model.context_len <= 4096 and shape.model.n_layers <= 24):
            continue
        device: traced.Device = "cuda" if form["dropout"] == "cuda" else "cpu"
        wanted = trace.of(shape, device).peak().total
        began = time.perf_counter()
        found = traced.peak(shape, device).total
        took.append(time.perf_counter() - began)
        off.append(found / wanted - 1)
        sizes.append(total)
    spread, took = sorted(map(abs, off)), sorted(took)
    print(f"{len(off)} shapes, {min(sizes) / 1e6:.1f}M to {max(sizes) / 1e6:.0f}M parameters")
    print(f"off by: median {spread[len(off) // 2]:.4%}, p95 {spread[int(0.95 * len(off))]:.4%}, "
          f"worst {spread[-1]:.4%}, "
          f"lowest {min(off):+.4%}")  # fmt: skip
    print(f"an answer takes {took[len(took) // 2] * 1000:.1f} ms (median), {took[-1] * 1000:.1f} ms (worst)")
    return int(spread[int(0.95 * len(off))] > 0.02 or min(off) < -0.01)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 64))
