"""Facts that follow from other facts, for every dialect alike: the GPU, the estimates, and whether a run is long."""

from __future__ import annotations

from dataclasses import dataclass

from runctl import hardware
from runctl.config.model import Encoding, Model
from runctl.errors import UsageError
from runctl.estimate import memory, time_, traced
from runctl.facts import Facts, NotChecked
from runctl.units import format_duration, format_usd


@dataclass(frozen=True)
class Length:
    """Whether a run is long, and by what measure."""

    long: bool
    why: str


def derive(facts: Facts) -> None:
    """Put `gpu*`, `estimate.*` and `run.*`, each with its basis or with the reason why it is unknown."""
    _gpu(facts)
    facts.derive("estimate.memory", "a trace of the step", lambda: _memory(facts))
    facts.derive("estimate.time", "a stated model", lambda: _time(facts))
    facts.derive("estimate.cost", "time × price", lambda: _cost(facts))
    facts.derive("run.length", "the policy's long_run", lambda: _length(facts))


def _gpu(facts: Facts) -> None:
    """`gpu.used`: whether the run trains on a GPU; `gpu`: which, as the catalogue knows it; `gpu.count`."""
    device, asked = facts.get("training.device"), facts.get("compute.gpu")
    facts.derive("gpu.used", "compute.gpu, training.device", lambda: _used(facts))
    if not facts.get("gpu.used", True):
        for name in ("gpu", "gpu.count"):
            facts.miss(name, "the run uses no GPU")
        return
    if asked is None:
        why = (
            "training.device is cuda, but compute.gpu does not say which"
            if device == "cuda"
            else facts.why("compute.gpu")
        )
        for name in ("gpu", "gpu.count"):
            facts.miss(name, why)
        return
    try:
        gpu, count = hardware.parse(asked)
    except UsageError as error:
        facts.put("gpu.problem", (error.message, error.hint), "catalogue")
        for name in ("gpu", "gpu.count"):
            facts.miss(name, error.message)
        return
    facts.put("gpu", gpu, "catalogue", hardware.catalogue().recorded)
    facts.put("gpu.count", count, "derived", "compute.gpu")


def _used(facts: Facts) -> bool:
    asked = facts.need("compute.gpu")
    device = facts.get("training.device", "auto")
    return bool(device == "cuda" or (asked is not None and device != "cpu"))


def _memory(facts: Facts) -> memory.Memory:
    gpu = facts.need("gpu") if facts.need("gpu.used") else None
    training = {key: facts.need(f"training.{key}") for key in ("batch_size", "precision", "scheduled_sampling")}
    shape = traced.Shape(
        encoding=Encoding(**{key: facts.need(f"encoding.{key}") for key in Encoding.model_fields}),
        model=Model(**{key: facts.need(f"model.{key}") for key in Model.model_fields}),
        batch=training["batch_size"],
        precision=training["precision"],
        accumulation=facts.get("training.accumulation", 1),
        corrupt=facts.need("training.ss_corrupt_frames") if training["scheduled_sampling"] else 0,
        windows=facts.get("data.train_windows"),
    )
    try:
        return memory.peak(memory.Request(shape, gpu, facts.get("data.frames", 0)))
    except ValueError as error:
        raise NotChecked(f"the model cannot be estimated: {error}") from None


def _time(facts: Facts) -> time_.Range:
    if not facts.need("gpu.used"):
        where = "this machine's CPU" if facts.get("compute.backend") == "local" else "the CPU there"
        raise NotChecked(f"no measurement of this model on {where} yet")
    steps, precision = facts.need("run.steps"), facts.need("training.precision")
    gpu, dtype = facts.need("gpu"), "tf32" if precision == "fp32" and facts.get("training.tf32") else precision
    if dtype not in gpu.peak:
        raise NotChecked(f"the {gpu.name} has no {dtype}")
    return time_.seconds(
        examples=steps * facts.need("run.step_examples"),
        passes=steps * facts.get("training.accumulation", 1),
        flops_per_example=facts.need("model.flops"),
        peak=gpu.peak[dtype],
        top=max(gpu.peak.get("bf16", 0.0), gpu.peak.get("fp16", 0.0)),
        layers=facts.need("model.n_layers"),
        context_len=facts.need("model.context_len"),
    )


def _cost(facts: Facts) -> time_.Range:
    backend = facts.need("compute.backend")
    if backend == "local":
        return time_.Range(0.0, 0.0, 0.0, "your own machine" + _elsewhere(facts), True)
    return _priced(facts, backend)


def _elsewhere(facts: Facts) -> str:
    """What the same run would cost where its GPU has a price."""
    try:
        there = _priced(facts, "modal") if facts.get("gpu") else None
    except NotChecked:
        return ""
    return f"; at modal {format_usd(there.low)} to {format_usd(there.high)}" if there else ""


def _priced(facts: Facts, backend: str) -> time_.Range:
    """USD of one attempt at a provider's list prices for the GPU and the CPU cores that are asked for."""
    provider = hardware.catalogue().providers.get(backend)
    if provider is None:
        raise NotChecked(f"no prices are known for the backend {backend}")
    time, gpu = facts.need("estimate.time"), facts.get("gpu")
    price = hardware.price(gpu, backend) if gpu else None
    if gpu and price is None:
        raise NotChecked(f"no price is known for a {gpu.name} at {backend}")
    cores = facts.get("compute.cpu") or 0
    hourly = (price.usd_per_hour * facts.need("gpu.count") if price else 0.0) + cores * (
        provider.cpu_core_hour_usd or 0
    )
    source = price.source if price else provider.source
    basis = f"${hourly:.2f}/h for GPU and CPU ({source})"
    basis += f"; {provider.missing}" if provider.missing else ""
    return time_.cost(time, hourly, basis, provider.allowance)


def _length(facts: Facts) -> Length:
    """Long by time; a time that was not measured also makes a run of many steps long."""
    limit, limit_steps = facts.policy["long_run"], facts.policy["long_run_steps"]
    time, steps = facts.get("estimate.time"), facts.get("run.steps")
    if time is not None and time.likely > limit:
        return Length(True, f"about {format_duration(time.likely)}")
    if steps is not None and steps > limit_steps and (time is None or not time.measured):
        return Length(True, f"{steps:,} steps")
    if time is None and steps is None:
        raise NotChecked(f"how long the run is: {facts.why('run.steps')}")
    return Length(False, f"{steps:,} steps" if time is None else f"about {format_duration(time.likely)}")
