"""A config that changed between two attempts, told loudly; and the one that is made smaller where memory ran out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runctl import record
from runctl.fields import text
from runctl.supervisor.failures import Failure
from runctl.supervisor.restarts import Restart


def told(run: record.RunDir, number: int, start: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of the event `changed`: what changed, by whom, and the digests before and after."""
    return {
        "reason": words(start.get("changes")),
        "by": start.get("changed_by"),
        "changes": start.get("changes"),
        "digest_before": record.content(run, number - 1).get("digest"),
        "digest_after": start.get("digest"),
    }


def words(changes: Any) -> str:
    """`training.lr 0.0003 → 0.0001; checkpoint.every 600s → 300s`, of the changes in a start.json."""
    rows = [row for row in changes if isinstance(row, dict)] if isinstance(changes, list) else []
    if not rows:
        return ""
    from runctl.changes import shown

    return "; ".join(f"{row.get('key')} {shown(row.get('old'))} → {shown(row.get('new'))}" for row in rows)


def smaller(
    failure: Failure | None, config: Mapping[str, Any], attempt: int, accepted: Any = ()
) -> tuple[Restart, dict[str, Any]] | None:
    """The restart after out of memory with a smaller batch (`compute.after_out_of_memory`), and what its start.json
    holds of the changed config; None where that is not asked for, and for a batch of one window."""
    asked = text(config.get("compute"), "after_out_of_memory") == "halve_batch" and config.get("task") != "command"
    if not asked or failure is None or failure.kind != "out_of_memory":
        return None
    from runctl import changes
    from runctl import config as configs

    changed = changes.halved(config)
    if changed is None:
        return None
    found = changes.between(config, changed)
    keys = dict.fromkeys([*(accepted or []), *(change.key for change in found)])
    held = {
        "config": changed,
        "digest": configs.digest(configs.from_effective(changed)),
        "accepted": list(keys),
        "changes": [change.to_json() for change in found],
        "changed_by": "out of memory",
    }
    said = f"attempt {attempt} failed ({failure.kind}: {failure.cause}); again with a smaller batch: "
    return Restart(0, 0, 0.0, said + "; ".join(change.words for change in found)), held


def since_launch(launched: Mapping[str, Any], now: Mapping[str, Any], keys: Any) -> str:
    """`words` of how a run's config differs from that of its launch, of the keys that were ever changed."""
    rows = []
    for key in keys if isinstance(keys, list) else []:
        old, new = (_value(content.get("config"), str(key)) for content in (launched, now))
        rows += [{"key": key, "old": old, "new": new}] if old != new else []
    return words(rows)


def _value(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config.get(part) if isinstance(config, Mapping) else None
    return config
