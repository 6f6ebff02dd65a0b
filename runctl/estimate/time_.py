"""Time and cost of a run: arithmetic divided by the GPU's peak rate times a stated range of efficiency.

Why a range and not a number: what short windows reach of a GPU's peak depends on the loader and on kernel
launches, not on arithmetic. Public runs of 4.3M parameters on windows of 10 frames reached 0.5 % of an A100's bf16
peak with a per-sample loader (2 epochs of 18.8M frames in 91 minutes); a large model on long sequences reaches 40 %.
Between the two the likely value is the geometric mean. A measurement replaces all of this.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

SHORT_WINDOW = 64  # frames; below it launches and the loader set the pace
EFFICIENCY = {
    "short": (0.005, 0.25),
    "long": (0.02, 0.40),
}  # pessimistic, of the half-precision peak; optimistic, of the dtype's
LAUNCHES = (0.0003, 0.004)  # seconds a layer costs in a forward and backward pass whatever its size
SETUP = (20.0, 60.0, 300.0)  # container, imports, first batch


@dataclass(frozen=True)
class Range:
    """`low` … `high` with a likely value, in one unit, and on what it rests."""

    low: float
    likely: float
    high: float
    basis: str
    measured: bool = False

    def times(self, factor: float, basis: str) -> Range:
        return Range(self.low * factor, self.likely * factor, self.high * factor, basis, self.measured)


def seconds(
    *, examples: float, passes: float, flops_per_example: float, peak: float, top: float, layers: int, context_len: int
) -> Range:
    """Seconds of one attempt.

    `examples` windows in `passes` forward passes; `flops_per_example` forward and backward. `peak` is the FLOP/s of
    the dtype in use and `top` those of the GPU's half precision: what a slow loader costs does not depend on the
    dtype, so the pessimistic rate is a share of `top`.
    """
    worst, best = EFFICIENCY["short" if context_len <= SHORT_WINDOW else "long"]
    fast = best * peak
    slow = min(worst * top, fast / 4)
    work = examples * flops_per_example
    low = work / fast + passes * LAUNCHES[0] * layers
    high = work / slow + passes * LAUNCHES[1] * layers
    basis = f"{_rate(slow)} to {_rate(fast)} TFLOP/s of {_rate(peak)} at best, not measured"
    return Range(SETUP[0] + low, SETUP[1] + math.sqrt(low * high), SETUP[2] + high, basis)


def _rate(flops: float) -> str:
    return f"{flops / 1e12:.3g}"


def cost(time: Range, usd_per_hour: float, basis: str, allowance: float = 0.0) -> Range:
    """USD of one attempt at a price per hour; `allowance` is the share that unpriced things may add at most."""
    found = time.times(usd_per_hour / 3600, basis)
    return replace(found, high=found.high * (1 + allowance))
