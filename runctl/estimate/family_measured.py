"""Peak memory from one that was measured: of all that a step holds, weights, gradients and the optimizer's state stay
the same whatever the batch is; the rest grows with the batch, and with the length of the sequences.

    peak(batch) = fixed + (measured − fixed when measured) × batch ÷ batch when measured × length ÷ length when measured

That holds for programs of any kind, and is as good as the measurement: a peak on real data, where examples differ in
length, is one draw of many. The range takes that rest 5 % lower and higher for the batch that was measured, and 10 %
more for each time that it is doubled or halved, up to 35 %.
"""

from __future__ import annotations

import math

from runctl.config.declares import Declares
from runctl.estimate import families, memory
from runctl.estimate.family_peak import Request, state_bytes, update_bytes
from runctl.estimate.memory import Memory
from runctl.units import counted, format_bytes

SPREAD, FARTHER, WIDEST = 0.05, 0.10, 0.35
ALIKE = 0.25  # models whose parameters differ by more are not the one that was measured


def applies(declared: Declares) -> bool:
    """Whether there is a measurement that speaks of this model with this treatment of activations."""
    point = declared.measured
    if point is None or declared.batch_size is None:
        return False
    if point.activation_checkpointing != declared.activation_checkpointing:
        return False
    try:
        count, _ = families.parameters(declared)
    except families.Incomplete:
        return False
    return point.parameters is None or abs(point.parameters / count - 1) <= ALIKE


def peak(request: Request) -> Memory:
    """The peak of a training step; only where `applies`."""
    declared, gpu = request.declared, request.gpu
    point, batch = declared.measured, declared.batch_size
    assert point is not None
    assert batch is not None
    count, basis = families.parameters(declared)
    context = memory.CUDA_CONTEXT if gpu else (0, 0, 0)
    size = 2 if declared.half_weights else 4
    weights = gradients = size * count
    state = state_bytes(declared, count)
    fixed = weights + gradients + state
    each = point.bytes_per_parameter or fixed / count
    rest = max(0.0, point.peak - each * (point.parameters or count) - context[1])
    ratio = batch / point.batch_size
    longer = declared.seq_len / point.seq_len if declared.seq_len and point.seq_len else 1.0
    grown = rest * ratio * longer
    apart = min(WIDEST, SPREAD + FARTHER * abs(math.log2(ratio * longer)))
    update = update_bytes(declared, count)
    buckets = memory.ddp_buckets(count, size) if request.count > 1 else 0
    moving = max(grown, update)
    parts = {
        "weights": weights,
        "gradients": gradients,
        "optimizer": state,
        "activations" if grown >= update else "optimizer's step": round(moving),
        "CUDA context": context[1],
    }
    words = f"measured once: {format_bytes(point.peak)} with a batch of {point.batch_size}"
    if longer != 1.0:
        words += f" of {counted(point.seq_len or 1, 'token')}"
    words += f"; {fixed / count:.3g} bytes for each of {count:,} parameters ({request.counted or basis}) stay, "
    words += "the rest grows with the batch"
    return Memory(
        request=request,
        parts={name: size for name, size in parts.items() if size},
        low=round(fixed + max((1 - apart) * grown, update) + context[0]),
        likely=sum(parts.values()),
        high=round(fixed + max((1 + apart) * grown, update) + buckets + context[2]),
        phase="backward" if grown >= update else "optimizer",
        basis=words,
    )
