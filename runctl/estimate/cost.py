"""Money: what an hour of a run costs, one attempt of it, the worst case, and what is lost between two checkpoints.

An hour is GPUs × their number, CPU cores and host memory, as far as the config states them. The worst case is not an
estimate: it is what has been paid when every attempt runs into its limit. Only limits that are enforced bound it
(`compute.timeout` for each attempt, else the provider's own limit, `budget.max_hours` for all together); that of
`budget.max_cost_usd` is a guard's, at the price of the GPU that was given, and bounds no container that outlives its
supervisor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runctl import hardware, prices
from runctl.config.every import Every
from runctl.estimate.time_ import Range, Triple
from runctl.facts import Facts, NotChecked
from runctl.hardware import Price
from runctl.light import dataclass, replace
from runctl.prices import Rates
from runctl.units import counted, format_bytes, format_duration, format_usd

YOUR_OWN = "your own machine"


@dataclass(frozen=True)
class Hourly:
    """USD of one hour. `parts` are what it is made of; `allowance` is the share that what the config does not state
    may add at most."""

    usd: float
    basis: str
    parts: Mapping[str, float]
    allowance: float = 0.0


@dataclass(frozen=True)
class Worst:
    """USD when every attempt runs into its limit; `words` say how it comes about."""

    usd: float
    seconds: float
    attempts: int
    words: str

    def to_json(self) -> dict[str, Any]:
        return {"usd": round(self.usd, 4), "seconds": self.seconds, "attempts": self.attempts, "basis": self.words}


@dataclass(frozen=True)
class AtRisk:
    """What is lost if the run dies just before a checkpoint: seconds and USD, as (low, likely, high)."""

    seconds: Triple
    usd: Triple | None
    words: str

    def to_json(self) -> dict[str, Any]:
        names = ("low", "likely", "high")
        rounded = {
            "seconds": dict(zip(names, (round(value, 3) for value in self.seconds), strict=True)),
            "usd": dict(zip(names, (round(value, 4) for value in self.usd), strict=True)) if self.usd else None,
        }
        return {**rounded, "basis": self.words}


def hourly(facts: Facts, rates: Rates | None) -> Hourly:
    """What an hour costs where the run is to be. Raises NotChecked with what has no price."""
    priced = rates is not None and facts.need("compute.backend") != "local"
    asked = (facts.need("gpu"), facts.need("gpu.count")) if priced and facts.need("gpu.used") else None
    return _hourly(facts, rates, asked)


def dearest(facts: Facts, rates: Rates | None) -> Hourly:
    """The dearest hour among the GPUs that the config would take. Raises NotChecked."""
    each = facts.get("gpu.choices", ())
    if len(each) < 2:
        return hourly(facts, rates)
    return max((_hourly(facts, rates, one) for one in each), key=lambda found: found.usd)


def _hourly(facts: Facts, rates: Rates | None, asked: tuple[hardware.Gpu, int] | None) -> Hourly:
    backend = facts.need("compute.backend")
    if backend == "local":
        own = rates.machine_hour if rates else None
        if own is None or not own.usd_per_hour:
            return Hourly(0.0, YOUR_OWN, {})
        return Hourly(own.usd_per_hour, _said([(YOUR_OWN, own.usd_per_hour, own)], 0.0), {YOUR_OWN: own.usd_per_hour})
    if rates is None:
        hint = f"give them in runctl.yaml, such as prices: {{{backend}: {{A100-80GB: 2.50}}}}"
        raise NotChecked(f"no prices are known for the backend {backend}; {hint}")
    found: list[tuple[str, float, Price]] = []
    if asked:
        gpu, count = asked
        price = rates.gpu(gpu)
        if price is None:
            raise NotChecked(f"no price is known for a {gpu.name} at {backend}")
        found.append((gpu.name + (f" × {count}" if count > 1 else ""), count * price.usd_per_hour, price))
    cores, memory = facts.get("compute.cpu"), facts.get("compute.memory")
    if cores and rates.cpu_core_hour:
        found.append((counted(cores, "core"), cores * rates.cpu_core_hour.usd_per_hour, rates.cpu_core_hour))
    if memory and rates.gib_hour:
        usd = memory / 2**30 * rates.gib_hour.usd_per_hour
        found.append((f"{format_bytes(memory)} of memory", usd, rates.gib_hour))
    if not found:
        raise NotChecked(f"nothing that the config asks for has a price at {backend}")
    open_ends = [
        key
        for key, given, price in (
            ("compute.cpu", cores, rates.cpu_core_hour),
            ("compute.memory", memory, rates.gib_hour),
        )
        if not given or (price is None and backend in hardware.catalogue().providers)
    ]
    allowance = rates.allowance if open_ends else 0.0
    basis = _said(found, facts.policy["price_age"])
    if allowance:
        basis += f"; {' and '.join(open_ends)} not stated, up to {allowance:.0%} added"
    return Hourly(sum(usd for _, usd, _ in found), basis, {name: usd for name, usd, _ in found}, allowance)


def _said(found: list[tuple[str, float, Price]], age: float) -> str:
    """`$2.73/h: A100-40GB $2.10, 8 cores $0.38 (Modal list prices, 2026-06-27)`; each source once, the old ones
    marked."""
    parts = ", ".join(f"{name} {format_usd(usd)}" for name, usd, _ in found)
    sources: dict[str, None] = {}
    for _, _, price in found:
        days = prices.age_days(price.source)
        old = f", stale: {days} days old" if prices.stale(price, age) else ""
        sources[f"{price.source}{old}"] = None
    return f"{format_usd(sum(usd for _, usd, _ in found))}/h: {parts} ({'; '.join(sources)})"


def attempt(time: Range, price: Hourly) -> Range:
    """USD of one attempt that goes through, as low, likely and high."""
    found = time.times(price.usd / 3600, price.basis)
    return replace(found, high=found.high * (1 + price.allowance), measured=time.measured)


def elsewhere(facts: Facts, time: Range | None, rates: Rates | None) -> str:
    """What the GPU of a run on one's own machine would cost at a provider, for a basis; empty if unknown."""
    gpu = facts.get("gpu")
    price = rates.gpu(gpu) if rates and gpu else None
    if rates is None or price is None or time is None:
        return ""
    usd = price.usd_per_hour * facts.get("gpu.count", 1) / 3600
    return f"; at {rates.provider} the GPU alone {format_usd(time.low * usd)} to {format_usd(time.high * usd)}"


