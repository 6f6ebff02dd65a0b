"""The blocks of a card that are computed: each a Markdown table of what the config, the manifest and the estimate say.

What a table says of the config and the data is exact and must stay so (`EXACT`); what it says of time and money is
an estimate, and moves with every measurement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from runctl.facts import Facts
from runctl.units import counted, format_bytes, format_count, format_duration, format_usd

EXACT = ("model", "data", "training", "infrastructure", "changed")
Row = tuple[str, str]
_UNMEASURED = (3, 5)  # how far off estimates that rest on no measurement were, in runs that were paid for


def blocks(facts: Facts, changes: Sequence[tuple[str, Any, Any]] | None, baseline: str) -> dict[str, str]:
    """Every computed block by name. `changes` are (key, of the baseline, of this run); None where that is unknown."""
    made: dict[str, Callable[[Facts], Iterator[Row]]] = {
        "model": _model,
        "data": _data,
        "training": _training,
        "infrastructure": _infrastructure,
        "cost": _cost,
    }
    found = {name: table((name, ""), list(rows(facts))) for name, rows in made.items()}
    return found | {"changed": _changed(changes, baseline)}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; what would break a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)


def cell(text: str) -> str:
    """A value as it may stand in a table."""
    return " ".join(str(text).replace("|", "\\|").replace("<!--", "&lt;!--").split())


def value(one: Any) -> str:
    """A setting as it is shown: `not set`, `true`, a number with its thousands."""
    if one is None:
        return "not set"
    if isinstance(one, bool):
        return str(one).lower()
    if isinstance(one, int):
        return f"{one:,}"
    return f"{one:g}" if isinstance(one, float) else str(one)


def otherwise(written: str, meant: str) -> bool:
    """Whether a row of a card says otherwise than its config: what was unknown says nothing."""
    return written != meant and "unknown:" not in written and "unknown:" not in meant


def _said(facts: Facts, name: str, show: Callable[[Any], str] = value) -> str:
    """A fact as it is shown, or why it is unknown."""
    source = facts.source(name)
    return show(facts.get(name)) if source is not None else f"unknown: {facts.why(name)}"


def _model(facts: Facts) -> Iterator[Row]:
    def parameters(count: Any) -> str:
        return f"{count:,} ({format_count(count)}, exact)"

    own = facts.get("task") == "command"
    if own and facts.source("model.parameters") is None:
        yield "parameters", "not declared: the program knows them"
    else:
        yield "parameters", _said(facts, "model.parameters", parameters)
    if own:
        yield "program", "of its own"
        return
    shape = " · ".join(f"{name} {value(facts.get(f'model.{name}'))}" for name in ("d_model", "n_layers", "d_state"))
    yield "architecture", f"{facts.get('model.arch')} · {shape}"
    yield "context", f"{counted(facts.get('model.context_len') or 0, 'frame')}"
    yield "inputs, outputs", f"{_said(facts, 'model.inputs')}, {_said(facts, 'model.outputs')}"
    yield "dropout", _said(facts, "model.dropout")


def _data(facts: Facts) -> Iterator[Row]:
    if facts.get("task") == "command":
        yield "data", "the program's own"
        return
    encoded = facts.get("data.encoded")
    simulated = f"{_said(facts, 'data.simulate.games')} simulated games, {_said(facts, 'data.simulate.seconds')} s each"
    yield "dataset", str(encoded) if encoded else simulated
    if encoded:
        yield "games, frames", f"{_said(facts, 'dataset.games')}, {_said(facts, 'dataset.frames')}"
        yield "digest of its encoding", _said(facts, "dataset.encoding_digest", lambda found: str(found)[:12])
    yield "training windows", _said(facts, "data.train_windows")
    yield "validation windows", _said(facts, "data.validation_windows")
    keys = facts.get("encoding.keys") or {}
    flags = [name for name, given in keys.items() if given is True]
    yield "encoding", f"{', '.join(flags) or 'no flags'} (digest {str(facts.get('encoding.digest'))[:12]})"


def _training(facts: Facts) -> Iterator[Row]:
    if facts.get("task") == "command":
        steps = facts.get("run.steps")
        yield "length", f"{steps:,} steps" if steps else "until the program ends, or a limit does"
        yield "checkpoints", "the program's own"
        return
    steps = _said(facts, "run.steps")
    epochs = facts.get("run.epochs")
    yield "length", f"{steps} steps" + (f", {epochs:g} epochs" if epochs else "")
    batch, passes = facts.get("training.batch_size"), facts.get("training.accumulation")
    yield "batch", f"{value(batch)} windows" + (f" × {passes} passes" if passes and passes > 1 else "")
    yield "batches per epoch", _said(facts, "run.steps_per_epoch")
    rates = ("lr", "warmup_steps", "min_lr_ratio", "weight_decay", "grad_clip")
    yield "optimizer", " · ".join(f"{name} {_said(facts, f'training.{name}')}" for name in rates)
    yield "precision", _said(facts, "training.precision")
    sampling = facts.get("training.scheduled_sampling")
    yield "scheduled sampling", value(sampling) if sampling else "off"
    yield "seed", _said(facts, "training.seed")
    yield "validation", _said(facts, "training.validate_every")
    yield "log line", f"every {counted(facts.get('training.log_every') or 0, 'step')}"
    yield "checkpoints", f"{_said(facts, 'checkpoint.every')}, newest {_said(facts, 'checkpoint.keep_last')} kept"


def _infrastructure(facts: Facts) -> Iterator[Row]:
    gpu, count = facts.get("gpu"), facts.get("gpu.count", 1)
    yield "where", _said(facts, "compute.backend")
    yield "GPU", f"{count} × {gpu.name}" if gpu else "none"
    yield "CPU cores, memory", f"{_said(facts, 'compute.cpu')}, {_said(facts, 'compute.memory', _bytes)}"
    yield "timeout, retries", f"{_said(facts, 'compute.timeout', _span)}, {_said(facts, 'compute.retries')}"


def _cost(facts: Facts) -> Iterator[Row]:
    time, cost, worst = facts.get("estimate.time"), facts.get("estimate.cost"), facts.get("estimate.worst_cost")
    if memory := facts.get("estimate.memory"):
        span = f"{format_bytes(memory.likely)} ({format_bytes(memory.low)} to {format_bytes(memory.high)})"
        yield "memory", f"{span}: {memory.basis}"
    if time is None:
        own = facts.get("task") == "command" and facts.get("model.declared") is None
        why = "the program declares no model to estimate by" if own else facts.why("estimate.time")
        yield "time", f"unknown: {why}"
        if worst is not None:
            yield "cost, worst case", f"{format_usd(worst.usd)}: {worst.words}"
        return
    span = f"{format_duration(time.low)} to {format_duration(time.high)}"
    yield "time, likely", f"{format_duration(time.likely)} ({span}): {time.basis}"
    if not time.measured:
        for factor in _UNMEASURED:
            yield f"time, {factor} × that", format_duration(factor * time.likely)
    if cost is not None:
        yield "cost, likely", f"{format_usd(cost.likely)} ({format_usd(cost.low)} to {format_usd(cost.high)})"
    if worst is not None:
        yield "cost, worst case", f"{format_usd(worst.usd)}: {worst.words}"
    elif cost is not None:
        yield "cost, worst case", f"without limit: {facts.why('estimate.worst_cost')}"
    if timeout := facts.get("compute.timeout"):
        yield "timeout against likely time", f"{timeout / time.likely:.1f} ×"
    steps, each = facts.get("run.steps"), facts.get("training.log_every")
    if steps and each:
        yield "a log line about every", format_duration(time.likely / steps * each)


def _changed(changes: Sequence[tuple[str, Any, Any]] | None, baseline: str) -> str:
    if changes is None:
        return baseline or "No baseline is named."
    if not changes:
        return f"Nothing: the config is that of {baseline}."
    return table(("key", baseline, "this run"), [(key, value(old), value(new)) for key, old, new in changes])


def _bytes(size: Any) -> str:
    return "not set" if size is None else format_bytes(size)


def _span(seconds: Any) -> str:
    return "not set" if seconds is None else format_duration(seconds)


def rows(block: str) -> Mapping[str, str]:
    """The rows of a block's table by their first cell, for saying what differs between two of them."""
    found = {}
    for line in block.splitlines()[2:]:
        cells = [part.strip() for part in line.strip().strip("|").split(" | ")]
        if len(cells) > 1:
            found[cells[0]] = " | ".join(cells[1:])
    return found
