"""The guards that a launch of a config would have: its own and the defaults, each in words, as a fact."""

from __future__ import annotations

from runctl import config as configs
from runctl.facts import Facts
from runctl.guards import listing
from runctl.guards.defaults import Known


def derive(facts: Facts) -> None:
    """Put `guards.all`, or why there is none; a config with faults has none, a foreign one is not run by runctl."""
    config = facts.get("config.whole")
    if config is None:
        facts.miss("guards.all", facts.otherwise or "its own trainer runs it")
        return
    facts.put("guards.all", listing.made(configs.to_effective(config), known(facts)), "derived", "guards, budget")


def known(facts: Facts) -> Known:
    """What the guards take from the estimates."""
    time, steps = facts.get("estimate.time"), facts.get("run.steps")
    examples, price, memory = facts.get("run.step_examples"), facts.get("compute.price"), facts.get("estimate.memory")
    span = time.parts.get("steps") if time is not None else None
    rate = steps * examples / span[1] if span and steps and examples and span[1] > 0 else None
    names = {
        "usd_per_hour": "compute.price",
        "memory_bytes": "estimate.memory",
        "steps_per_epoch": "run.steps_per_epoch",
    }
    why = {key: facts.why(name) for key, name in names.items()}
    return Known(
        usd_per_hour=None if price is None else price.usd,
        examples_per_second=rate,
        memory_bytes=None if memory is None else float(memory.likely),
        steps_per_epoch=facts.get("run.steps_per_epoch"),
        why={**why, "examples_per_second": facts.why("estimate.time")},
    )
