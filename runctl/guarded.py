"""The guards that a launch of a config would have: its own and the defaults, each in words, as a fact."""

from __future__ import annotations

from typing import Any

from runctl import config as configs
from runctl.estimate import calibration, timing
from runctl.estimate.calibration import Measurement
from runctl.facts import Facts
from runctl.gathering import carded
from runctl.guards import listing
from runctl.guards.defaults import Known


def derive(facts: Facts) -> None:
    """Put `guards.all`, or why there is none; a config with faults has none, a foreign one is not run by runctl."""
    config = facts.get("config.whole")
    if config is None:
        facts.miss("guards.all", facts.otherwise or "its own trainer runs it")
        return

    def made() -> list[dict[str, Any]]:
        read = carded.of(facts)
        kill = [one.model_dump() for one in read.card.contract.kill] if read is not None and not read.problems else []
        return listing.made(configs.to_effective(config), known(facts), kill)

    facts.later("guards.all", made, "derived", "guards, budget")


def known(facts: Facts) -> Known:
    """What the guards take from the estimates and from what was measured here."""
    time, steps = facts.get("estimate.time"), facts.get("run.steps")
    examples, price, memory = facts.get("run.step_examples"), facts.get("compute.price"), facts.get("estimate.memory")
    span = time.parts.get("steps") if time is not None else None
    rate = steps * examples / span[1] if span and steps and examples and span[1] > 0 else None
    peak, peak_words = _peak(facts)
    probe = _probe(facts)
    names = {
        "usd_per_hour": "compute.price",
        "memory_bytes": "estimate.memory",
        "steps_per_epoch": "run.steps_per_epoch",
        "flops_per_example": "model.flops",
    }
    why = {key: facts.why(name) for key, name in names.items()}
    return Known(
        usd_per_hour=None if price is None else price.usd,
        examples_per_second=rate,
        probe_examples_per_second=None if probe is None else probe.examples_per_second,
        measured=facts.get("estimate.pace") in ("measured", "scaled"),
        memory_bytes=None if memory is None else float(memory.likely),
        gpu=facts.get("gpu") is not None,
        steps=steps,
        steps_per_epoch=facts.get("run.steps_per_epoch"),
        flops_per_example=facts.get("model.flops"),
        peak_flops=peak,
        peak_words=peak_words,
        why={
            **why,
            "examples_per_second": facts.why("estimate.time"),
            "peak_flops": peak_words,
            "probe": "none was made of this model on this device: runctl probe CONFIG",
        },
    )


def _peak(facts: Facts) -> tuple[float | None, str]:
    """The arithmetic per second that a utilisation is held against: the GPU's peak in the catalogue; without a GPU the
    best that was measured on this device. None, and why."""
    if (gpu := facts.get("gpu")) is not None:
        precision = facts.get("model.precision") or facts.get("training.precision") or "fp32"
        dtype = "tf32" if precision == "fp32" and facts.get("training.tf32") else precision
        if dtype not in gpu.peak:
            return None, f"the peak of the {gpu.name} in {dtype} is not known"
        count = facts.get("gpu.count", 1)
        peak, named = count * gpu.peak[dtype], f"{count} × {gpu.name}" if count > 1 else gpu.name
        return peak, f"{peak / 1e12:,.4g} TFLOP/s, the peak of {named} in {dtype}"
    best = max(_here(facts), key=lambda one: one.flops_per_second, default=None)
    if best is None:
        return None, "nothing was measured on this device: runctl probe CONFIG"
    rate = best.flops_per_second
    return rate, f"{rate / 1e9:,.4g} GFLOP/s, the best measured here ({best.said()})"


def _probe(facts: Facts) -> Measurement | None:
    """The newest probe of this shape on this device."""
    shape = facts.get("calibration.shape")
    wanted = None if shape is None else calibration.digest(shape)
    return next((one for one in _here(facts) if one.kind == "probe" and one.digest == wanted), None)


def _here(facts: Facts) -> list[Measurement]:
    """What was measured on the run's device, newest first; [] where there is no project to look into."""
    project = facts.project
    device = None if project is None or facts.get("calibration.shape") is None else timing.measured_on(facts)
    if project is None or device is None:
        return []
    known, _ = project.once("calibrations", lambda: calibration.load(project.root))
    return [one for one in known if one.device == device]
