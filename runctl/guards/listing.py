"""The guards of a run: those of its config, then the defaults that they leave, each in words. Made at preflight and
launch, and kept in run.json for the supervisor, which reads no conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runctl.guards import defaults, words
from runctl.guards.defaults import NOTHING, Known

MOST = 200  # guards of one run


def problems(guards: list[Any]) -> list[tuple[int, str, str, str]]:
    """What is wrong with the guards of a config: (index, key, message, what is accepted)."""
    from runctl.guards import grammar

    found: list[tuple[int, str, str, str]] = []
    if len(guards) > MOST:
        return [(MOST, "when", f"{len(guards):,} guards are too many", f"a run has at most {MOST}")]
    for index, guard in enumerate(guards):
        try:
            made = grammar.condition(guard.when)
            if made["after"] and guard.after:
                found.append((index, "after", "'after' is given twice", "give it here or in `when`"))
            if guard.do == "kill" and made["missing"] == "stop":
                found.append((index, "when", "on missing stop, but do: kill", "use do: stop"))
        except ValueError as error:
            found.append((index, "when", str(error), grammar.HINT))
        try:
            if guard.after is not None:
                grammar.moment(guard.after)
        except ValueError as error:
            found.append((index, "after", str(error), grammar.AFTER_HINT))
    return found


def made(
    config: Mapping[str, Any], known: Known = NOTHING, kill: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Every guard of a config (as `to_effective` gives it), and of the `kill` thresholds of its card, as plain data;
    raises ValueError for a bad condition."""
    own = [_own(one, f"guards[{index}]", config, known) for index, one in enumerate(config.get("guards") or [])]
    own += [_own(one, f"card, kill[{index}]", config, known) for index, one in enumerate(kill)]
    taken = {_subject(guard["test"]) for guard in own} - {None}
    kept = [guard for guard in defaults.guards(config, known) if _subject(guard["test"]) not in taken]
    found = [*own, *kept]
    for guard in found:
        guard["words"] = words.sentence(guard, command=config.get("task") == "command")
    return found


def _own(guard: Mapping[str, Any], origin: str, config: Mapping[str, Any], known: Known) -> dict[str, Any]:
    from runctl.guards import grammar

    read = grammar.condition(guard["when"])
    after = grammar.moment(guard["after"]) if guard.get("after") else read["after"]
    found = defaults.guard(" ".join(guard["when"].split()), read["test"], guard["do"], origin)
    found |= {"why": guard.get("why"), "after": after, "hold": read["hold"], "missing": read["missing"]}
    if read["test"].get("metric") == "loss" and config.get("task") != "command":
        read["test"]["metric"] = "train/loss"
    if guard["do"] == "nothing":
        return found | {"on": False, "off_because": "do: nothing"}
    if found["after"] and "epochs" in found["after"] and known.steps_per_epoch:
        found["after"] = {**found["after"], "steps_per_epoch": known.steps_per_epoch}
    return defaults.settled(found, known)


_ONE_FOR_ALL = ("skipped", "oom", "mfu", "examples_per_second", "memory_bytes")  # metrics with a limit of their own


def _subject(test: Mapping[str, Any]) -> str | None:
    """What a default guard is about; a guard of the config's own about the same stands in its place."""
    kind, metric = str(test["kind"]), str(test.get("metric"))
    if kind == "compare":
        return metric if metric in _ONE_FOR_ALL else "floor" if test.get("floor") else None
    if kind == "drift":
        return f"drift of {metric}"
    return kind if kind in ("nan", "first", "checkpoint", "spike", "chance") else None
