"""ME104: more host memory than there is

## Why

Five ranks that each loaded the whole dataset needed 400 GB, and the run was given up; a pre-encode needed 35 GB on a
container of 16. The kernel ends such a process without a word, and a provider starts the container again.

## Fails

```yaml
model: {d_model: 1024, n_layers: 24, context_len: 1000, chunk_size: 100}
training: {steps: 10, batch_size: 10000000}
```

## Passes

```yaml
model: {d_model: 64, n_layers: 2}
training: {steps: 10, batch_size: 64}
```

## What to do

On a CPU everything lies in the host's memory: make `training.batch_size` smaller and `training.accumulation` larger.
For a container, raise `compute.memory`. Counted are the estimated peak of a CPU run, or of a GPU run the copy that a
checkpoint is written from; and the process itself, about 0.3 GiB. A dataset is mapped, not loaded: it takes no room
that others could not have.

Of another trainer it is what its adapter says: `data.loaded_bytes`, which every process loads, and
`data.sample_bytes` of one example, of which every loader process keeps whole batches ready: loaders × prefetch ×
batch, in each process.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.units import counted, format_bytes

SEVERITY: Severity = "error"
PROCESS = 300 << 20  # Python and torch, measured
PREFETCH = 2  # batches that a worker of PyTorch's loader keeps ready unless it is told otherwise


def check(facts: Facts) -> Iterable[Finding]:
    if facts.foreign:
        yield from _loaders(facts)
        return
    here = facts.need("host.memory")
    local = facts.get("compute.backend") == "local"
    room = f"{format_bytes(here)} of memory that {'this machine has' if local else 'compute.memory asks for'}"
    if facts.need("gpu.used"):
        if facts.get("model.declared") is not None:
            raise NotChecked("what a program of your own holds in the host's memory is not known")
        need = 12 * facts.need("model.parameters") + PROCESS
        if need > here:
            message = f"a checkpoint's copy and the process take {format_bytes(need)} of the {room}"
            more = "train on a machine with more memory" if local else f"set compute.memory above {format_bytes(need)}"
            fix = f"{more}, or make the model smaller"
            yield Finding(message, at=facts.place("compute.memory", "model.d_model"), fix=fix)
        return
    memory = facts.need("estimate.memory")
    likely, high = memory.likely + PROCESS, memory.high + PROCESS
    if high <= here:
        return
    over = f"more than the {room}"
    at = facts.place("training.batch_size", "compute.memory", "model.d_model", "model")
    message = f"the run takes about {format_bytes(likely)} on the CPU, {over}"
    severity: Severity = "error" if likely > here else "warning"
    if likely <= here:
        message = f"the run may take {format_bytes(high)} on the CPU, {over}"
    yield Finding(message, at=at, fix=_fix(local, high), severity=severity)


def _loaders(facts: Facts) -> Iterable[Finding]:
    """What the data take in every process of another trainer, as far as its adapter says."""
    loaded, sample = facts.get("data.loaded_bytes"), facts.get("data.sample_bytes")
    if loaded is None and sample is None:
        raise NotChecked("what the data take in the host's memory is not said (--set data.loaded_bytes=8GiB)")
    here, ranks = facts.need("host.memory"), facts.get("compute.world_size") or facts.get("gpu.count", 1)
    workers, each = facts.get("data.workers", 0), facts.get("data.prefetch") or PREFETCH
    batches = max(1, workers * each) * facts.need("training.batch_size") if sample else 0
    one = (loaded or 0) + (sample or 0) * batches + (workers + 1) * PROCESS
    if ranks * one <= here:
        return
    parts = [f"{format_bytes(loaded)} of data"] if loaded else []
    if sample:
        parts.append(
            f"{workers} loaders × {each} batches × {facts.get('training.batch_size')} of {format_bytes(sample)}"
        )
    message = f"{' and '.join(parts)} in each of {counted(ranks, 'process').replace('processs', 'processes')}"
    message += f" take {format_bytes(ranks * one)} of host memory, more than the {format_bytes(here)} there is"
    at = facts.place("data.workers", "data.prefetch", "data.loaded_bytes", "compute.memory", "training.batch_size")
    fix = f"lower {facts.key('data.workers')} or {facts.key('data.prefetch')}"
    yield Finding(message, at=at, fix="map the data instead of loading it" if loaded else fix)


def _fix(local: bool, need: float) -> str:
    smaller = "make training.batch_size smaller and training.accumulation larger, or the model smaller"
    return smaller if local else f"set compute.memory above {format_bytes(need)}, or {smaller}"
