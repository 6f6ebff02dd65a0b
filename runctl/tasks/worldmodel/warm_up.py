"""Compiling the blocks before the first step, so that no step waits for it and no rate counts it.

One forward and backward pass over windows of zeros, in a thread beside a beating heart: the compiler takes up to some
minutes, and a run that is silent for so long looks hung. It belongs to the start-up; random numbers are left as they
were. Where several processes share a run, the first step compiles instead: only there is the size of a piece known.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from runctl.errors import RunctlError


def compile_blocks(job: Any, device: torch.device, record_bytes: int, report: Callable[[str], None]) -> float:
    """Seconds that it took. Raises RunctlError where torch.compile cannot do it here."""
    from runctl.train.beside import beside
    from runctl.train.device import autocast

    config, began = job.config, time.monotonic()
    rows = min(config.training.batch_size, job.train_windows)
    zeros = torch.zeros(rows, config.model.context_len + 1, record_bytes, dtype=torch.uint8, device=device)
    generator = torch.Generator(device)

    def work() -> None:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            with autocast(device, config.training.precision):
                total, _ = job.loss(zeros, generator=generator, progress_epochs=0.0, train=True)
            total.backward()
        job.model.zero_grad(set_to_none=True)

    def told() -> None:
        report(f"compiling the blocks, {time.monotonic() - began:.0f} s so far")

    try:
        beside(work, told)
    except (RuntimeError, OSError) as error:  # the compiler's own errors are RuntimeErrors
        why = str(error).strip().splitlines()[0]
        raise RunctlError(f"torch.compile failed: {why}", hint="set training.kernel: eager") from error
    return time.monotonic() - began
