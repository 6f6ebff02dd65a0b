"""`runctl estimate --trace`: the step traced now, beside the answer of the shipped polynomials. Needs torch."""

from __future__ import annotations

import time
from typing import Any

from runctl.estimate import allocator, trace, traced
from runctl.estimate.memory import Request


def trace_now(request: Request) -> dict[str, Any]:
    """Bytes at the peak: traced now by category, as shipped, and on a GPU what the allocator's model makes of them."""
    began = time.monotonic()
    device: traced.Device = "cuda" if request.gpu else "cpu"
    found = trace.of(request.shape, device)
    peak, shipped = found.peak(), traced.peak(request.shape, device)
    result: dict[str, Any] = {
        "bytes": peak.total,
        "parts": {name: size for name, size in peak.parts.items() if size},
        "phase": peak.phase,
        "shipped_bytes": shipped.total,
        "shipped_with": traced.source(),
        "difference": shipped.total / peak.total - 1,
    }
    if request.gpu:
        events = found.allocations()
        usage = allocator.replay(events)
        result |= {"allocated_bytes": usage.allocated, "reserved_bytes": usage.reserved}
        result |= {"needed_bytes": allocator.needed(events)}
    return result | {"seconds": round(time.monotonic() - began, 2)}
