"""A new card for a config, with everything in it that can be computed; people write the rest."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from runctl import config as configs
from runctl import project as projects
from runctl import record
from runctl.cards import tables
from runctl.cards import text as texts
from runctl.cards.text import Text
from runctl.errors import UsageError
from runctl.facts import Facts
from runctl.fields import held_out
from runctl.gathering import sweeps
from runctl.light import pattern

Change = tuple[str, Any, Any]
_NAMES = ("name", "card", "tracking", "budget", "guards", "compute", "checkpoint")  # no variables of an experiment
_TITLES = {
    "model": "Model",
    "data": "Data",
    "training": "Training",
    "infrastructure": "Infrastructure",
    "cost": "Time and cost",
    "changed": "What changed against the baseline",
    "sign-off": "Sign-off",
    "results": "Results",
}
_FIELD = pattern(r"\{([A-Za-z_][\w./-]*)\}")
UNSIGNED = "Nobody has signed yet: `runctl card sign {} --as NAME --verdict approve`."
NO_RESULTS = "Not run yet."


def text(name: str, config: Path, facts: Facts, baseline: Sequence[str], project: projects.Project) -> str:
    """The whole text of a new card. Raises UsageError for a baseline that is no run of the project."""
    changes = against(facts, baseline, project)
    head = {
        "card": 1,
        "goal": "",
        "question": "",
        "config": relative(config, project.root),
        "baseline": list(baseline),
        "changes": [key for key, _, _ in changes or ()] if changes is not None else None,
        "metric": _metric(facts),
        "targets": [],
        "kill": [],
        "budget": {"usd": facts.get("budget.max_cost_usd"), "hours": facts.get("budget.max_hours")},
        "escape": {"resume": f"runctl resume {facts.get('name') or name}", "fallback": ""},
        "status": "draft",
        "signatures": [],
        "log": [],
    }
    head = {key: found for key, found in head.items() if found is not None}
    made = tables.blocks(facts, changes, named(baseline))
    made |= {"sign-off": UNSIGNED.format(name), "results": NO_RESULTS}
    words: tuple[str, ...] = _WORDS
    if facts.get("task") == "command" and printed(facts) is None:
        words = (*_UNPRINTED, *_WORDS)
    parts = ["---", yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=110).rstrip(), "---", ""]
    parts += [f"# {name}", "", *words]
    for block in texts.BLOCKS:
        parts += [f"## {_TITLES[block]}", "", f"<!-- runctl:{block} -->", "", made[block], ""]
        parts += [f"<!-- /runctl:{block} -->", ""]
    return "\n".join(parts)


_WORDS = (
    "Why this run, and why now: what is known already, and what would be done with either answer.",
    "",
    "How it could fool us: what else could make the metric move.",
    "",
)


_UNPRINTED = (
    "The config's patterns name no metric of a validation, as `{val_loss}` would: `metric` above is a guess.",
    "Without one that the program prints, no target can be judged.",
    "",
)


def refreshed(card: Text, facts: Facts, changes: Sequence[Change] | None, baseline: str) -> Text:
    """The card with its computed blocks as they are now; blocks that it does not have are left out."""
    for name, content in tables.blocks(facts, changes, baseline).items():
        if name in card.blocks and card.block(name) != content:
            card = card.with_block(name, content)
    return card


def against(facts: Facts, baseline: Sequence[str], project: projects.Project) -> list[Change] | None:
    """The keys in which a config differs from the first baseline's, without those that are no variable; None where
    none is named, or the config is another program's. Raises UsageError for an unknown run."""
    config = facts.get("config.whole")
    if not baseline or config is None:
        return None
    run = record.find(project.root, baseline[0])
    before = record.content(run).get("config")
    if not isinstance(before, dict):
        raise UsageError(f"the run {baseline[0]} has no config on record", hint="choose another baseline")
    with suppress(ValueError):  # of a version that did not know some keys: they get their defaults
        before = configs.to_effective(configs.from_effective({"name": baseline[0], **before}))
    old, new = sweeps.flat(before), sweeps.flat(configs.to_effective(config))
    keys = [key for key in dict.fromkeys((*old, *new)) if key.partition(".")[0] not in _NAMES]
    return [(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]


def named(baseline: Sequence[str]) -> str:
    return baseline[0] if baseline else ""


def _metric(facts: Facts) -> dict[str, str]:
    if facts.get("task") == "command":
        name = printed(facts)
        return {"name": name or "val/loss", "mode": _mode(name or "val/loss"), "statistic": "last"}
    return {
        "name": facts.get("checkpoint.metric") or "val/loss",
        "mode": facts.get("checkpoint.mode") or "min",
        "statistic": "last",
    }


def printed(facts: Facts) -> str | None:
    """The metric that decides, of those that the patterns of a program of one's own name: the first of a validation.
    None where they name none (`auto`, `tqdm`, … take what is printed)."""
    config = facts.get("config.whole")
    progress = config.command.progress if config is not None and config.command is not None else None
    named = (match[1] for text in (progress.patterns if progress else ()) for match in _FIELD.finditer(text))
    return next(filter(held_out, named), None)


def _mode(metric: str) -> str:
    return "max" if any(word in metric for word in ("acc", "f1", "auc", "bleu", "score")) else "min"


def relative(config: Path, root: Path) -> str:
    try:
        return config.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        hint = "put it into the project, so that the card can name it for others too"
        raise UsageError(f"{config} lies outside the project {root}", hint=hint) from None
