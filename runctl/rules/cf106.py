"""CF106: a comment that the config contradicts

## Why

The comment is what people read: a header announced a million examples over a body of 300,000, and the plan for twelve
runs was made from the header. A batch of 1024 became 4096 between the review and the launch, and the file still told
the reviewer what it had been.

## Fails

```yaml
# Reference run, 1M samples, about 5 hours.
trainer: {total_samples: 300000, batch_size: 32, save_every: 500}
optim: {learning_rate: 0.001}
```

```yaml
# Change: weight_decay: 0.1 -> 0.01
trainer: {max_steps: 500, batch_size: 32}
optim: {learning_rate: 0.001, weight_decay: 0.1}
```

```yaml
trainer:
  max_steps: 500
  batch_size: 8  # 16 per GPU
  save_every: 100  # every 500 steps
```

```yaml
# First GPU run: 3 epochs.
training: {epochs: 10}
data: {simulate: {games: 4, seconds: 10}}
```

## Passes

```yaml
# Baseline: ~0.3M samples; the long run used 1M samples. Batch 16 -> 32.
trainer: {total_samples: 300000, batch_size: 32, save_every: 500}
optim: {learning_rate: 0.001}  # 3x the rate of the small model
```

## What to do

Correct whichever of the two is wrong. Only plain statements above the first key, below the last one, and at the end of
a value's own line are read; what speaks of other runs, of changes or of parts of the run is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from runctl.facts import Facts, Finding, Severity
from runctl.gathering import comments, corpora
from runctl.gathering.comments import Claim
from runctl.light import pattern
from runctl.units import format_count, format_usd
from runctl.yamldoc import Position

SEVERITY: Severity = "warning"
PARAMETERS_RATIO, TOKENS_RATIO, COST_RATIO = 1.33, 1.25, 2
LEAST_TOKENS = 1e6
_FIX = "correct the comment, or the value"
_SWEPT = pattern(r"lr|rate|beta|temperature|momentum|warm|eps|schedule|dropout|noise|alpha|lambda")
_PER_GPU = pattern(r"(?<![\w.])(\d+) (?:per|/) ?(?:GPU|device|rank)\b", re.IGNORECASE)
_EVERY = pattern(r"\bevery (\d[\d,_]*)([kK]?) (?:optimizer )?steps\b", re.IGNORECASE)
_PERCENT = pattern(r"^\s*(\d+(?:\.\d+)?)\s?% of (?:the |all |total )*(?:training )?steps\b", re.IGNORECASE)
_INLINE = {
    "training.steps": "steps",
    "training.micro_steps": "steps",
    "training.samples": "samples",
    "training.epochs": "epochs",
    "training.batch_size": "batch",
    "training.global_batch": "batch",
    "training.accumulation": "batch",
    "declares.seq_len": "context",
    "model.context_len": "context",
}
_CADENCES = ("checkpoint.every", "training.log_every", "training.validate_every")


def check(facts: Facts) -> Iterable[Finding]:
    text = facts.need("config.text")
    if "#" not in text or facts.get("config.kind") == "other":
        return
    claims, changes, shares = comments.read(tuple(comments.of(text, facts.get("config.header", ()))))
    yield from _claims(facts, claims)
    yield from _changes(facts, changes)
    yield from _mix(facts, shares)
    yield from _inline(facts, text)


def _claims(facts: Facts, claims: Sequence[Claim]) -> Iterator[Finding]:
    """One finding for each kind of number of which no claim agrees with the config."""
    for kind, judge in _JUDGES.items():
        of_kind = [one for one in claims if one.kind == kind]
        judged = [(one, judge(facts, one)) for one in of_kind]
        if judged and all(judged_as is not None for _, judged_as in judged):
            first, words = judged[0]
            at = Position(facts.path, first.line, first.column)
            yield Finding(f"the comment says {first.words}, but {words}", at=at, fix=_FIX)


def _near(claim: Claim, *values: float) -> bool:
    return any(abs(claim.value - value) <= claim.tolerance * max(claim.value, value) for value in values)


def _steps(facts: Facts, claim: Claim) -> str | None:
    steps, accumulation = facts.get("run.steps"), facts.get("training.accumulation", 1)
    if not steps or _near(claim, steps, steps * accumulation, steps / accumulation):
        return None
    written = facts.get("training.steps") or facts.get("training.micro_steps")
    key = facts.key("run.steps")
    words = f"{key} is {written:,}" if written else f"by {key} it is {steps:,} steps"
    return None if written and _near(claim, written) else words


def _samples(facts: Facts, claim: Claim) -> str | None:
    samples = facts.get("training.samples")
    if samples is not None:
        return None if _near(claim, samples) else f"{facts.key('training.samples')} is {samples:,}"
    steps, examples = facts.get("run.steps"), facts.get("run.step_examples")
    if not facts.foreign or not steps or not examples or _near(claim, steps * examples, facts.get("data.samples") or 0):
        return None
    return f"{steps:,} steps of {examples:,} are {steps * examples:,}"


def _epochs(facts: Facts, claim: Claim) -> str | None:
    source, epochs = facts.source("training.epochs"), facts.get("training.epochs")
    if not epochs or source is None or source.kind == "default" or _near(claim, epochs):
        return None
    return f"{facts.key('training.epochs')} is {epochs:g}"


def _parameters(facts: Facts, claim: Claim) -> str | None:
    count = facts.get("model.parameters")
    if not count or 1 / PARAMETERS_RATIO < claim.value / count < PARAMETERS_RATIO:
        return None
    return f"the model has {format_count(count)}"


def _tokens(facts: Facts, claim: Claim) -> str | None:
    if claim.value < LEAST_TOKENS:
        return None
    tokens = facts.get("training.tokens")
    words = f"{facts.key('training.tokens')} is"
    if tokens is None:
        steps, examples, length = (facts.get(name) for name in ("run.steps", "run.step_examples", "declares.seq_len"))
        if not (steps and examples and length):
            return None
        tokens, words = steps * examples * length, "steps × batch × length are"
    return None if 1 / TOKENS_RATIO < claim.value / tokens < TOKENS_RATIO else f"{words} {format_count(tokens)}"


def _batch(facts: Facts, claim: Claim) -> str | None:
    """A batch may be one device's, one step's on a device, or all devices'; how many they are is often not said."""
    batch, accumulation = facts.get("training.batch_size"), facts.get("training.accumulation", 1)
    if not batch:
        return None
    step = batch * accumulation
    known = {batch, step, facts.get("training.global_batch"), facts.get("run.step_examples")}
    if claim.value in known or (claim.value > step and claim.value % step == 0):
        return None
    return f"{facts.key('training.batch_size')} is {batch:,}" + (
        f" × {accumulation} accumulated" if accumulation > 1 else ""
    )


