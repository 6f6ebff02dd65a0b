"""MO104: much less, or much more, data than the model can use

## Why

"100 million samples" were 200 passes over half a million, and a model of 0.25 million parameters held two large GPUs
for a day. How many examples or tokens there are for each parameter says whether the size and the plan were meant for
each other.

## Fails

```yaml
data: {simulate: {games: 2000}}
model: {d_model: 2048, n_layers: 24}
training: {steps: 6000, batch_size: 16}
compute: {gpu: A100-80GB}
```

## Passes

```yaml
data: {simulate: {games: 2000}}
training: {steps: 6000, batch_size: 512}
compute: {gpu: A100-80GB}
```

## What to do

Take a smaller model, or train it for longer; about 20 tokens for each parameter use a given amount of arithmetic best
(Hoffmann et al. 2022, Training Compute-Optimal Large Language Models), and many more are usual where a small model is
the aim. It is a note, of long runs from scratch only: whoever tunes a trained model needs far less.

## Policy

Fewer than `data_least` or more than `data_most` for each parameter are told.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.rules import lengths
from runctl.units import format_count

SEVERITY: Severity = "note"
POLICY = ("data_least", "data_most")


def check(facts: Facts) -> Iterable[Finding]:
    parameters, length = facts.need("model.parameters"), facts.need("run.length")
    if not length.long:
        return
    if facts.get("run.init_from") or facts.get("training.adapter") or facts.get("model.names"):
        raise NotChecked("it goes on from weights that were trained before")
    seen, what = _seen(facts)
    each = seen / parameters
    least, most = facts.policy["data_least"], facts.policy["data_most"]
    if least <= each <= most:
        return
    share = f"{each:,.0f} for each" if each >= 1 else f"one for every {1 / each:,.0f} of them"
    message = f"the run sees {format_count(seen)} {what} with {format_count(parameters)} parameters: {share}"
    fix = "a smaller model, or a longer run" if each < least else "a larger model, or a shorter run"
    yield Finding(message, at=lengths.written(facts), fix=fix)


def _seen(facts: Facts) -> tuple[float, str]:
    """What the run sees in all: tokens, of runctl's own task windows. Raises NotChecked."""
    tokens = facts.get("training.tokens")
    if tokens:
        return float(tokens), "tokens"
    examples = facts.need("run.steps") * facts.need("run.step_examples")
    if not facts.foreign and facts.get("task") != "command":
        return float(examples), "windows"  # each has one frame to predict
    length = facts.get("declares.seq_len") or facts.get("model.context_len")
    if not length:
        raise NotChecked("how many tokens an example has is not known")
    return float(examples * length), "tokens"
