"""Where a run fits, and what would make it fit: every answer is an estimate of the changed run itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Union

from runctl import hardware
from runctl.estimate import memory
from runctl.estimate.memory import Memory, Request
from runctl.light import dataclass

if TYPE_CHECKING:
    from runctl.estimate import family_peak

Asked = Union[Request, "family_peak.Request"]

LARGEST = 1 << 23  # batches beyond this are of no use to anybody


@dataclass(frozen=True)
class Row:
    """One GPU: the run's memory there, and the largest power of two as a batch that surely fits (0: none does)."""

    gpu: hardware.Gpu
    memory: Memory
    largest_batch: int

    @property
    def verdict(self) -> str:
        if self.memory.fits:
            return "fits"
        return "perhaps" if self.memory.likely <= self.gpu.usable_bytes else "does not fit"


@dataclass(frozen=True)
class Change:
    """One change that makes a run fit: the settings, in words, and the memory of the run so changed."""

    settings: dict[str, object]
    memory: Memory

    def __str__(self) -> str:
        return " with ".join(f"{key}: {value}" for key, value in self.settings.items())


def table(request: Asked) -> list[Row]:
    """All GPUs of the catalogue that know the precision, the smallest first."""
    precision = request.precision
    gpus = [gpu for gpu in hardware.catalogue().gpus.values() if _has(gpu, precision)]
    rows = []
    for gpu in sorted(gpus, key=lambda gpu: gpu.usable_bytes):
        asked = request.change(gpu)
        rows.append(Row(gpu, peak(asked), largest_batch(asked)))
    return rows


def left_out(request: Asked) -> dict[str, str]:
    """The GPUs of the catalogue that `table` does not show, and why."""
    precision = request.precision
    return {gpu.name: f"no {precision}" for gpu in hardware.catalogue().gpus.values() if not _has(gpu, precision)}


def _has(gpu: hardware.Gpu, precision: str) -> bool:
    return precision == "fp32" or precision in gpu.peak


def to_json(row: Row) -> dict[str, Any]:
    """A row as JSON-able data."""
    found = row.memory
    return {
        "gpu": row.gpu.name,
        "usable_bytes": row.gpu.usable_bytes,
        "memory_bytes": {"low": found.low, "likely": found.likely, "high": found.high},
        "verdict": row.verdict,
        "largest_batch": row.largest_batch,
    }


def largest_batch(request: Asked) -> int:
    """The largest power of two as `training.batch_size` whose high end fits into the GPU; 0 if not even 1 does."""
    if not peak(request.change(batch=1)).fits:
        return 0
    exponent = 0
    while 2 << exponent <= LARGEST and peak(request.change(batch=2 << exponent)).fits:
        exponent += 1
    return 1 << exponent


def changes(request: Asked) -> list[Change]:
    """Single changes after which the run surely fits, the least intrusive first; none if it fits as it is.

    A smaller batch comes with as much more accumulation, so that an optimizer step still sees as many windows."""
    if request.gpu is None or peak(request).fits:
        return []
    if not isinstance(request, Request):
        found = [_first(choices) for choices in request.alternatives()] + [_gpu(request)]
        return [change for change in found if change is not None]
    found = [_batch(request), _precision(request), _recompute(request), _chunk(request), _gpu(request)]
    return [change for change in found if change is not None]


def peak(request: Asked) -> Memory:
    """The memory of a built-in run or of a declared one."""
    if isinstance(request, Request):
        return memory.peak(request)
    from runctl.estimate import family_peak  # most configs declare no model

    return family_peak.peak(request)


def _first(choices: Sequence[tuple[dict[str, object], Asked]]) -> Change | None:
    return next((change for settings, asked in choices if (change := _tried(asked, settings))), None)


def _batch(request: Request) -> Change | None:
    shape = request.shape
    batch, accumulation = shape.batch, shape.accumulation
    while batch % 2 == 0:
        batch, accumulation = batch // 2, accumulation * 2
        if change := _tried(
            request.change(batch=batch, accumulation=accumulation),
            {"training.batch_size": batch, "training.accumulation": accumulation},
        ):
            return change
    return None


def _precision(request: Request) -> Change | None:
    if request.precision != "fp32" or request.gpu is None or "bf16" not in request.gpu.peak:
        return None
    return _tried(request.change(precision="bf16"), {"training.precision": "bf16"})


def _recompute(request: Request) -> Change | None:
    """Costs time (another forward pass of the blocks) and changes no result."""
    if request.shape.recompute:
        return None
    return _tried(request.change(recompute=True), {"training.activation_checkpointing": "true"})


def _chunk(request: Request) -> Change | None:
    """Chunks of the window instead of the whole: the quadratic part of the scan shrinks with the chunk."""
    model = request.shape.model
    for size in (256, 128, 64, 32, 16):
        if size < min(model.chunk_size, model.context_len) and not model.context_len % size:
            changed = request.change(model=model.model_copy(update={"chunk_size": size}))
            if change := _tried(changed, {"model.chunk_size": size}):
                return change
    return None


def _gpu(request: Asked) -> Change | None:
    for gpu in sorted(_larger(request), key=lambda gpu: (_price(gpu), gpu.usable_bytes)):
        if change := _tried(request.change(gpu), {"compute.gpu": gpu.name}):
            return change
    return None


def _larger(request: Asked) -> list[hardware.Gpu]:
    """The GPUs with more memory than the one that is asked for."""
    precision, least = request.precision, request.gpu.usable_bytes if request.gpu else 0
    return [gpu for gpu in hardware.catalogue().gpus.values() if gpu.usable_bytes > least and _has(gpu, precision)]


def _price(gpu: hardware.Gpu) -> float:
    price = gpu.prices.get("modal")
    return price.usd_per_hour if price else float("inf")


def _tried(request: Asked, settings: dict[str, object]) -> Change | None:
    from runctl.estimate.families import Incomplete

    try:
        found = peak(request)
    except Incomplete:  # it may fit, but too little is declared to say so
        return None
    return Change(settings, found) if found.fits else None
