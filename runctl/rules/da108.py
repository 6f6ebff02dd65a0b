"""DA108: nothing is held out to validate on

## Why

Without a validation the loss of training is all there is: the best checkpoint is the one with the luckiest batch, and
overfitting shows in nothing. Results that were ranked by single values of a training loss had to be taken back.

## Fails

```yaml
data: {train_files: "shards/train/*.tar"}
trainer: {max_steps: 12000, batch_size: 4, lr: 0.0001, save_steps: 1000}
```

```yaml
data: {train_files: "shards/train/*.tar", val_files: "shards/val/*.tar"}
trainer: {max_steps: 12000, batch_size: 4, lr: 0.0001, save_steps: 1000, eval_every: 0}
```

## Passes

```yaml
data: {train_files: "shards/train/*.tar", val_files: "shards/val/*.tar"}
trainer: {max_steps: 12000, batch_size: 4, lr: 0.0001, save_steps: 1000, eval_every: 500}
```

```yaml
trainer: {max_steps: 200, batch_size: 4, lr: 0.0001}
```

## What to do

Hold out a file or a share of the data, and validate every few hundred steps. What a trainer does where its config says
nothing is an adapter's to say (`defaults: {training.validate_every: never}`). runctl's own runs always validate.

## Policy

A run of at most `smoke_steps` optimizer steps is a smoke test and needs none.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.adapters.spec import words
from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.light import pattern

SEVERITY: Severity = "warning"
POLICY = ("smoke_steps",)
_HELD_OUT = ("data.validation", "data.validation_share")
_VALIDATES = frozenset((
    "val", "valid", "validate", "validation", "eval", "evals", "evaluate", "evaluation", "evaluators", "dev",
    "zeroshot",
))  # fmt: skip
_PERHAPS = pattern(r"(?i)val|dev|zeroshot|monitor|metric|criterion")  # quicker than words
_ITS_SIZE = frozenset((
    "batch", "size", "metric", "metrics", "mode", "beta", "dtype", "workers", "seed", "patience", "best", "save", "lr",
    "delay", "accumulation", "bsz", "tokens", "monitor", "filename", "dir", "output", "clip", "report", "log",
    "precision",
))  # fmt: skip
_CHOSEN_BY = frozenset(("monitor", "metric", "criterion"))
_ACTS = frozenset((
    "env_id", "env_name", "env", "num_envs", "n_envs", "num_actors", "gae_lambda", "total_timesteps", "n_timesteps",
    "horizon_length", "replay_size", "buffer_size", "replay",
))  # fmt: skip


def check(facts: Facts) -> Iterable[Finding]:
    if not facts.foreign:
        if facts.get("task") == "command":
            raise NotChecked("whether a program of your own validates is not known")
        return
    steps = facts.get("run.steps")
    if steps is not None and steps <= facts.policy["smoke_steps"]:
        return
    why = lacking(facts)
    if why:
        if facts.dialect == "generic":
            _unclear(facts)
        at = facts.place("training.validate_every", *_HELD_OUT, "run.steps", "training.epochs", "data.train")
        fix = "hold out a part of the data, and validate on it every few hundred steps"
        yield Finding(why, at=at, fix=fix)


def _unclear(facts: Facts) -> None:
    """Raise NotChecked where another trainer's config may validate by a key that is not known, or has no data."""
    if "training.validate_every" in facts.values:
        return
    acts = set()
    for one in facts.get("config.scalars", ()):
        if one.key.rpartition(".")[2].lower() in _ACTS:
            acts.add(one.key)
        if not _PERHAPS.search(one.key):
            continue
        parts = [words(part) for part in one.key.split(".")]
        inside = frozenset[str]().union(*parts)
        if isinstance(one.value, str) and parts[-1] & _CHOSEN_BY and words(one.text.replace("/", "_")) & _VALIDATES:
            raise NotChecked(f"{one.key} is {one.text[:40]}: what that is computed on is not said here")
        if one.value in (None, False, "", 0) or not inside & _VALIDATES or parts[-1] & _ITS_SIZE:
            continue
        raise NotChecked(f"{one.key} may say it, in a way that is not known here")
    if len(acts) > 1:
        raise NotChecked(f"an agent makes its own data ({', '.join(sorted(acts)[:2])}): none can be held out")


def lacking(facts: Facts) -> str | None:
    """Why no validation takes place, or None where one may."""
    every = facts.values.get("training.validate_every")
    held_out = [name for name in _HELD_OUT if facts.get(name)]
    if every is not None:
        if facts.get("training.validate_every", True) is not None:
            return None  # it validates, or what is there cannot be read
        source = facts.source("training.validate_every")
        if source is None or source.kind != "default" or held_out:
            never = f"{facts.key('training.validate_every')} says that it never validates"
            if source is not None and source.kind == "default":
                never = f"{facts.key('training.validate_every')} is not set, so that it never validates"
            return never + (f", though there is {facts.key(held_out[0])}" if held_out else "")
    elif held_out:
        return None
    return "nothing is held out to validate on: overfitting will not show, and no checkpoint can be called the best"
