"""GP101: a GPU, or a number of them, that is not to be had

## Why

A provider's client accepts any GPU name and its server refuses it late; every check of memory, precision, time and
cost needs to know the GPU.

## Fails

```yaml
training: {steps: 100}
compute: {backend: modal, gpu: A100-80}
```

```yaml
training: {steps: 100}
compute: {backend: modal, gpu: RTX-4090, cpu: 4, timeout: 1h}
```

```yaml
task: command
command: {argv: [torchrun, train.py]}
compute: {backend: modal, gpu: "A10:8", cpu: 4, timeout: 1h}
```

```yaml
training: {steps: 100}
compute: {backend: local, gpu: ["H100!", A100-80GB]}
```

## Passes

```yaml
training: {steps: 100}
compute: {backend: modal, gpu: A100-80GB}
```

```yaml
training: {steps: 100}
compute: {backend: modal, gpu: ["H100!", A100-80GB]}
```

## What to do

Take a name of `runctl gpus`, with `:N` for several, as many as one machine of the provider has
(`data/hardware.yaml`). A name that is not in the catalogue is an error on your own machine too: nothing about memory,
precision and time could be checked.

At Modal several can be named in order of preference; it gives the first that is free. Everything is judged by the one
with the least memory, of equals by the first, and the worst case by the dearest.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl import hardware
from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "error"


def check(facts: Facts) -> Iterable[Finding]:
    facts.need("compute.gpu")
    if (problem := facts.get("gpu.problem")) is not None:
        message, hint = problem
        yield Finding(f"{facts.key('compute.gpu')}: {message}", at="compute.gpu", fix=hint)
        return
    backend, choices = facts.get("compute.backend"), facts.get("gpu.choices", ())
    provider = hardware.catalogue().providers.get(backend)
    if len(choices) > 1 and backend == "local":
        message = f"{facts.key('compute.gpu')} names {len(choices)} requests in order of preference, and your own "
        message += "machine has what it has"
        yield Finding(message, at="compute.gpu", fix="name the one that is there")
        return
    if provider is None or provider.most_gpus is None:
        return
    for gpu, count in choices:
        yield from _one(facts, gpu, count, backend, provider.most_gpus)


def _one(facts: Facts, gpu: hardware.Gpu, count: int, backend: str, most_gpus: hardware.MostGpus) -> Iterable[Finding]:
    """One request: whether the provider has that GPU, and so many of it on a machine."""
    if backend not in gpu.prices:
        near = _near(gpu, backend)
        message = f"{facts.key('compute.gpu')} is {gpu.name}, which {backend} does not have"
        yield Finding(message, at="compute.gpu", fix=f"the nearest there by memory: {near}")
        return
    most = most_gpus.of.get(gpu.name, most_gpus.count)
    if count > most:
        message = f"{facts.key('compute.gpu')} asks for {count} × {gpu.name}, but a machine of {backend} has at most"
        message += f" {most} ({most_gpus.source})"
        yield Finding(message, at="compute.gpu", fix=f"ask for {gpu.name}:{most}, or for a larger GPU")


def _near(gpu: hardware.Gpu, backend: str) -> str:
    """The two GPUs of the backend whose memory is nearest."""
    there = [other for other in hardware.catalogue().gpus.values() if backend in other.prices]
    there.sort(key=lambda other: abs(other.nominal_bytes - gpu.nominal_bytes))
    return ", ".join(other.name for other in there[:2])
