"""What one attempt on Modal has cost: the GPU that it was given × the seconds of its container. Pure arithmetic.

Of several GPUs in order of preference the one that was given decides the price. One that was given in place of
another, as an H200 for an H100, costs what was asked for. Cores and memory are billed by the larger of what is asked
for and what is used; only the former is known here, so the figure is a lower end. Modal's own report is the bill:
`modal billing report --tag-names runctl.run` groups it by run (the tags of plan.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runctl import hardware
from runctl.errors import UsageError
from runctl.hardware import Gpu
from runctl.light import asdict, dataclass
from runctl.prices import Rates
from runctl.units import counted, format_duration, format_usd


@dataclass(frozen=True)
class Cost:
    """`given` is the GPU as the container saw it, `charged` the request that is paid for (both None on the CPU, or
    where that is not known); `usd_per_hour` None where something has no price. `words` say how it comes about."""

    usd: float | None
    usd_per_hour: float | None
    seconds: float
    given: str | None
    charged: str | None
    words: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def attempt(
    asked: Sequence[str], given: Sequence[str], seconds: float, *, cpu: float, memory_mib: int, rates: Rates | None
) -> Cost:
    """The cost of a container that asked for one of `asked` (as in the request: `H100!:2`) and had `given`: the lines
    of nvidia-smi, one for each GPU. Without them the dearest is taken, and that is said."""
    seen = given[0].partition(",")[0].strip() if given else None
    if rates is None:
        return Cost(None, None, seconds, seen, None, "no prices are known for modal")
    charged, doubt = _charged(asked, given, lambda one: _hour(one, rates))
    parts: list[tuple[str, float | None]] = []
    if charged is not None:
        gpu, count = hardware.parse(charged)
        price = rates.gpu(gpu)
        parts.append((charged, None if price is None else count * price.usd_per_hour))
    cores, memory = rates.cpu_core_hour, rates.gib_hour
    parts.append((counted(cpu, "core"), None if cores is None else cpu * cores.usd_per_hour))
    parts.append((f"{memory_mib / 1024:g} GiB", None if memory is None else memory_mib / 1024 * memory.usd_per_hour))
    unpriced = [name for name, usd in parts if usd is None]
    if unpriced:
        return Cost(None, None, seconds, seen, charged, f"no price is known for {', '.join(unpriced)}")
    hour = sum(usd for _, usd in parts if usd is not None)
    words = f"{format_duration(seconds)} at {format_usd(hour)}/h: " + ", ".join(
        f"{name} {format_usd(usd)}" for name, usd in parts if usd is not None
    )
    return Cost(hour * seconds / 3600, hour, seconds, seen, charged, words + (f"; {doubt}" if doubt else ""))


def of_choices(asked: Sequence[str], cpu: float, memory_mib: int, rates: Rates | None) -> dict[str, float]:
    """USD an hour of each choice of a GPU, cores and memory included; by "" of a run on the CPU. What has no price is
    left out."""
    found = {}
    for one in asked or ("",):
        cost = attempt([one] if one else [], [], 3600.0, cpu=cpu, memory_mib=memory_mib, rates=rates)
        if cost.usd_per_hour is not None:
            found[one] = round(cost.usd_per_hour, 6)
    return found


def given_hour(asked: Sequence[str], given: Sequence[str], hours: Mapping[str, float]) -> float | None:
    """USD an hour of the GPU that was really given, by the prices of the choices (`of_choices`); None where the one
    that is paid for has none."""
    if not asked:
        return hours.get("")
    charged, _ = _charged(asked, given, lambda one: hours.get(one, 0.0))
    return None if charged is None else hours.get(charged)


def _charged(asked: Sequence[str], given: Sequence[str], hour: Callable[[str], float]) -> tuple[str | None, str]:
    """The request that was fulfilled, and why that is not sure; None on the CPU."""
    if not asked:
        return None, ""
    swaps = hardware.catalogue().providers["modal"].swaps
    found = _gpu(given[0]) if given else None
    if found is not None:
        fits = [one for one in asked if hardware.parse(one)[0].name == found.name]
        fits = fits or [one for one in asked if swaps.get(hardware.split(one)[0].upper()) == found.name]
        exact = [one for one in fits if hardware.split(one)[1] == len(given)]
        if fits:
            return (exact or fits)[0], ""
    if len(asked) == 1:
        return asked[0], ""
    dearest = max(asked, key=hour)
    what = f"the container had {given[0].partition(',')[0]}" if given else "the container did not say what it had"
    return dearest, f"{what}: taken for the dearest that was asked for"


def _hour(asked: str, rates: Rates) -> float:
    gpu, count = hardware.parse(asked)
    price = rates.gpu(gpu)
    return 0.0 if price is None else count * price.usd_per_hour


def _gpu(line: str) -> Gpu | None:
    """The GPU of a line of nvidia-smi, `NVIDIA H100 80GB HBM3, 81559 MiB`; None where the catalogue has none such."""
    name = line.partition(",")[0].strip()
    try:
        found = hardware.find(name)
        return hardware.find("A10") if found.name == "A10G" else found  # which Modal gives under that name
    except UsageError:
        return None
