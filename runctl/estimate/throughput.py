"""How fast a run trains, against what its device can do, and what most likely keeps it from being faster.

The arithmetic is that of the model (`parameters.flops`), so the share of the peak is the model FLOPs utilisation (MFU)
of Chowdhery et al. 2022, "PaLM", appendix B; with activation checkpointing, what is computed again counts as well, as
it is work that the device does. The peak is the catalogue's for a GPU that stands there; elsewhere it is what plain
matrix products reached in the same process, measured in milliseconds.
"""

from __future__ import annotations

from typing import Any

from runctl import hardware
from runctl.errors import UsageError
from runctl.estimate.calibration import Measurement
from runctl.light import asdict, dataclass
from runctl.units import counted, format_count, format_short

LOW = 0.3  # of the peak: below it there is something to be said
WAITING = 0.1  # of the steps' time
VALIDATING = 0.2  # of the attempt's time
SAVING = 0.05
TINY_SECONDS = 0.005  # a step whose overhead is no longer small beside it


@dataclass(frozen=True)
class Throughput:
    """Rates per second; shares between 0 and 1, None where they were not measured. `peak` says what
    `peak_flops_per_second` is; `cause` is empty where nothing is lost that a setting could bring back."""

    examples_per_second: float
    frames_per_second: float
    flops_per_second: float
    peak_flops_per_second: float | None
    peak: str
    utilisation: float | None
    step_seconds: float
    data_share: float | None
    validation_share: float | None
    checkpoint_share: float | None
    threads: int | None
    cores: int | None
    cause: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def of(one: Measurement) -> Throughput:
    """What a measurement says, in these terms."""
    context, precision = one.shape.get("model.context_len"), str(one.shape.get("precision"))
    many = one.shape.get("processes")
    many = many if isinstance(many, int) and many > 1 else 1
    peak, said = _peak(one, precision, many)
    found = Throughput(
        examples_per_second=one.examples_per_second,
        frames_per_second=one.examples_per_second * (context if isinstance(context, int) else 1),
        flops_per_second=one.flops_per_second,
        peak_flops_per_second=peak,
        peak=said,
        utilisation=one.flops_per_second / peak if peak else None,
        step_seconds=one.step_seconds,
        data_share=one.data_share,
        validation_share=one.validation_share,
        checkpoint_share=one.checkpoint_share,
        threads=one.threads and one.threads * many,
        cores=one.cores,
    )
    return Throughput(**{**asdict(found), "cause": cause(found)})


def _peak(one: Measurement, precision: str, many: int) -> tuple[float | None, str]:
    """FLOP/s of all GPUs, or of all processes, at best; and what that is."""
    each = f"{many} × " if many > 1 else ""
    try:
        gpu = hardware.find(one.device)
        if precision in gpu.peak:
            return many * gpu.peak[precision], f"{each}the {precision} peak of {gpu.name}, from the catalogue"
    except UsageError:
        pass
    if one.matmul_flops_per_second:
        said = f"{each}what {precision} matrix products reach here, measured in the run"
        return many * one.matmul_flops_per_second, said
    return None, ""


def cause(found: Throughput) -> str:
    """The likeliest reason why no more is done, with what to do about it; "" where nothing stands out. What is lost to
    waiting, validation and checkpoints is said whatever the share of the peak is; the rest only where that is low."""
    lost = {
        share: words
        for share, limit, words in (
            (found.data_share, WAITING, _DATA),
            (found.validation_share, VALIDATING, _VALIDATION),
            (found.checkpoint_share, SAVING, _CHECKPOINTS),
        )
        if share is not None and share >= limit
    }
    if lost:
        share, words = max(lost.items())
        return words.format(share=f"{share:.0%}")
    if found.utilisation is None or found.utilisation >= LOW:
        return ""
    if found.threads and found.cores and found.threads < found.cores:
        used = f"{counted(found.threads, 'thread')} on {counted(found.cores, 'core')}"
        return f"too few threads: {used}; set training.threads (runctl probe tries which number is fastest)"
    if found.step_seconds < TINY_SECONDS:
        took = format_short(found.step_seconds)
        return f"tiny steps: one takes {took}, much of it overhead; raise training.batch_size"
    return "the steps themselves: small matrix products, and what lies between them; no setting of the data or the loop"


_DATA = (
    "waiting for data: {share} of a step's time; put the dataset on this machine's own disk, or ask for enough memory "
    "to keep it there"
)
_VALIDATION = (
    "validation: {share} of the time; validate less often (training.validate_every) or on fewer windows "
    "(training.validation_windows)"
)
_CHECKPOINTS = "checkpoints: steps stand still for {share} of the time; save less often (checkpoint.every)"


def words(told: dict[str, Any]) -> list[str]:
    """The lines that a person reads, of `Throughput.to_json`; none where it is empty or of another shape."""
    try:
        found = Throughput(**told)
        rates = f"{format_count(found.examples_per_second)} windows/s"
        rates += f", {format_count(found.frames_per_second)} frames/s"
        rates += f"; {_flops(found.flops_per_second)}"
        if found.utilisation is not None:
            rates += f", {found.utilisation:.1%} of {found.peak}"
        shares = {"waits for data": found.data_share, "is validation": found.validation_share}
        shares["is checkpoints"] = found.checkpoint_share
        parts = [f"{share:.1%} {name}" for name, share in shares.items() if share is not None]
        lines = [rates, *([f"of the time {', '.join(parts)}"] if parts else [])]
        return [*lines, *([f"likely cause: {found.cause}"] if found.cause else [])]
    except (TypeError, ValueError):
        return []


def _flops(rate: float) -> str:
    return f"{rate / 1e12:.3g} TFLOP/s" if rate >= 1e12 else f"{rate / 1e9:.3g} GFLOP/s"
