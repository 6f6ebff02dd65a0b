"""What follows from a foreign config's own numbers: the batch of a step, the run's length, its model as declared."""

from __future__ import annotations

import math

from runctl import hardware
from runctl.adapters import described
from runctl.adapters.vocabulary import EITHER, Amount
from runctl.config.every import Every
from runctl.errors import UsageError
from runctl.facts import Facts


def settle(facts: Facts) -> None:
    """Put `run.step_examples` (on all devices), `training.accumulation`, `run.steps`, `run.epochs`, `model.*`."""
    facts.put("task", "command", "derived", "another trainer's config")
    for name, other in facts.get("adapter.yields", {}).items():
        _yield(name, other, facts)
    _precision(facts)
    devices = _devices(facts)
    if "training.accumulation" not in facts.values:
        facts.put("training.accumulation", 1, "default", f"of {facts.dialect}")
    _batch(facts, devices)
    _length(facts)
    for name in ("checkpoint.every", "training.validate_every", "training.log_every"):
        if isinstance(facts.get(name), Amount):
            _amount(name, facts.get(name), facts, often=True)
    for name in ("training.warmup_steps", "training.schedule_steps"):
        if isinstance(facts.get(name), Amount):
            _amount(name, facts.get(name), facts, often=False)
    _saving(facts)
    described.describe(facts)


def _yield(name: str, other: str, facts: Facts) -> None:
    """What the trainer passes over where the other fact is given is unknown, and no default either."""
    source = facts.source(name)
    if not facts.get(other) or source is None:
        return
    if source.kind == "default":
        del facts.values[name]
    else:
        facts.miss(name, f"{facts.key(other)} is given, and {facts.key(name)} is of no account then")


def _precision(facts: Facts) -> None:
    """bf16, or fp16 where the GPU has no bf16: what some trainers call auto."""
    source = facts.source("training.precision")
    if source is None or facts.get("training.precision") != EITHER:
        return
    try:
        gpu = hardware.judged(facts.get("compute.gpu"))[0] if facts.get("compute.gpu") else None
    except UsageError:
        gpu = None
    found = "fp16" if gpu is not None and "bf16" not in gpu.peak else "bf16"
    where = gpu.name if gpu else "a GPU that has it"
    facts.put("training.precision", found, source.kind, f"auto, on {where}", source.position)


def _amount(name: str, amount: Amount, facts: Facts, *, often: bool) -> None:
    """An amount as optimizer steps; how often something happens, as a share of a run of epochs, in epochs."""
    source, epochs = facts.source(name), facts.get("run.epochs")
    assert source is not None
    needs = _IN_A_STEP[amount.unit]
    each = [facts.get(need) for need in needs]
    found: Every | int
    if all(each):
        steps = amount.value * each[0] if amount.unit in ("share", "epochs") else amount.value / math.prod(each)
        found = Every(steps=max(1, math.ceil(steps))) if often else round(steps)
    elif often and amount.unit == "share" and epochs:
        found = Every(epochs=amount.value * epochs)
    else:
        missing = next(need for need, value in zip(needs, each, strict=True) if not value)
        words = "a share of the run" if amount.unit == "share" else f"in {amount.unit.replace('_', ' ')}"
        facts.miss(name, f"{facts.key(name)} is {words}, and {facts.why(missing)}")
        return
    facts.put(name, found, source.kind, source.detail, source.position)


_IN_A_STEP = {
    "share": ("run.steps",), "epochs": ("run.steps_per_epoch",), "micro_steps": ("training.accumulation",),
    "samples": ("run.step_examples",), "tokens": ("run.step_examples", "declares.seq_len"),
}  # fmt: skip


def _saving(facts: Facts) -> None:
    """Where nobody described the trainer, a key that may say when it saves leaves that open."""
    maybe = facts.get("adapter.saves", ())
    if "checkpoint.every" not in facts.values and maybe:
        facts.miss("checkpoint.every", f"{', '.join(maybe[:3])} may say it, in a way that is not known here")


def _devices(facts: Facts) -> int:
    """How many devices share the work: asked for, or as many as GPUs."""
    try:
        count = hardware.judged(facts.get("compute.gpu"))[1] if facts.get("compute.gpu") else 1
    except UsageError:
        count = 1
    return int(facts.get("compute.world_size") or count)


def _batch(facts: Facts, devices: int) -> None:
    """From two of batch, accumulation and global batch follows the third; the global batch counts every device."""
    batch, accumulation = facts.get("training.batch_size"), facts.get("training.accumulation", 1)
    total = facts.get("training.global_batch")
    stated = ("training.batch_size", "training.accumulation", "training.global_batch")
    written = {name: facts.get(name) for name in stated if (source := facts.source(name)) and source.kind != "default"}
    facts.put("training.batch_written", written, "derived", "as the config has it")
    if total is not None and batch is not None and total % (batch * devices) == 0:
        accumulation = max(1, total // (batch * devices))
        facts.put("training.accumulation", accumulation, "derived", f"{facts.key('training.global_batch')} ÷ batch")
    if total is not None and batch is None:
        batch = max(1, total // (accumulation * devices))
        facts.put("training.batch_size", batch, "derived", facts.key("training.global_batch"))
        facts.spelled["training.batch_size"] = facts.key("training.global_batch")
    if batch is None:
        facts.miss("run.step_examples", facts.why("training.batch_size"))
        return
    words = "batch × accumulation" + (f" × {devices} devices" if devices > 1 else "")
    facts.put("run.step_examples", total or batch * accumulation * devices, "derived", words)


def _length(facts: Facts) -> None:
    """Optimizer steps, by the first of: steps, forward passes, examples, tokens, epochs of counted examples."""
    step, samples = facts.get("run.step_examples"), facts.get("data.samples")
    planned, tokens = facts.get("training.samples"), facts.get("training.tokens")
    epochs, length = facts.get("training.epochs"), facts.get("declares.seq_len")
    micro, accumulation = facts.get("training.micro_steps"), facts.get("training.accumulation", 1)
    steps = facts.get("training.steps")
    found: tuple[float, str] | None = None
    if steps:
        found = (steps, "training.steps")
    elif micro:
        found = (micro / accumulation, "training.micro_steps")
    elif planned and step:
        found = (planned / step, "training.samples")
    elif tokens and step and length:
        found = (tokens / (step * length), "training.tokens")
    elif epochs and samples and step:
        found = (epochs * samples / step, "training.epochs")
    if found is None or not math.isfinite(found[0]):
        facts.miss("run.steps", _why_no_length(facts))
    else:
        facts.put("run.steps", max(1, math.ceil(found[0])), "derived", facts.key(found[1]))
        source = facts.source(found[1])
        facts.spelled["run.steps"] = facts.key(found[1])
        if source and source.position:
            facts.put("run.steps", max(1, math.ceil(found[0])), "file", facts.key(found[1]), source.position)
    if samples and step:
        facts.put("run.steps_per_epoch", max(1, math.ceil(samples / step)), "derived", "data.samples")
    total = facts.get("run.steps")
    if total and samples and step:
        facts.put("run.epochs", total * step / samples, "derived", "steps × batch ÷ data.samples")
    elif epochs:
        facts.put("run.epochs", epochs, "derived", facts.key("training.epochs"))
    else:
        facts.miss("run.epochs", facts.why("data.samples"))


def _why_no_length(facts: Facts) -> str:
    if facts.get("training.epochs"):
        return f"{facts.key('training.epochs')} counts passes, and {facts.why('data.samples')}"
    return "no length of the run was recognised: --set training.steps=N gives it"
