"""The GPU catalogue on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from runctl import prices, view
from runctl.hardware import DTYPES, Gpu, Price
from runctl.prices import Rates
from runctl.units import format_bytes

if TYPE_CHECKING:
    from runctl.live_prices import Refreshed

STALE = "*"


def catalogue(gpus: Sequence[Gpu], rates: Sequence[Rates], age: float, recorded: str) -> None:
    """A table of all GPUs; dense TFLOP/s by dtype, prices by provider; a price older than `age` seconds is marked."""
    columns = ["GPU", "GiB", "usable", *DTYPES, "GB/s", *(f"{one.provider} $/h" for one in rates)]
    rows = [
        [
            gpu.name,
            f"{gpu.nominal_bytes / 2**30:g}",
            f"{gpu.usable_bytes / 2**30:.1f}",
            *(_short(gpu.peak[dtype] / 1e12) if dtype in gpu.peak else "–" for dtype in DTYPES),
            f"{gpu.bandwidth / 1e9:g}",
            *(_usd(one.gpu(gpu), age) for one in rates),
        ]
        for gpu in gpus
    ]
    view.table(columns, rows, right=columns[1:])
    for one in rates:
        for line in _about(one, gpus, age):
            view.say(f"[dim]{line}[/dim]")
    view.say(f"[dim]dense TFLOP/s by dtype; figures recorded {recorded}; sources: runctl gpus NAME[/dim]")


def _usd(price: Price | None, age: float) -> str:
    if price is None:
        return "–"
    return f"{price.usd_per_hour:.2f}" + (STALE if prices.stale(price, age) else " ")


def _about(rates: Rates, gpus: Sequence[Gpu], age: float) -> Iterator[str]:
    """What a provider charges besides GPUs, where its prices are from, and which of them are old."""
    things = [
        f"${price.usd_per_hour:.3g} {unit}"
        for price, unit in ((rates.cpu_core_hour, "a core"), (rates.gib_hour, "a GiB of memory"))
        if price is not None
    ]
    if things:
        yield f"{rates.provider}: {' and '.join(things)} an hour besides"
    shown = [(gpu.name, price) for gpu in gpus if (price := rates.gpu(gpu)) is not None]
    sources = dict.fromkeys(str(price.source) for _, price in shown)
    yield f"{rates.provider}: {'; '.join(sources)}"
    if old := [name for name, price in shown if prices.stale(price, age)]:
        days = max(prices.age_days(price.source) or 0 for name, price in shown if name in old)
        yield f"{STALE} stale, up to {days} days old: {', '.join(old)} (policy.price_age; --live reads new ones)"


def refreshed(found: Refreshed) -> None:
    """What was read from the provider just now."""
    view.say(f"[good]{len(found.usd_per_hour)} prices read from Modal[/good] [dim]kept in {found.file}[/dim]")
    if found.unknown:
        view.say(f"[dim]not known here, left out: {', '.join(found.unknown)}[/dim]")


def one(gpu: Gpu, rates: Sequence[Rates], age: float) -> None:
    """One GPU, each figure with its source and date."""
    peaks = ", ".join(f"{dtype} {rate / 1e12:g}" for dtype, rate in gpu.peak.items())
    memory = f"{format_bytes(gpu.nominal_bytes)}, of which {format_bytes(gpu.usable_bytes)} usable"
    rows = [
        ["memory", memory, gpu.sources["memory"]],
        ["dense TFLOP/s", peaks, gpu.sources["peak"]],
        ["bandwidth", f"{gpu.bandwidth / 1e9:g} GB/s", gpu.sources["bandwidth"]],
        ["capability", gpu.capability, gpu.sources["peak"]],
    ]
    for provider in rates:
        if (price := provider.gpu(gpu)) is not None:
            old = f", stale: {prices.age_days(price.source)} days old" if prices.stale(price, age) else ""
            rows.append([f"{provider.provider} price", f"${price.usd_per_hour:.2f}/h", f"{price.source}{old}"])
    rows += [["also called", ", ".join(gpu.aliases), ""]] if gpu.aliases else []
    view.table([gpu.name, "", "source"], rows)
    if gpu.note:
        view.say(f"[note]note[/note]: {gpu.note}")


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:g}"
