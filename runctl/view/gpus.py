"""The GPU catalogue on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from runctl import view
from runctl.hardware import DTYPES, Gpu
from runctl.units import format_bytes


def catalogue(gpus: Sequence[Gpu], recorded: str) -> None:
    """A table of all GPUs; dense TFLOP/s by dtype, list prices by provider."""
    providers = sorted({provider for gpu in gpus for provider in gpu.prices})
    columns = ["GPU", "GiB", "usable", *DTYPES, "GB/s", *(f"{name} $/h" for name in providers)]
    rows = [
        [
            gpu.name,
            f"{gpu.nominal_bytes / 2**30:g}",
            f"{gpu.usable_bytes / 2**30:.1f}",
            *(_short(gpu.peak[dtype] / 1e12) if dtype in gpu.peak else "–" for dtype in DTYPES),
            f"{gpu.bandwidth / 1e9:g}",
            *(f"{gpu.prices[name].usd_per_hour:.2f}" if name in gpu.prices else "–" for name in providers),
        ]
        for gpu in gpus
    ]
    view.table(columns, rows, right=columns[1:])
    view.say(f"[dim]dense TFLOP/s by dtype; figures recorded {recorded}; sources: runctl gpus NAME[/dim]")


def one(gpu: Gpu) -> None:
    """One GPU, each figure with its source and date."""
    peaks = ", ".join(f"{dtype} {rate / 1e12:g}" for dtype, rate in gpu.peak.items())
    rows = [
        [
            "memory",
            f"{format_bytes(gpu.nominal_bytes)}, of which {format_bytes(gpu.usable_bytes)} usable",
            gpu.sources["memory"],
        ],
        ["dense TFLOP/s", peaks, gpu.sources["peak"]],
        ["bandwidth", f"{gpu.bandwidth / 1e9:g} GB/s", gpu.sources["bandwidth"]],
        ["capability", gpu.capability, gpu.sources["peak"]],
    ]
    rows += [[f"{name} price", f"${price.usd_per_hour:.2f}/h", price.source] for name, price in gpu.prices.items()]
    rows += [["also called", ", ".join(gpu.aliases), ""]] if gpu.aliases else []
    view.table([gpu.name, "", "source"], rows)
    if gpu.note:
        view.say(f"[note]note[/note]: {gpu.note}")


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:g}"
