"""CK111: too little time to save when the machine is taken away

## Why

A provider takes a GPU away with half a minute's notice, and then ends the process. What is not saved by then is lost
back to the last checkpoint. Ten seconds of that half minute are for the commit of the volume and the container's own
end; a step that is under way must end first.

## Fails

```yaml
model: {d_model: 8192, n_layers: 48}
training: {steps: 100}
compute: {backend: modal, gpu: B200, cpu: 8, memory: 512GiB, timeout: 4h}
```

## Passes

```yaml
training: {steps: 100}
compute: {backend: modal, gpu: A100-80GB, cpu: 8, memory: 32GiB, timeout: 4h}
```

## What to do

Save often enough that the loss back to the last checkpoint is bearable: `checkpoint.every: 10m`. A checkpoint that is
cut off is never taken for a whole one. How long a save takes is measured by `runctl probe` and by every run; where
nothing was measured, a disk of 500 MB/s is assumed, and nothing is said of less than twice the time that there is.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl import hardware
from runctl.estimate import calibration
from runctl.facts import Facts, Finding, Severity
from runctl.rules import advice, me105
from runctl.units import format_bytes, format_duration

SEVERITY: Severity = "warning"
NATIVE = True
DISK = 500e6  # bytes per second, where no save was measured


def check(facts: Facts) -> Iterable[Finding]:
    provider = hardware.catalogue().providers.get(facts.need("compute.backend"))
    if provider is None or provider.limits is None or provider.limits.grace is None:
        return
    if facts.need("checkpoint.every") is None:
        return  # CK101's concern
    from runctl.backends.modal.plan import SAVE_SECONDS  # a room above this one, which imports nothing heavy

    there = max(1.0, min(facts.get("compute.grace") or provider.limits.grace, provider.limits.grace - SAVE_SECONDS))
    taken, basis, sure = _save(facts)
    step = advice.likely_step(facts) or 0.0
    if taken + step <= there * (1.0 if sure else 2.0):
        return
    message = f"a machine of {provider.name} that is taken away leaves {format_duration(there)} to save"
    message += f" ({format_duration(provider.limits.grace)} of notice), and a save takes about"
    message += f" {format_duration(taken)} ({basis})" + (
        f" after a step of {format_duration(step)}" if step > 1 else ""
    )
    at = facts.place("checkpoint.every", "compute.backend")
    yield Finding(message, at=at, fix=advice.cadence(facts))


def _save(facts: Facts) -> tuple[float, str, bool]:
    """Seconds of one save, from what that is known, and whether it was measured. Raises NotChecked."""
    shape, project = facts.get("calibration.shape"), facts.project
    if shape is not None and project is not None:
        known, _ = project.once("calibrations", lambda: calibration.load(project.root))
        for one in calibration.of_shape(known, shape):
            if one.checkpoint_write_seconds is not None:
                return one.checkpoint_write_seconds + (one.checkpoint_stall_seconds or 0.0), one.said(), True
    size = me105.checkpoint_bytes(facts)
    return size / DISK, f"{format_bytes(size)} at an assumed 500 MB/s", False
