"""CF111: a run without a name of its own

## Why

A tracker shows what it is given: runs without a name are called `run` or by chance, and two variants of one name
cannot be told apart. A table compared the best values of two runs with the last values of two others, because nobody
saw which curve was whose.

## Fails

```yaml
trainer: {max_steps: 500, batch_size: 8, seed: 1}
wandb: {project: demo}
```

```yaml
trainer: {max_steps: 500, batch_size: 8, seed: 1}
wandb: {project: demo, run_name: wide}
```
```yaml beside file=other.yaml
trainer: {max_steps: 900, batch_size: 8, seed: 1}
wandb: {project: demo, run_name: wide}
```

## Passes

```yaml
trainer: {max_steps: 500, batch_size: 8, seed: 1}
wandb: {project: demo, run_name: wide-500}
```
```yaml beside file=other.yaml
trainer: {max_steps: 900, batch_size: 8, seed: 1}
wandb: {project: demo, run_name: wide-900}
```

## What to do

Name the run after what makes it differ. A file that no tracker reads needs no name.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "warning"
_PROJECTS = ("wandb_project", "mlflow_experiment_name", "comet_project_name", "neptune_project", "clearml_project")
_SECTIONS = ("wandb", "mlflow", "comet", "neptune", "clearml", "tracker", "tracking")
_NAMES = ("run_name", "name", "wandb_name", "wandb_run_name", "wandb_run_id", "experiment_name", "exp_name", "run_id")
_NAMED_BY_TRAINER = ("hf",)  # it names the run after its output folder


def check(facts: Facts) -> Iterable[Finding]:
    if facts.get("config.kind") == "other":
        return
    yield from _shared(facts)
    if not facts.foreign or facts.get("run.name") or facts.dialect in _NAMED_BY_TRAINER:
        return
    project, unset = None, False
    for one in facts.need("config.scalars"):
        section, _, last = one.key.lower().rpartition(".")
        if last in _NAMES and ("." not in one.key or section.rpartition(".")[2] in (*_SECTIONS, "run", "logging")):
            if one.value is not None:
                return
            unset = True
        if "wandb" in one.key and (one.value is False or one.text.lower() in ("disabled", "false", "offline")):
            return  # nothing is tracked under any name
        inside = last in ("project", "experiment") and section.rpartition(".")[2] in _SECTIONS
        if (inside or last in _PROJECTS) and isinstance(one.value, str) and one.text:
            project = one
    if project is not None:
        message = f"the tracker's project is {project.text}, but the run has no name in it"
        severity: Severity = "note" if unset else "warning"  # left open on purpose: given at launch
        fix = "write a run_name that says what differs"
        yield Finding(message, at=project.position, fix=fix, severity=severity, key=project.key)


def _shared(facts: Facts) -> Iterable[Finding]:
    others = facts.get("siblings.same_name", ())
    if others:
        message = f"{facts.key('run.name')} is {facts.get('run.name')}, which {_listed(others)} uses too"
        yield Finding(message, at="run.name", fix="give each variant a name of its own")


def _listed(paths: tuple[str, ...]) -> str:
    return paths[0] if len(paths) == 1 else f"{paths[0]} (and {len(paths) - 1} more)"
