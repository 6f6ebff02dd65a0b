"""What was tried before: the learning rates of the project's runs, by the size of their models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runctl.facts import Facts
from runctl.fields import number
from runctl.project import Project

MOST = 300  # of the newest runs, that are looked into
Tried = tuple[str, int, float]  # run, parameters, learning rate


def derive(facts: Facts, project: Project) -> None:
    """Put `history.rates`, read when a rule asks for it."""
    facts.later("history.rates", lambda: project.once("rates", lambda: _rates(project.root)), "measurement", "runs/")


def _rates(root: Path) -> tuple[Tried, ...]:
    from runctl import record

    runs = sorted(record.list_runs(root), key=lambda run: _age(run.run), reverse=True)[:MOST]
    return tuple(one for run in runs if (one := _tried(run.name, record.content(run))))


def _tried(name: str, content: dict[str, Any]) -> Tried | None:
    config = content.get("config")
    rate = number(config.get("training"), "lr") if isinstance(config, dict) else None
    estimate = content.get("estimate")
    fact = estimate.get("parameters") if isinstance(estimate, dict) else None
    count = number(fact, "value")
    return (name, int(count), rate) if rate is not None and count else None


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
