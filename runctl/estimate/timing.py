"""How long a run takes, from its facts: what it does (`Work`) at the best pace that is known."""

from __future__ import annotations

import os

from runctl.estimate import calibration, time_
from runctl.estimate.time_ import Pace, Range, Work
from runctl.facts import Facts, NotChecked
from runctl.light import replace
from runctl.project import Project


def seconds(facts: Facts, project: Project) -> Range:
    """Seconds of the run. Raises NotChecked with what is missing."""
    todo = work(facts)
    whole = time_.total(todo, pace(facts, todo, project))
    ends = facts.get("training.time_limit")
    if not ends or whole.high <= ends:
        return whole
    facts.put("estimate.whole_time", whole, "derived", "as if training.time_limit did not end it")
    basis = f"{whole.basis}; ended by {facts.key('training.time_limit')}"
    low, likely, high = (min(value, ends) for value in (whole.low, whole.likely, whole.high))
    return replace(whole, low=low, likely=likely, high=high, basis=basis)


def work(facts: Facts) -> Work:
    """What the run does. Raises NotChecked where steps, batch or model are unknown."""
    steps, examples = facts.need("run.steps"), facts.need("run.step_examples")
    held_out = facts.get("data.validation_windows")
    limit = facts.get("training.validation_windows")
    validated = min(held_out, limit) if held_out is not None and limit is not None else held_out or limit or 0
    per_epoch = facts.get("run.steps_per_epoch", steps)
    windows = facts.get("data.train_windows")
    if windows is not None and per_epoch:
        mean = windows / per_epoch if steps >= per_epoch else windows
        examples = min(examples, max(1.0, mean))  # an epoch's last step takes what is left
    paid = facts.get("compute.backend") != "local"
    if facts.foreign:  # its step counts the examples of all devices, which work at the same time
        examples = max(1.0, examples / facts.get("gpu.count", 1))
    return Work(
        steps=steps,
        examples=examples,
        flops=examples * (facts.need("model.flops") + facts.get("model.recompute_flops", 0)),
        layers=facts.need("model.n_layers"),
        passes=facts.get("training.accumulation", 1),
        context_len=facts.need("model.context_len"),
        validation_windows=validated,
        validate_every=facts.get("training.validate_every"),
        checkpoint_every=facts.get("checkpoint.every"),
        steps_per_epoch=per_epoch,
        restarts=1 if paid and facts.get("compute.retries", 0) else 0,
    )


def pace(facts: Facts, todo: Work, project: Project) -> Pace:
    """Measured with this shape on this device; else scaled from another shape there; else the stated model. Of several
    processes that share each step the first two were measured with as many; else the pace of one with its part."""
    device = measured_on(facts)
    shape = facts.get("calibration.shape")
    count = processes(facts)
    if shape is not None:
        known, notes = project.once("calibrations", lambda: calibration.load(project.root))
        facts.put("calibration.notes", notes, "measurement")
        facts.put("calibration.before", calibration.of_shape(known, shape), "measurement")
    if device is not None and shape is not None:
        if found := calibration.same(known, shape, device, todo.examples):
            facts.put("estimate.pace", "measured", "measurement")
            return time_.measured(found[0], facts.get("data.startup", ""))
        if near := calibration.nearest(known, shape, device, todo.flops):
            facts.put("estimate.pace", "scaled", "measurement")
            return time_.scaled(near, todo, facts.get("data.startup", ""))
    if count > 1:
        return _of_several(facts, todo, count, device, known if shape is not None else [])
    facts.put("estimate.pace", "assumed", "derived")
    return _stated(facts, todo, 1)


def _of_several(facts: Facts, todo: Work, count: int, device: str | None, known: list[calibration.Measurement]) -> Pace:
    """From the pace of one process with its part of each step: scaled from what one alone was measured to do here,
    else the stated model."""
    part = replace(todo, examples=max(1, round(todo.examples / count)), flops=todo.flops / count)
    shape = {key: value for key, value in (facts.get("calibration.shape") or {}).items() if key != "processes"}
    alone = calibration.nearest(known, shape, device, part.flops) if device is not None and shape else None
    facts.put("estimate.pace", "scaled" if alone else "assumed", "measurement" if alone else "derived")
    one = time_.scaled(alone, part, facts.get("data.startup", "")) if alone else _stated(facts, part, count)
    return time_.shared(one, count, "GPUs" if facts.get("gpu.used") else "processes")


def _stated(facts: Facts, todo: Work, count: int) -> Pace:
    """The stated model of one process of `count`; on a CPU they have the cores together."""
    if facts.need("gpu.used"):
        return _gpu(facts, todo)
    threads = _threads(facts)
    if count > 1:
        cores = len(os.sched_getaffinity(0)) if facts.get("compute.backend") == "local" else facts.get("compute.cpu")
        each = facts.get("training.threads") or threads
        threads = min(float(each), max(1.0, cores / count)) if cores else float(each)
    return time_.on_cpu(todo, threads=threads, bf16=facts.get("training.precision") == "bf16")


def measured_on(facts: Facts) -> str | None:
    """The device as calibrations name it, or None where it is not known."""
    if facts.get("gpu.used"):
        gpu = facts.get("gpu")
        return gpu.name if gpu else None
    if facts.get("compute.backend") != "local":
        return None
    threads, count = facts.get("training.threads"), processes(facts)
    if threads is None and count > 1:  # they share the cores out
        threads = max(1, len(os.sched_getaffinity(0)) // count)
    return calibration.cpu_device(threads)


def processes(facts: Facts) -> int:
    """How many processes share a step: of runctl's own trainer as many as the config says, of a program of one's own
    one for each GPU. Of another trainer the work is that of one device already."""
    if facts.foreign:
        return 1
    return int(facts.get("run.processes") or (facts.get("gpu.count", 1) if facts.get("gpu.used", False) else 1))


def _threads(facts: Facts) -> float:
    if threads := facts.get("training.threads"):
        return float(threads)
    if facts.get("compute.backend") == "local":
        return float(len(os.sched_getaffinity(0)))
    cores = facts.get("compute.cpu")
    if cores is None:
        raise NotChecked("compute.cpu does not say on how many CPU cores")
    return float(cores)


def _gpu(facts: Facts, todo: Work) -> Pace:
    precision, gpu = facts.get("model.precision") or facts.need("training.precision"), facts.need("gpu")
    dtype = "tf32" if precision == "fp32" and facts.get("training.tf32") else precision
    if dtype not in gpu.peak:
        raise NotChecked(f"the {gpu.name} has no {dtype}")
    return time_.on_gpu(todo, peak=gpu.peak[dtype], top=max(gpu.peak.get("bf16", 0.0), gpu.peak.get("fp16", 0.0)))
