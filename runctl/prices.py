"""Prices: USD per hour of GPUs, CPU cores and host memory at a provider, each with its source and date.

A project's own prices come first (`prices:` in `runctl.yaml`), then those that `runctl gpus --live` read from the
provider, then the list prices of the catalogue. A list price grows old: `stale` says so.

prices:
  modal: {A100-40GB: 2.10, cpu_core_hour: 0.04, gib_hour: 0.008}
  local: {machine_hour: 0.35}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from runctl import hardware
from runctl.errors import UsageError, did_you_mean
from runctl.hardware import Gpu, Price, Source
from runctl.light import dataclass
from runctl.yamldoc import Document

BESIDES = ("cpu_core_hour", "gib_hour")  # what is priced besides GPUs
MACHINE = "machine_hour"  # of one's own machine, whatever runs on it
MOST = 100_000.0  # USD an hour; beyond it nothing is priced
OWN = Source("runctl.yaml", "")

Own = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Rates:
    """What one provider charges. `any_gpu` stands for GPUs that are not listed, where all cost the same."""

    provider: str
    gpus: Mapping[str, Price]
    any_gpu: Price | None = None
    cpu_core_hour: Price | None = None
    gib_hour: Price | None = None
    allowance: float = 0.0
    machine_hour: Price | None = None

    def gpu(self, gpu: Gpu) -> Price | None:
        return self.gpus.get(gpu.name, self.any_gpu)


def of(provider: str, own: Own | None = None, live: Mapping[str, Price] | None = None) -> Rates | None:
    """The prices of a provider, the project's `own` before `live` ones before the catalogue's; None where nothing
    at all is known of it."""
    known = hardware.catalogue().providers.get(provider)
    given = {name: Price(usd, OWN) for name, usd in (own or {}).get(provider, {}).items()}
    given = {**(live or {}), **given}
    if known is None:
        gpus = {name: price for name, price in given.items() if name not in BESIDES}
        return Rates(provider, gpus, None, given.get(BESIDES[0]), given.get(BESIDES[1])) if given else None
    listed = {gpu.name: gpu.prices[provider] for gpu in hardware.catalogue().gpus.values() if provider in gpu.prices}
    every = None if known.gpu_hour_usd is None else Price(known.gpu_hour_usd, known.source)
    return Rates(
        provider,
        {**listed, **{name: price for name, price in given.items() if name not in (*BESIDES, MACHINE)}},
        every,
        given.get("cpu_core_hour", _price(known.cpu_core_hour_usd, known.source)),
        given.get("gib_hour", _price(known.gib_hour_usd, known.memory_source or known.source)),
        known.allowance,
        given.get(MACHINE),
    )


def _price(usd: float | None, source: Source) -> Price | None:
    return None if usd is None else Price(usd, source)


def names(own: Own | None = None) -> list[str]:
    """The providers that have prices of their own, `local` left out."""
    return [name for name in {**hardware.catalogue().providers, **(own or {})} if name != "local"]


def stale(price: Price, most_seconds: float, today: date | None = None) -> bool:
    """Whether a list price is older than `most_seconds`. A month or year counts from its first day; a price without
    a date, such as a project's own, and one of zero never grow old."""
    return price.usd_per_hour > 0 and (age := age_days(price.source, today)) is not None and age > most_seconds / 86400


def age_days(source: Source, today: date | None = None) -> int | None:
    """Days since the source's date, or None where it has none."""
    parts = [int(part) for part in source.date.split("-") if part.isdecimal()]
    if not parts:
        return None
    year, month, day = (*parts, 1, 1)[:3]
    return ((today or date.today()) - date(year, month, day)).days


def read(raw: Any, document: Document) -> Own:
    """Check the `prices:` section of a project; raises UsageError with file, line and column."""
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise UsageError(f"{document.position(('prices',))}: prices must map providers to prices", hint=_EXAMPLE)
    return {_provider(name, document): _rates(name, given, document) for name, given in raw.items()}


