"""What a config declares of a program's own model → facts: its size, its arithmetic and the length of its run."""

from __future__ import annotations

from runctl.config.declares import Declares
from runctl.estimate import families
from runctl.facts import Facts

HOW = (
    "task: command runs a program of your own; say what it trains to have it estimated, such as "
    "declares: {family: transformer, d_model: 768, n_layers: 12, n_heads: 12, vocab_size: 50257, seq_len: 1024, "
    "batch_size: 8, precision: bf16}"
)


def read(declared: Declares | None, facts: Facts) -> None:
    """Put `model.declared`, `model.parameters`, `model.flops` and, with `declares.steps`, the run's length."""
    if declared is None:
        for name in ("model.declared", "model.parameters"):
            facts.miss(name, HOW)
        return
    facts.put("model.declared", declared, "derived", "declares")
    facts.put("model.precision", declared.precision, "derived", "declares.precision")
    try:
        count, basis = families.parameters(declared)
        facts.put("model.parameters", count, "derived", basis)
    except families.Incomplete as missing:
        facts.miss("model.parameters", f"{missing}; or declares.parameters, the count itself")
    _work(declared, facts)
    if declared.batch_size is None:
        facts.miss("run.step_examples", "the config does not say declares.batch_size")
    else:
        total = declared.batch_size * declared.accumulation
        facts.put("run.step_examples", total, "derived", "batch_size × accumulation, on each GPU")
    if declared.steps is None:
        facts.miss("run.steps", "the config does not say declares.steps")
    else:
        facts.put("run.steps", declared.steps, "derived", "declares.steps")


def _work(declared: Declares, facts: Facts) -> None:
    """The arithmetic of one example, and what else the time depends on."""
    try:
        flops, dims = families.flops(declared), families.dims(declared)
    except families.Incomplete as missing:
        facts.miss("model.flops", str(missing))
        return
    facts.put("model.flops", flops.forward + flops.backward, "derived", "declares")
    if flops.recompute:
        facts.put("model.recompute_flops", flops.recompute, "derived", "declares.activation_checkpointing")
    facts.put("model.n_layers", dims.layers, "derived", "declares.n_layers")
    facts.put("model.context_len", dims.tokens, "derived", "declares")
    facts.put("training.accumulation", declared.accumulation, "derived", "declares.accumulation")
