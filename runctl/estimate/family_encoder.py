"""Peak memory of a model that looks at pictures: what its image encoder holds of every picture of a forward pass, and
the weights, gradients and optimizer of the whole. What its language model holds of the text is not counted, which is
little beside a clip's frames. Where examples differ in pictures, the most that one can have is asked about: every
example of a batch at its most is the worst that can come, so that the high end lies close to the likely value.
"""

from __future__ import annotations

from dataclasses import replace

from runctl.estimate import families, family_peak, memory
from runctl.estimate.family_peak import Request, state_bytes, update_bytes
from runctl.estimate.memory import Memory
from runctl.units import counted

WORST = 1.05
_FIXED = ("weights", "gradients", "optimizer", "optimizer's step")


def peak(request: Request) -> Memory:
    """The peak of a training step. Raises Incomplete where the parameters of the whole, or the encoder's batch, are
    not known."""
    declared, encoder = request.declared, request.encoder
    assert encoder is not None
    count, basis = families.parameters(declared)
    alone = family_peak.peak(Request(encoder, request.gpu))
    own = encoder.parameters or families.parameters(encoder)[0]
    size = 2 if declared.half_weights else 4
    rest = (2 * size + state_bytes(declared, count) / count) * (count - own)
    update = update_bytes(declared, count)
    context = memory.CUDA_CONTEXT if request.gpu else (0, 0, 0)
    least = 2 * size * count + state_bytes(declared, count) + update
    pictures = counted(encoder.batch_size or 1, "picture")
    words = f"{pictures} in a forward pass, and {least / count:.3g} bytes for each of {count:,} parameters"
    parts = {name: part for name, part in alone.parts.items() if name not in _FIXED}
    parts["weights, gradients, optimizer"] = round(alone.likely - sum(parts.values()) + rest)
    if (lacking := round(least + context[1]) - sum(parts.values())) > 0:
        parts["optimizer's step"] = lacking
    return replace(
        alone,
        request=request,
        parts=parts,
        low=round(max(alone.low + rest, least + context[0])),
        likely=sum(parts.values()),
        high=round(max(WORST * (alone.likely + rest), least + context[2])),
        phase="optimizer" if lacking > 0 else alone.phase,
        basis=f"{words} ({request.counted or basis}); without what the text takes; {alone.basis}",
    )
