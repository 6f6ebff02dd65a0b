"""The guards that every run has, from its config as run.json holds it. Free of the grammar and of YAML: the supervisor
of a run that was launched without a list of guards makes them here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from runctl.fields import number, text, whole
from runctl.light import dataclass
from runctl.units import counted, format_duration, parse_duration

ABSURD_LOSS = 1_000.0  # of the world model's weighted sum of losses; a sound start is between 5 and 50
_LEAST_SECONDS = 120.0  # a validation or a slow disk is no fault
_INTERVALS = 3  # so many of the asked intervals without a checkpoint are too many


@dataclass(frozen=True)
class Known:
    """What a launch knows of a run besides its config; None and why where it does not."""

    usd_per_hour: float | None = None
    examples_per_second: float | None = None
    memory_bytes: float | None = None
    steps_per_epoch: int | None = None
    why: Mapping[str, str] | None = None

    def because(self, name: str) -> str:
        return (self.why or {}).get(name, "it is not known")


NOTHING = Known()


def guards(config: Mapping[str, Any], known: Known = NOTHING) -> list[dict[str, Any]]:
    """The default guards of a config, each on, or off with the reason."""
    command = config.get("task") == "command"
    found = [
        guard("nan", {"kind": "nan", "metric": None}, "stop"),
        _first(config, command),
        _checkpoint(config, known, command),
        guard("skipped > 1%", {"kind": "compare", "metric": "skipped", "op": ">", "value": 0.01}, "note"),
    ]
    budget = config.get("budget")
    hours, usd = number(budget, "max_hours"), number(budget, "max_cost_usd")
    if hours is not None and hours > 0:
        found.append(guard("budget.max_hours", {"kind": "hours", "value": hours}, "stop", "budget.max_hours"))
    if usd is not None:
        rate = known.usd_per_hour
        test = {"kind": "cost", "value": usd, "usd_per_hour": rate or 0.0}
        found.append(guard("budget.max_cost_usd", test, "stop", "budget.max_cost_usd"))
        if rate is None:
            found[-1] |= {"on": False, "off_because": f"the price is unknown: {known.because('usd_per_hour')}"}
        elif rate == 0:
            found[-1] |= {"on": False, "off_because": "an hour costs nothing here"}
    return found


def guard(name: str, test: dict[str, Any], do: str, origin: str = "default") -> dict[str, Any]:
    """A guard as run.json holds it, without its words."""
    base = {"name": name, "origin": origin, "on": True, "off_because": "", "do": do, "why": None}
    return {**base, "after": None, "hold": None, "missing": "ignore", "test": test}


def _first(config: Mapping[str, Any], command: bool) -> dict[str, Any]:
    vocabulary = whole(config.get("declares"), "vocab_size")
    if command and vocabulary and vocabulary > 1:
        found = guard("first loss far from ln V", _first_test("loss", "far", math.log(vocabulary)), "note")
        found["test"]["basis"] = f"ln {vocabulary:,}"
        return found
    found = guard("first loss", _first_test("loss" if command else "train/loss", ">", ABSURD_LOSS), "note")
    if command:
        found |= {"on": False, "off_because": "declares.vocab_size is not given, so nothing says what is absurd"}
    return found


def _first_test(metric: str, op: str, value: float) -> dict[str, Any]:
    return {"kind": "first", "metric": metric, "op": op, "value": value}


def _checkpoint(config: Mapping[str, Any], known: Known, command: bool) -> dict[str, Any]:
    test: dict[str, Any] = {"kind": "checkpoint", "seconds": 3600.0}
    try:
        off = _cadence(config, known, command, test)
    except (ValueError, OverflowError):  # of a damaged record
        test = {"kind": "checkpoint", "seconds": 3600.0}
        off = "checkpoint.every cannot be read"
    span = format_duration(test["seconds"]) if "seconds" in test else counted(int(test["steps"]), "step")
    name = "no checkpoint in time" if off else f"no checkpoint for {span.removesuffix('00s').removesuffix('00m')}"
    found = guard(name, test, "note")
    return found | {"on": not off, "off_because": off}


def _cadence(config: Mapping[str, Any], known: Known, command: bool, test: dict[str, Any]) -> str:
    """Put into the test how long is too long; returns why that cannot be said."""
    every = text(config.get("checkpoint"), "every")
    amount, _, unit = (every or "").partition(" ")
    if command:
        return "a program of your own says itself when it saves: add a guard such as no checkpoint for 30m"
    if every is None:
        return "checkpoint.every is never"
    if unit.startswith("epoch") and not known.steps_per_epoch:
        return f"the steps of an epoch are unknown: {known.because('steps_per_epoch')}"
    if unit.startswith(("step", "epoch")):
        del test["seconds"]
        each = 1 if unit.startswith("step") else known.steps_per_epoch or 1
        test["steps"] = math.ceil(_INTERVALS * float(amount) * each)
    else:
        test["seconds"] = max(_LEAST_SECONDS, _INTERVALS * parse_duration(every))
    return ""