_EXAMPLE = "write: prices: {modal: {A100-40GB: 2.10, cpu_core_hour: 0.04, gib_hour: 0.008}}, USD per hour"


def _provider(name: Any, document: Document) -> str:
    """A provider may have any name, but not one that is nearly that of a known one."""
    where = document.position(("prices", name))
    known = list(hardware.catalogue().providers)
    if not isinstance(name, str) or not name.strip():
        raise UsageError(f"{where}: prices: {str(name)[:40]!r} is no provider's name", hint=_EXAMPLE)
    if name not in known and (near := get_close_matches(name.lower(), known, n=1, cutoff=0.8)):
        raise UsageError(f"{where}: prices: no provider '{name[:40]}'", hint=f"did you mean '{near[0]}'?")
    return name


def _rates(provider: str, given: Any, document: Document) -> dict[str, float]:
    where = document.position(("prices", provider))
    if not isinstance(given, dict) or not given:
        raise UsageError(f"{where}: prices.{provider} must map GPUs to USD per hour", hint=_EXAMPLE)
    found: dict[str, float] = {}
    for key, value in given.items():
        where = document.position(("prices", provider, key))
        if provider == "local" and key != MACHINE:
            words = "your own machine has one price, whatever runs on it"
            raise UsageError(f"{where}: prices.local: {words}", hint=f"write: prices: {{local: {{{MACHINE}: 0.35}}}}")
        name = MACHINE if provider == "local" else _thing(key, f"{where}: prices.{provider}")
        if name in found:
            raise UsageError(f"{where}: prices.{provider} prices the {name} twice")
        try:
            found[name] = usd(value)
        except ValueError as error:
            raise UsageError(f"{where}: prices.{provider}.{key} {error}", hint=_EXAMPLE) from None
    return found


def _thing(key: Any, where: str) -> str:
    """`cpu_core_hour`, `gib_hour` or the catalogue's name of a GPU."""
    if key in BESIDES:
        return str(key)
    try:
        return hardware.find(str(key)).name
    except UsageError as error:
        hint = did_you_mean(str(key), BESIDES) or error.hint
        raise UsageError(f"{where}: '{str(key)[:60]}' is no GPU, and none of {', '.join(BESIDES)}", hint=hint) from None


def usd(value: Any) -> float:
    """A price; raises ValueError that says what it must be."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"is {str(value)[:40]!r}, which is no number of USD per hour")
    if not 0 <= value <= MOST:
        raise ValueError(f"is {value}; a price lies between 0 and {MOST:,.0f} USD per hour")
    return float(value)


def live_file(project: Path, provider: str) -> Path:
    return project / ".runctl" / "prices" / f"{provider}.json"


def live(project: Path, provider: str) -> dict[str, Price]:
    """The prices that were last read from the provider; empty where none were, or the file is damaged."""
    try:
        data = json.loads(live_file(project, provider).read_text("utf-8"))
        source = Source(f"{data['source']}", date.fromisoformat(data["read"]).isoformat())
        return {str(name): Price(usd(value), source) for name, value in data["usd_per_hour"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def of_gpu(gpu: Gpu, rates: Sequence[Rates], most_seconds: float) -> dict[str, Any]:
    """A GPU's price at each provider that has one, as JSON-able data."""
    found = {one.provider: one.gpu(gpu) for one in rates}
    return {name: to_json(price, most_seconds) for name, price in found.items() if price is not None}


def besides(rates: Rates, most_seconds: float) -> dict[str, Any]:
    """What a provider charges besides GPUs, as JSON-able data."""
    found = {"cpu_core_hour": rates.cpu_core_hour, "gib_hour": rates.gib_hour}
    return {name: to_json(price, most_seconds) for name, price in found.items() if price is not None}


def to_json(price: Price, most_seconds: float) -> dict[str, Any]:
    """A price as JSON-able data: USD per hour, from where, and whether it is old."""
    about = {"source": price.source.title, "date": price.source.date or None}
    return {"usd": price.usd_per_hour, **about, "stale": stale(price, most_seconds)}
