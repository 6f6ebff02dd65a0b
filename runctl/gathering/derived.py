"""Facts that follow from other facts, for every dialect alike: the GPU, the estimates, and whether a run is long."""

from __future__ import annotations

import os

from runctl import hardware, machine, prices
from runctl.errors import RunctlError, UsageError
from runctl.estimate import cost, memory, time_, timing, traced
from runctl.facts import Facts, NotChecked
from runctl.light import dataclass
from runctl.project import Project
from runctl.units import counted, format_duration


@dataclass(frozen=True)
class Length:
    """Whether a run is long, and by what measure."""

    long: bool
    why: str


def derive(facts: Facts, project: Project) -> None:
    """Put `gpu*`, `machine.*`, `compute.price`, `estimate.*` and `run.*`, each with its basis or with the reason why
    it is unknown."""
    _backend(facts)
    _machine(facts, project)
    _gpu(facts)
    facts.derive("estimate.memory", "a trace of the step", lambda: _memory(facts))
    facts.derive("estimate.time", "the best pace that is known", lambda: timing.seconds(facts, project))
    facts.derive("compute.rates", "prices", lambda: _rates(facts.need("compute.backend"), project))
    facts.derive("compute.price", "prices", lambda: cost.hourly(facts, facts.need("compute.rates")))
    facts.derive("estimate.cost", "time × price", lambda: _cost(facts, project))
    facts.derive("estimate.worst_cost", "limits × price", lambda: _worst(facts))
    facts.derive("estimate.at_risk", "checkpoint.every", lambda: cost.at_risk(facts, facts.get("compute.price")))
    facts.derive("run.length", "the policy's long_run", lambda: _length(facts))


def _backend(facts: Facts) -> None:
    """`backend.problem`: why nothing can be launched there, with a hint."""
    from runctl import backends  # its names only; imported here because backends stand above this room

    backend = facts.get("compute.backend")
    if backend is None:
        return
    try:
        backends.check(backend)
    except RunctlError as error:
        facts.put("backend.problem", (error.message, error.hint), "derived", "compute.backend")


def _machine(facts: Facts, project: Project) -> None:
    """`machine.*`: cores, memory and free disk of this machine, where the run is to be here; `host.memory` and
    `host.disk`: those that the run has, here or where the config asks for them."""
    names = ("machine.cores", "machine.memory", "machine.disk")
    backend = facts.get("compute.backend")
    if backend is None:
        for name in ("memory", "disk"):
            if (asked := facts.get(f"compute.{name}")) is not None:
                facts.put(f"host.{name}", asked, "derived", f"compute.{name}")
            elif facts.foreign:
                facts.miss(f"host.{name}", facts.why(f"compute.{name}"))
        return
    if backend != "local":
        for name in names:
            facts.miss(name, "the run is not to be on this machine")
        for name in ("memory", "disk"):
            asked = facts.get(f"compute.{name}")
            if asked is None:
                facts.miss(f"host.{name}", f"compute.{name} does not say what the run has")
            else:
                facts.put(f"host.{name}", asked, "derived", f"compute.{name}")
        return
    facts.put("machine.cores", len(os.sched_getaffinity(0)), "measurement", "this machine")
    for name, size in (("memory", machine.memory_bytes()), ("disk", machine.free_bytes(project.root))):
        if size is None:
            for key in (f"machine.{name}", f"host.{name}"):
                facts.miss(key, f"this machine does not say how much {name} it has")
        else:
            for key in (f"machine.{name}", f"host.{name}"):
                facts.put(key, size, "measurement", "this machine")


def _gpu(facts: Facts) -> None:
    """`gpu.used`: whether the run trains on a GPU; `gpu`: which, as the catalogue knows it; `gpu.count`;
    `gpu.choices`: where several are named in order of preference, all of them. `gpu` is the one with the least memory
    then, of equals the first."""
    device, asked = facts.get("training.device"), facts.get("compute.gpu")
    facts.derive("gpu.used", "compute.gpu, training.device", lambda: _used(facts))
    if not facts.get("gpu.used", True):
        for name in ("gpu", "gpu.count"):
            facts.miss(name, "the run uses no GPU")
        return
    if asked is None:
        why = (
            "training.device is cuda, but compute.gpu does not say which"
            if device == "cuda" and not facts.foreign
            else facts.why("compute.gpu")
        )
        for name in ("gpu", "gpu.count"):
            facts.miss(name, why)
        return
    try:
        choices = hardware.choices(asked)
        gpu, count = hardware.judged(asked)
    except UsageError as error:
        facts.put("gpu.problem", (error.message, error.hint), "catalogue")
        for name in ("gpu", "gpu.count"):
            facts.miss(name, error.message)
        return
    facts.put("gpu", gpu, "catalogue", hardware.catalogue().recorded)
    facts.put("gpu.count", count, "derived", "compute.gpu")
    facts.put("gpu.choices", choices, "derived", "compute.gpu")


def _used(facts: Facts) -> bool:
    asked = facts.need("compute.gpu")
    device = facts.get("training.device", "auto")
    return bool(device == "cuda" or (asked is not None and device != "cpu"))