def _context(facts: Facts, claim: Claim) -> str | None:
    name = "declares.seq_len" if facts.foreign else "model.context_len"
    length = facts.get(name)
    if not isinstance(length, int) or _near(claim, length) or claim.value < 2:
        return None
    return f"{facts.key(name)} is {length:,}"


def _gpus(facts: Facts, claim: Claim) -> str | None:
    source, count = facts.source("compute.gpu"), facts.get("gpu.count")
    if not count or source is None or source.kind != "file" or claim.value == count:
        return None
    return f"{facts.key('compute.gpu')} is {facts.get('compute.gpu')}"


def _cost(facts: Facts, claim: Claim) -> str | None:
    cost = facts.get("estimate.cost")
    if cost is None or not cost.likely or cost.low / COST_RATIO <= claim.value <= cost.high * COST_RATIO:
        return None
    return f"the run likely costs {format_usd(cost.likely)} ({format_usd(cost.low)} to {format_usd(cost.high)})"


_JUDGES: dict[str, Callable[[Facts, Claim], str | None]] = {
    "steps": _steps,
    "samples": _samples,
    "epochs": _epochs,
    "parameters": _parameters,
    "tokens": _tokens,
    "batch": _batch,
    "context": _context,
    "gpus": _gpus,
    "cost": _cost,
}


