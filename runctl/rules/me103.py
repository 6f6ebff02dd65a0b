"""ME103: the GPU is nearly empty

## Why

A toy config of 0.25M parameters went out as "the 125M model" and kept two A100s for 24.5 hours at a hundredth of
their memory: $30 to $40 and nothing to keep. An almost empty GPU is paid for in full.

## Fails

```yaml
data: {max_games: 2000}
model: {d_model: 128, n_layers: 2}
training: {steps: 200000, batch_size: 128, precision: bf16}
compute: {backend: modal, gpu: A100-80GB, cpu: 4, memory: 16GiB, timeout: 24h}
```

## Passes

```yaml
data: {max_games: 2000}
model: {d_model: 512, n_layers: 6}
training: {epochs: 2, batch_size: 4096, precision: bf16}
compute: {backend: modal, gpu: A100-40GB, cpu: 4, memory: 16GiB, timeout: 24h}
```

## What to do

Take a smaller GPU or a larger batch, and look whether the model is the one that you mean: `runctl estimate` prints its
parameters. On your own machine it is a note. It is an error where the run's name claims a model ten times larger, and
where a large GPU (40 GB and more) is not used at all.

## Policy

Less than the share `memory_empty` of the GPU's memory is nearly empty, less than `memory_unused` beside CUDA's own is
not used. Only long runs are judged: longer than
`long_run`, or of more than `long_run_steps` optimizer steps where no measured time is known.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl import hardware
from runctl.estimate.memory import CUDA_CONTEXT
from runctl.facts import Facts, Finding, Severity
from runctl.hardware import Gpu
from runctl.light import pattern
from runctl.prices import Rates
from runctl.units import format_bytes, format_count

SEVERITY: Severity = "warning"
POLICY = ("memory_empty", "memory_unused", "long_run", "long_run_steps")
ALIKE = 0.75  # of arithmetic and bandwidth
LARGE = 38 << 30  # GPUs that are rented for their memory
_CLAIM = pattern(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([mb])(?![a-z0-9])(?![-_ ]?(?:tok|sample|frame|image|step|video|row))")


def check(facts: Facts) -> Iterable[Finding]:
    if not facts.need("gpu.used"):
        return
    gpu, memory = facts.need("gpu"), facts.need("estimate.memory")
    share = memory.high / gpu.usable_bytes
    if share >= facts.policy["memory_empty"] or not facts.need("run.length").long:
        return
    count = facts.get("gpu.count", 1)
    room = f"{format_bytes(gpu.usable_bytes)} on {f'each of {count} ' if count > 1 else ''}{gpu.name}"
    message = f"the run takes at most {format_bytes(memory.high)} ({share:.1%}) of the {room}"
    paid = facts.get("compute.backend") != "local"
    severity: Severity = "warning" if paid else "note"
    counted = facts.get("model.parameters")
    own = max(0, memory.likely - CUDA_CONTEXT[1])
    if paid and gpu.usable_bytes >= LARGE and own < facts.policy["memory_unused"] * gpu.usable_bytes:
        severity = "error"
        message = f"the GPU is not used: of the {room} the run likely takes {format_bytes(own)} beside CUDA's own"
        message += f", for {format_count(counted)} parameters" if counted else ""
    name = " ".join(str(facts.get(key, "")) for key in ("name", "run.name", "config.stem"))
    if counted and (claimed := claim(name)) and claimed >= 10 * counted:
        severity = "error"
        message += f", and the name says {format_count(claimed)} parameters where it has {format_count(counted)}"
    fix = f"make {facts.key('training.batch_size')} larger, or take a smaller GPU"
    if counted and severity == "error":
        fix = f"look whether this is the model that is meant; else {fix}"
    if smaller := cheaper(gpu, memory.high, facts.get("compute.rates"), facts.policy["memory_spare"]):
        fix += f": set compute.gpu: {smaller}"
    at = facts.place("compute.gpu", "training.batch_size", "run.steps")
    yield Finding(message, at=at, fix=fix, severity=severity)


def claim(name: str) -> float | None:
    """How many parameters a name claims: `nsa-125m` → 125e6; None if it claims none."""
    match = _CLAIM.search(name.lower())
    return float(match[1]) * (1e6 if match[2] == "m" else 1e9) if match else None


def cheaper(gpu: Gpu, need: float, rates: Rates | None, spare: float) -> str | None:
    """The cheapest GPU there that costs less, is about as fast and holds it with room to spare; None if none is."""
    price = rates.gpu(gpu) if rates else None
    if rates is None or price is None or not price.usd_per_hour:
        return None
    found = [
        (there.usd_per_hour, other.name)
        for other in hardware.catalogue().gpus.values()
        if (there := rates.gpu(other)) is not None
        and there.usd_per_hour < price.usd_per_hour
        and need <= (1 - spare) * other.usable_bytes
        and other.peak.get("bf16", 0) >= ALIKE * gpu.peak.get("bf16", 0)
        and other.bandwidth >= ALIKE * gpu.bandwidth
    ]
    usd, name = min(found, default=(0.0, ""))
    return f"{name} (about as fast, ${usd:.2f} an hour, not ${price.usd_per_hour:.2f})" if name else None