def worst(facts: Facts, price: Hourly) -> Worst:
    """What is paid when every attempt runs into its limit. Raises NotChecked where no limit is set that anything
    enforces."""
    attempts = 1 + facts.get("compute.retries", 0)
    if not price.usd:
        return Worst(0.0, 0.0, attempts, price.basis)
    timeout, hours = facts.get("compute.timeout"), facts.get("budget.max_hours")
    bounds: list[tuple[float, str]] = []
    if timeout is not None:
        words = f"timeout {format_duration(timeout)}"
        bounds.append((timeout * attempts, words + (f" × {attempts} attempts" if attempts > 1 else "")))
    if hours is not None:
        bounds.append((hours * 3600, f"budget.max_hours {hours:g}, all attempts together"))
    provider = hardware.catalogue().providers.get(facts.get("compute.backend", ""))
    if timeout is None and provider is not None and provider.limits is not None:
        words = f"{provider.name} ends an attempt after {format_duration(provider.limits.timeout)}"
        words += f" (no compute.timeout) × {attempts} attempts" if attempts > 1 else " (no compute.timeout)"
        bounds.append((provider.limits.timeout * attempts, words))
    if not bounds:
        raise NotChecked("neither compute.timeout nor budget.max_hours ends the run")
    seconds, words = min(bounds)
    words += f", at up to {format_usd(price.usd * (1 + price.allowance))}/h"
    return Worst(price.usd * (1 + price.allowance) * seconds / 3600, seconds, attempts, words)


def at_risk(facts: Facts, price: Hourly | None) -> AtRisk:
    """What lies between two checkpoints, at most the whole run. Raises NotChecked where that is not known."""
    every: Every | None = facts.need("checkpoint.every")
    time: Range | None = facts.get("estimate.time")
    if every is not None and every.seconds is not None:
        seconds, words = (every.seconds,) * 3, f"{facts.key('checkpoint.every')} {format_duration(every.seconds)}"
        if time is not None:
            seconds = _at_most(seconds, time)
    else:
        time = facts.need("estimate.time")
        if every is None:
            seconds, words = (time.low, time.likely, time.high), "no checkpoints: the whole run"
        else:
            steps = every.steps or every.epochs * facts.need("run.steps_per_epoch")
            each = step_seconds(facts)
            seconds = _at_most((each[0] * steps, each[1] * steps, each[2] * steps), time)
            words = f"{facts.key('checkpoint.every')} {every}, {format_duration(each[1])} a step"
    usd = None
    if price is not None:
        low, likely, high = (value * price.usd / 3600 for value in seconds)
        usd = (low, likely, high * (1 + price.allowance))
    return AtRisk(seconds, usd, words)


def _at_most(seconds: Triple, time: Range) -> Triple:
    return min(seconds[0], time.low), min(seconds[1], time.likely), min(seconds[2], time.high)


def step_seconds(facts: Facts) -> Triple:
    """Seconds of one optimizer step as the estimate of the time takes them. Raises NotChecked."""
    time, steps = facts.need("estimate.time"), facts.need("run.steps")
    low, likely, high = time.parts["steps"]
    return low / steps, likely / steps, high / steps