def _changes(facts: Facts, changes: Sequence[comments.Change]) -> Iterator[Finding]:
    """A change that is announced, of a key that says something else."""
    by_last: dict[str, list[object]] | None = None
    for change in changes:
        if by_last is None:
            by_last = {}
            for one in facts.need("config.scalars"):
                by_last.setdefault(one.key.rpartition(".")[2], []).append(one)
        found = by_last.get(change.key.rpartition(".")[2], [])
        if len(found) != 1:
            continue
        one = found[0]
        now, old, new = (_value(text) for text in (str(one.value), change.old, change.new))  # type: ignore[attr-defined]
        if (
            now is None
            or old is None
            or new is None
            or now == new
            or change.over_time
            or (now == old and _SWEPT.search(change.key.lower()))
        ):
            continue
        message = f"the comment says {change.key} {change.old} -> {change.new}, but {one.key} is {one.text}"  # type: ignore[attr-defined]
        yield Finding(message, at=one.position, fix=_FIX, key=one.key)  # type: ignore[attr-defined]


def _value(text: str) -> float | bool | None:
    lowered = text.strip().lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    try:
        return comments.number(text)
    except ValueError:
        return None


def _mix(facts: Facts, shares: Sequence[comments.Share]) -> Iterator[Finding]:
    """A share of a kind of data of which the config reads none; only where it is known what all of it holds."""
    claims = [one for one in shares if one[0] >= 0.05]
    train = facts.get("data.train")
    kinds = corpora.kinds(train) if claims and train else None
    if not kinds:
        return
    said = {what for _, what, _, _ in claims}
    for _, what, words, line in claims:
        other = what == "text" and any("text" in one.key.lower() for one in facts.need("config.scalars"))
        if what not in kinds and not other and said & kinds:
            message = f"the comment says {words}, but {facts.key('data.train')} reads {corpora.listed(kinds)} only"
            yield Finding(message, at=Position(facts.path, line, 1), fix="correct the comment, or the data")


def _inline(facts: Facts, text: str) -> Iterator[Finding]:
    """Comments at the end of a value's own line."""
    lines: list[str] | None = None
    for name in (*_INLINE, *_CADENCES, "training.warmup_steps"):
        source = facts.source(name)
        if source is None or source.kind != "file" or source.position is None or source.position.file != facts.path:
            continue
        lines = lines if lines is not None else text.splitlines()
        line = lines[source.position.line - 1] if source.position.line <= len(lines) else ""
        comment = line.partition(" #")[2]
        if not comment or len(comment) > comments.LONGEST_LINE or not any(map(str.isdigit, comment)):
            continue
        if words := _contradiction(facts, name, comment):
            said, truth = words
            yield Finding(f"the comment says {said}, but {truth}", at=name, fix=_FIX)


def _contradiction(facts: Facts, name: str, comment: str) -> tuple[str, str] | None:
    """(what the comment says, what is so), where the comment of a line contradicts its value."""
    value = facts.get(name)
    shown = f"{facts.key(name)} is {value:,}" if isinstance(value, int) else f"{facts.key(name)} is {value}"
    if name in _CADENCES:
        match = _EVERY.search(comment)
        steps = getattr(value, "steps", None)
        if match and steps and comments.number(match[1], match[2]) != steps:
            return match[0], f"{facts.key(name)} is {steps:,}"
        return None
    if name == "training.warmup_steps":
        match = _PERCENT.search(comment)
        totals = [
            total for other in ("run.steps", "training.steps", "training.micro_steps") if (total := facts.get(other))
        ]
        if not match or not totals or not value:
            return None
        share = float(match[1]) / 100
        if any(abs(share - value / total) <= 0.2 * value / total + 0.005 for total in totals):
            return None
        return match[0].strip(), f"{shown}, which is {value / totals[0]:.1%} of {totals[0]:,}"
    if name in ("training.batch_size", "training.global_batch") and (match := _PER_GPU.search(comment)):
        wrong = value % int(match[1]) if int(match[1]) else 0
        return (match[0], shown) if wrong else None
    claims = [one for one in comments.claims([(0, comment)]) if one.kind == _INLINE[name]]
    judged = [(one, _JUDGES[one.kind](facts, one)) for one in claims]
    if judged and all(words is not None for _, words in judged):
        first, words = judged[0]
        return first.words, words or ""
    return None
