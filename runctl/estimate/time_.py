"""Time of a run, as a range with a basis.

A run is start-up, optimizer steps, validations, checkpoints and, at worst, a restart. How long each takes is its
*pace*. The best pace is one that was measured on this device with this shape; next comes one of another shape there,
scaled by the arithmetic; and last a stated model, whose range is wide on purpose.

Why a range and not a number: what short windows reach of a GPU's peak depends on the loader and on kernel
launches, not on arithmetic. Public runs of 4.3M parameters on windows of 10 frames reached 0.5 % of an A100's bf16
peak with a per-sample loader (2 epochs of 18.8M frames in 91 minutes); a large model on long sequences reaches 40 %.
Between the two the likely value is the geometric mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from runctl.config.every import Every
from runctl.estimate.calibration import Measurement
from runctl.light import dataclass, field, replace

Triple = tuple[float, float, float]  # low, likely, high

SHORT_WINDOW = 64  # frames; below it launches and the loader set the pace
EFFICIENCY = {
    "short": (0.005, 0.25),
    "long": (0.02, 0.40),
}  # pessimistic, of the half-precision peak; optimistic, of the dtype's
LAUNCHES = (0.0003, 0.004)  # seconds a layer costs in a forward and backward pass whatever its size
SETUP = (20.0, 60.0, 300.0)  # container, imports, first batch
CPU_FLOPS = (2e9, 6e10)  # per thread: an old core of a busy machine; AVX-512 (59e9 measured: performance of fp32)
CPU_BF16 = 2.2  # at best, against fp32, where the processor multiplies bf16 (measured 1.6 to 2.1)
CPU_LAYER = (0.0002, 0.01)  # seconds of a layer in a forward and backward pass whatever its size
CPU_SETUP = (2.0, 8.0, 60.0)  # importing torch, opening or simulating the data
SHARING = (1.0, 0.8, 0.5)  # what processes that share a step keep of their speed: at best, likely, at worst
STEADY = 0.12  # a measured pace is never trusted to less: what shares a machine comes and goes


@dataclass(frozen=True)
class Range:
    """`low` … `high` with a likely value, in one unit, on what it rests, and of what it is made."""

    low: float
    likely: float
    high: float
    basis: str
    measured: bool = False
    parts: Mapping[str, Triple] = field(default_factory=dict)

    def times(self, factor: float, basis: str) -> Range:
        return Range(self.low * factor, self.likely * factor, self.high * factor, basis, self.measured)


@dataclass(frozen=True)
class Work:
    """What a run does: `steps` of `examples` windows and `flops` each, in `passes` forward passes; validations on
    `validation_windows`; checkpoints. `restarts` are those that a bad day brings."""

    steps: int
    examples: int
    flops: float
    layers: int
    passes: int = 1
    context_len: int = 10
    validation_windows: int = 0
    validate_every: Every | None = None
    checkpoint_every: Every | None = None
    steps_per_epoch: int = 1
    restarts: int = 0


@dataclass(frozen=True)
class Pace:
    """Seconds of each part, as (low, likely, high)."""

    startup: Triple
    step: Triple
    validation_window: Triple
    checkpoint: Triple
    basis: str
    measured: bool = False


def total(work: Work, pace: Pace) -> Range:
    """Seconds of one attempt that goes through, and at the high end with its restarts."""
    low, likely, high = (_parts(work, pace, index) for index in range(3))
    parts: dict[str, Triple] = {name: (low[name], likely[name], high[name]) for name in likely}
    sums = [math.fsum(one.values()) for one in (low, likely, high)]
    return Range(sums[0], sums[1], sums[2], pace.basis, pace.measured, parts)


def _parts(work: Work, pace: Pace, index: int) -> dict[str, float]:
    steps = work.steps * pace.step[index]
    validations = times(work.validate_every, work, steps) + 1
    saves = times(work.checkpoint_every, work, steps) + 1
    found = {
        "setup": pace.startup[index],
        "steps": steps,
        "validation": validations * work.validation_windows * pace.validation_window[index],
        "checkpoints": saves * pace.checkpoint[index],
    }
    if work.restarts:
        redone = steps / (2 * saves)  # half of what lies between two checkpoints is done again, on average
        found["restarts"] = work.restarts * (pace.startup[index] + redone) if index == 2 else 0.0
    return found


def times(every: Every | None, work: Work, step_seconds: float) -> int:
    """How often something that recurs happens before the last step; the end comes on top. `step_seconds` of all
    steps together."""
    if every is None or work.steps <= 1:
        return 0
    if every.seconds is not None:
        return int(step_seconds // every.seconds)
    interval = every.steps if every.steps is not None else max(1.0, (every.epochs or 0.0) * work.steps_per_epoch)
    return int((work.steps - 1) // interval)


def measured(one: Measurement, data: str = "") -> Pace:
    """The pace of this shape on this device, as it was measured; `data` is what this start-up depends on."""
    half = max(STEADY, one.spread)
    window = one.validation_window_seconds
    load = "" if one.load is None else f", load {one.load:.1f}"
    return Pace(
        startup=_startup(one, data),
        step=_around(one.step_seconds, half),
        validation_window=_around(window, 0.2) if window else _share(one),
        checkpoint=_around((one.checkpoint_stall_seconds or 0.0), 0.5),
        basis=f"measured here: {one.said()} on {one.device}{load}",
        measured=True,
    )


def scaled(one: Measurement, work: Work, data: str = "") -> Pace:
    """The pace of another shape on the same device, by the ratio of the arithmetic. The further apart the shapes,
    the wider: small steps spend their time on what does not scale."""
    ratio = work.flops / one.flops
    doublings = abs(math.log2(ratio))
    likely = one.step_seconds * ratio
    if ratio < 1:  # what does not scale stays
        low, high = likely / 1.3, min(one.step_seconds, likely * 1.4 * 1.35**doublings)
    else:
        low, high = likely / (1.3 * 1.1**doublings), likely * 1.4 * 1.1**doublings
    middle = math.sqrt(low * high)
    window = [value / max(1, work.examples) for value in (low, middle, high)]
    return Pace(
        startup=_startup(one, data),
        step=(low, middle, high),
        validation_window=(window[0] / 4, window[1] / 2.5, window[2]),
        checkpoint=_around(one.checkpoint_stall_seconds or 0.0, 0.9),
        basis=f"scaled by arithmetic × {ratio:.3g} from the {one.said()} on {one.device}",
    )


def shared(one: Pace, count: int, of: str) -> Pace:
    """The pace of `count` processes that share each step, from that of one of them with its part of the windows: at
    best they lose nothing to each other, at worst half (`SHARING`). How fast gradients travel is not known before it
    was measured; what each loads and saves stays as it is."""
    best, likely, worst = SHARING
    step = one.step[0] / best, one.step[1] / likely, one.step[2] / worst
    low, middle, high = (value / count for value in one.validation_window)
    words = f"{one.basis}; {count} {of} share each step: {best:.0%} (perfect) to {worst:.0%} of {count} times one"
    window = (low / best, middle / likely, high / worst)
    return replace(one, step=step, validation_window=window, basis=f"{words}, not measured", measured=False)


def on_gpu(work: Work, *, peak: float, top: float) -> Pace:
    """The stated model of a GPU. `peak` is the FLOP/s of the dtype in use and `top` those of the GPU's half
    precision: what a slow loader costs does not depend on the dtype, so the pessimistic rate is a share of `top`."""
    worst, best = EFFICIENCY["short" if work.context_len <= SHORT_WINDOW else "long"]
    fast = best * peak
    slow = min(worst * top, fast / 4)
    basis = f"{_rate(slow)} to {_rate(fast)} TFLOP/s of {_rate(peak)} at best, not measured"
    return _modelled(work, slow, fast, LAUNCHES, SETUP, basis)


def on_cpu(work: Work, *, threads: float, bf16: bool) -> Pace:
    """The stated model of a CPU of `threads`: what cores of the last ten years reach on small matrix products."""
    slow, fast = CPU_FLOPS[0] * threads, CPU_FLOPS[1] * threads * (CPU_BF16 if bf16 else 1.0)
    basis = f"{slow / 1e9:.3g} to {fast / 1e9:.3g} GFLOP/s of {threads:g} CPU threads, not measured"
    return _modelled(work, slow, fast, CPU_LAYER, CPU_SETUP, basis)


def _modelled(work: Work, slow: float, fast: float, layer: tuple[float, float], setup: Triple, basis: str) -> Pace:
    low = work.flops / fast + work.passes * layer[0] * work.layers
    high = work.flops / slow + work.passes * layer[1] * work.layers
    step = (low, math.sqrt(low * high), high)
    window = [value / max(1, work.examples) for value in step]
    return Pace(
        startup=setup,
        step=step,
        validation_window=(window[0] / 4, window[1] / 2.5, window[2]),  # forward only; with metrics and baselines
        checkpoint=(0.0, 0.5, 5.0),
        basis=basis,
    )


def _startup(one: Measurement, data: str) -> Triple:
    """As it was, where the data are the same; else in proportion to the frames that must be simulated, and wide."""
    if data == one.startup_data:
        return _around(one.startup_seconds, 0.25)
    kinds = [text.partition(" ") for text in (data, one.startup_data)]
    frames = [float(count) if count.isdigit() else 0.0 for _, _, count in kinds]
    likely = one.startup_seconds
    if kinds[0][0] == kinds[1][0] == "simulated" and all(frames):
        likely = min(likely, CPU_SETUP[0]) + max(0.0, likely - CPU_SETUP[0]) * frames[0] / frames[1]
    return min(likely, CPU_SETUP[0]), likely, 2 * likely + CPU_SETUP[1]


def _around(value: float, share: float) -> Triple:
    share = min(share, 0.9)
    return value * (1 - share), value, value * (1 + share)


def _share(one: Measurement) -> Triple:
    """Validation where it was not measured: a third of a training step's arithmetic, and its metrics."""
    each = one.step_seconds / max(1, one.examples)
    return each / 4, each / 2.5, each


def _rate(flops: float) -> str:
    return f"{flops / 1e12:.3g}"