def _memory(facts: Facts) -> memory.Memory:
    gpu = facts.need("gpu") if facts.need("gpu.used") else None
    if facts.get("task") == "command":  # or another trainer's
        return _declared(facts, gpu)
    training = {key: facts.need(f"training.{key}") for key in ("batch_size", "precision", "scheduled_sampling")}
    windows, held_out = facts.get("data.train_windows"), facts.get("data.validation_windows", 0)
    processes = facts.get("training.processes") or facts.get("gpu.count", 1)
    batch = min(training["batch_size"], max(windows, held_out)) if windows else training["batch_size"]
    shape = traced.Shape(
        encoding=facts.need("encoding.whole"),
        model=facts.need("model.whole"),
        batch=-(-batch // processes),  # each process reads its piece
        precision=training["precision"],
        accumulation=facts.get("training.accumulation", 1),
        corrupt=facts.need("training.ss_corrupt_frames") if training["scheduled_sampling"] else 0,
        windows=windows,
        recompute=facts.get("training.activation_checkpointing", False),
        every=facts.get("training.targets") == "all",
        kernel=facts.get("training.kernel", "auto"),
    )
    try:
        return memory.peak(memory.Request(shape, gpu, facts.get("data.frames", 0), processes))
    except ValueError as error:
        raise NotChecked(f"the model cannot be estimated: {error}") from None


_PARTLY = {
    "training.adapter": "only a part of the weights is trained",
    "training.frozen": "a part of the weights is not trained",
    "training.sharded": "the GPUs share out weights or their state, or the host holds some of it",
}


def _declared(facts: Facts, gpu: hardware.Gpu | None) -> memory.Memory:
    """Of a program of one's own, as far as its config declares the model."""
    from runctl.estimate import families, family_peak  # most configs declare none

    frozen = _frozen_bytes(facts)
    for name, words in _PARTLY.items():
        if facts.get(name) and frozen is None:
            raise NotChecked(f"{facts.key(name)}: {words}, which is not modelled")
    if "training.sharded" in facts.values and facts.get("gpu.count", 1) > 1:
        facts.need("training.sharded")  # unknown: the dialect says why
    declared, source = facts.need("model.declared"), facts.source("model.parameters")
    basis, encoder = source.detail.partition(" (")[0] if source and facts.foreign else "", facts.get("model.encoder")
    try:
        return family_peak.peak(family_peak.Request(declared, gpu, facts.get("gpu.count", 1), basis, encoder, frozen))
    except families.Incomplete as missing:
        why = str(missing)
        if facts.foreign:
            from runctl.adapters import described

            why = described.worded(why, facts)
        name = "training.adapter"
        raise NotChecked(f"{facts.key(name)}: {why}" if frozen else why) from None


def _frozen_bytes(facts: Facts) -> float | None:
    """The bytes of a weight that an adapter leaves alone: half precision unless the config says that it is loaded in
    fewer bits. None where none is trained, or devices share the weights out, or nothing says what model it is."""
    shared = facts.get("training.sharded") or facts.get("gpu.count", 1) > 1
    if not facts.get("training.adapter") or shared or facts.get("model.declared") is None:
        return None
    return float(facts.get("training.weight_bytes") or (0.5 if facts.get("training.adapter") == "qlora" else 2))


def _rates(backend: str, project: Project) -> prices.Rates | None:
    def read() -> prices.Rates | None:
        return prices.of(backend, project.prices, prices.live(project.root, backend))

    found: prices.Rates | None = project.once(("rates", backend), read)
    return found


def _cost(facts: Facts, project: Project) -> time_.Range:
    price = facts.need("compute.price")
    if price.usd == 0:
        time = facts.get("estimate.time")
        there = cost.elsewhere(facts, time, _rates("modal", project)) if price.basis == cost.YOUR_OWN else ""
        return time_.Range(0.0, 0.0, 0.0, price.basis + there, True)
    return cost.attempt(facts.need("estimate.time"), price)


def _worst(facts: Facts) -> cost.Worst:
    """At the dearest of the GPUs that the config would take."""
    facts.need("compute.price")
    return cost.worst(facts, cost.dearest(facts, facts.need("compute.rates")))


def _length(facts: Facts) -> Length:
    """Long by time; a time that was not measured also makes a run of many steps long."""
    limit, limit_steps = facts.policy["long_run"], facts.policy["long_run_steps"]
    time, steps, ends = facts.get("estimate.time"), facts.get("run.steps"), facts.get("training.time_limit")
    if ends and (ends <= limit or (time is None and steps is None)):
        return Length(ends > limit, f"at most {format_duration(ends)}")
    if time is not None and time.likely > limit:
        return Length(True, f"about {format_duration(time.likely)}")
    if steps is not None and steps > limit_steps and (time is None or not time.measured):
        return Length(True, counted(steps, "step"))
    if time is None and steps is None:
        raise NotChecked(facts.why("run.steps"))
    return Length(False, counted(steps, "step") if time is None else f"about {format_duration(time.likely)}")
