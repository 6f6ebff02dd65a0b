"""The GPU catalogue: memory, peak rates, bandwidth and prices, each figure with its source and date.

The figures stand in `data/hardware.yaml`; nothing here asks a driver or a provider. A GPU on the local machine
that is not in the catalogue is an unknown, not an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

from runctl import shipped
from runctl.errors import UsageError, did_you_mean
from runctl.light import dataclass, field
from runctl.units import parse_bytes, parse_duration

DTYPES = ("fp32", "tf32", "bf16", "fp16", "fp8")


@dataclass(frozen=True)
class Source:
    """Where a figure was read, and when (or which edition)."""

    title: str
    date: str

    def __str__(self) -> str:
        return f"{self.title}, {self.date}" if self.date else self.title


@dataclass(frozen=True)
class Price:
    usd_per_hour: float
    source: Source


@dataclass(frozen=True)
class Gpu:
    """One model of GPU. `peak` is in FLOP/s by dtype; a missing dtype is one that it does not have."""

    name: str
    nominal_bytes: int
    usable_bytes: int
    capability: str
    peak: Mapping[str, float]
    bandwidth: float
    sources: Mapping[str, Source]
    prices: Mapping[str, Price] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    note: str | None = None


@dataclass(frozen=True)
class Limits:
    """What a provider allows one call: seconds of an attempt, at most and at least; how often it is tried again; on
    how many machines; how many characters its name may have; and the seconds between the notice that a machine is
    taken away and the end of the process."""

    timeout: float
    retries: int
    source: Source
    least_timeout: float = 0.0
    nodes: int | None = None
    name: int | None = None
    grace: float | None = None


@dataclass(frozen=True)
class MostGpus:
    """How many GPUs one machine of a provider has, and of some another number."""

    count: int
    source: Source
    of: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Provider:
    """What a provider charges besides the GPU, and what it allows; `gpu_hour_usd` is set where every GPU costs the
    same. `allowance` is the share that cores and memory may add at most where a config does not state them; `swaps`
    are GPU names as written and the other GPU that may be given for them."""

    name: str
    source: Source
    gpu_hour_usd: float | None = None
    cpu_core_hour_usd: float | None = None
    gib_hour_usd: float | None = None
    memory_source: Source | None = None
    allowance: float = 0.0
    limits: Limits | None = None
    swaps: Mapping[str, str] = field(default_factory=dict)
    most_gpus: MostGpus | None = None


@dataclass(frozen=True)
class Catalogue:
    gpus: Mapping[str, Gpu]
    providers: Mapping[str, Provider]
    recorded: str


def find(name: str) -> Gpu:
    """The GPU of that name or alias (case, dashes and vendor words do not matter); raises UsageError."""
    found = _names().get(_normal(name))
    if found is None:
        known = list(catalogue().gpus)
        aliases = [alias for gpu in catalogue().gpus.values() for alias in gpu.aliases]
        hint = did_you_mean(name.upper(), [*known, *aliases], most=3)
        raise UsageError(f"no GPU '{name[:60]}' in the catalogue", hint=hint or f"known: {', '.join(known)}")
    return catalogue().gpus[found]


def parse(text: str) -> tuple[Gpu, int]:
    """`NAME` or `NAME:COUNT` → the GPU and how many; raises UsageError."""
    name, count = split(text)
    return find(name), count


def choices(text: str) -> tuple[tuple[Gpu, int], ...]:
    """`H100!, A100-80GB:2` → each request, in order of preference; raises UsageError."""
    return tuple(parse(one.strip()) for one in text.split(","))


def judged(text: str) -> tuple[Gpu, int]:
    """The request that a run is judged by: of several, that of the GPU with the least memory, of equals the first."""
    return min(choices(text), key=lambda one: one[0].usable_bytes)


def split(text: str) -> tuple[str, int]:
    """`NAME` or `NAME:COUNT` → the name, known or not, and how many; raises UsageError where it is neither."""
    name, colon, count = text.partition(":")
    if colon and not (count.isascii() and count.isdecimal() and len(count) <= 4 and 1 <= int(count) <= 4096):
        raise UsageError(
            f"'{text[:60]}' is no GPU request: '{count[:20]}' is not a number of GPUs", hint="write it as A100-80GB:2"
        )
    if not name.strip():
        raise UsageError(f"'{text[:60]}' names no GPU", hint="write it as A100-80GB or A100-80GB:2")
    return name, int(count) if colon else 1


@cache
def catalogue() -> Catalogue:
    """Read `data/hardware.yaml`, once."""
    data = shipped.load("hardware.yaml")
    sources = {key: Source(value["title"], value["date"]) for key, value in data["sources"].items()}
    providers = {name: _provider(name, raw, sources) for name, raw in data["providers"].items()}
    gpus = {name: _gpu(name, raw, sources) for name, raw in data["gpus"].items()}
    return Catalogue(MappingProxyType(gpus), MappingProxyType(providers), data["recorded"])


def _provider(name: str, raw: dict[str, Any], sources: dict[str, Source]) -> Provider:
    known = dict(raw)
    for key in ("source", "memory_source"):
        if key in known:
            known[key] = sources[known[key]]
    if limits := known.get("limits"):
        durations = {key: parse_duration(limits[key]) for key in ("timeout", "least_timeout", "grace") if key in limits}
        known["limits"] = Limits(**{**limits, **durations, "source": sources[limits["source"]]})
    if most := known.get("most_gpus"):
        of = {gpu: count for gpu, count in most.items() if gpu not in ("count", "source")}
        known["most_gpus"] = MostGpus(most["count"], sources[most["source"]], MappingProxyType(of))
    return Provider(name, **known)


def _gpu(name: str, raw: dict[str, Any], sources: dict[str, Source]) -> Gpu:
    return Gpu(
        name=name,
        nominal_bytes=parse_bytes(raw["memory"]["nominal"]),
        usable_bytes=parse_bytes(raw["memory"]["usable"]),
        capability=raw["capability"],
        peak={dtype: raw["peak"][dtype] * 1e12 for dtype in DTYPES if dtype in raw["peak"]},
        bandwidth=raw["bandwidth"]["value"] * 1e9,
        sources={key: sources[raw[key]["source"]] for key in ("memory", "peak", "bandwidth")},
        prices={
            provider: Price(float(value["usd"]), sources[value["source"]])
            for provider, value in (raw.get("price") or {}).items()
        },
        aliases=tuple(raw.get("aliases") or ()),
        note=raw.get("note"),
    )


@cache
def _names() -> dict[str, str]:
    return {_normal(word): gpu.name for gpu in catalogue().gpus.values() for word in (gpu.name, *gpu.aliases)}


def _normal(name: str) -> str:
    text = re.sub(r"NVIDIA|GEFORCE|TESLA|AMD|INSTINCT", "", name.upper())
    return re.sub(r"[^A-Z0-9!+]", "", re.sub(r"GI?B\b", "G", text))


def to_json(gpu: Gpu) -> dict[str, Any]:
    """A GPU as JSON-able data, each figure with its source; prices are the business of `runctl/prices.py`."""
    return {
        "name": gpu.name,
        "memory_bytes": gpu.nominal_bytes,
        "usable_bytes": gpu.usable_bytes,
        "capability": gpu.capability,
        "peak_flops_per_second": dict(gpu.peak),
        "bandwidth_bytes_per_second": gpu.bandwidth,
        "sources": {name: str(source) for name, source in gpu.sources.items()},
        "aliases": list(gpu.aliases),
        "note": gpu.note,
    }
