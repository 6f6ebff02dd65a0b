"""What follows from a foreign config's own numbers: the batch of a step, the run's length, its model as declared."""

from __future__ import annotations

import math
from typing import Any

from pydantic import ValidationError

from runctl import hardware
from runctl.adapters import native_declares
from runctl.config.declares import Declares
from runctl.errors import UsageError
from runctl.facts import Facts


def settle(facts: Facts) -> None:
    """Put `run.step_examples` (on all devices), `training.accumulation`, `run.steps`, `run.epochs`, `model.*`."""
    facts.put("task", "command", "derived", "another trainer's config")
    devices = _devices(facts)
    if "training.accumulation" not in facts.values:
        facts.put("training.accumulation", 1, "default", f"of {facts.dialect}")
    _batch(facts, devices)
    _length(facts)
    _declares(facts)


def _devices(facts: Facts) -> int:
    """How many devices share the work: asked for, or as many as GPUs."""
    try:
        count = hardware.parse(facts.get("compute.gpu"))[1] if facts.get("compute.gpu") else 1
    except UsageError:
        count = 1
    return int(facts.get("compute.world_size") or count)


def _batch(facts: Facts, devices: int) -> None:
    """From two of batch, accumulation and global batch follows the third; the global batch counts every device."""
    batch, accumulation = facts.get("training.batch_size"), facts.get("training.accumulation", 1)
    total = facts.get("training.global_batch")
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
        facts.miss("run.epochs", "how many examples the data holds is not known")


def _why_no_length(facts: Facts) -> str:
    if facts.get("training.epochs"):
        return f"{facts.key('training.epochs')} counts passes, and how many examples the data holds is not known"
    return "the config does not say how long it trains"


_FROM = {
    "batch_size": "training.batch_size",
    "accumulation": "training.accumulation",
    "steps": "run.steps",
    "precision": "training.precision",
    "activation_checkpointing": "training.activation_checkpointing",
}


def _declares(facts: Facts) -> None:
    """The model, as far as it is known, by the same path as a program's own `declares`."""
    given: dict[str, Any] = {}
    for field in Declares.model_fields:
        value = facts.get(f"declares.{field}")
        if value is None and field in _FROM:
            value = facts.get(_FROM[field])
        if value is not None:
            given[field] = value
    optimizer = str(facts.get("training.optimizer", "")).lower()
    given.setdefault("optimizer", _OPTIMIZERS.get(optimizer, "adamw"))
    if given.get("precision") == "fp8":
        given["precision"] = "bf16"
    try:
        declared: Declares | None = Declares.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        words = first["msg"].removeprefix("Value error, ")
        where = f"{facts.key('declares.' + str(first['loc'][0]))}: " if first["loc"] else ""
        declared = None
        for name in ("model.declared", "model.parameters"):
            facts.miss(name, f"the model cannot be as the config says it is: {where}{words}")
    if declared is None or not (declared.family or declared.parameters):
        for name in ("model.declared", "model.parameters"):
            facts.values.setdefault(name, _unknown(facts))
        return
    steps, examples = facts.values.get("run.steps"), facts.values.get("run.step_examples")
    native_declares.read(declared, facts)
    for name, kept in (("run.steps", steps), ("run.step_examples", examples)):
        if kept is not None:
            facts.values[name] = kept


def _unknown(facts: Facts) -> Any:
    from runctl.facts import Unknown

    return Unknown(f"the config does not describe its model in a way that the adapter {facts.dialect} knows")


_OPTIMIZERS = {
    "adamw": "adamw", "adam": "adamw", "adamw_torch": "adamw", "adamw_torch_fused": "adamw_fused",
    "adamw_hf": "adamw", "adamw_bnb_8bit": "adam8bit", "adamw_8bit": "adam8bit", "paged_adamw_8bit": "adam8bit",
    "lion": "lion", "sgd": "sgd", "adafactor": "adafactor",
}  # fmt: skip
