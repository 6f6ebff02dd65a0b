"""The guards that every run has, from its config as run.json holds it. Free of the grammar and of YAML: the supervisor
of a run that was launched without a list of guards makes them here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from runctl.fields import number, text, whole
from runctl.guards import words
from runctl.light import dataclass
from runctl.units import counted, format_duration, parse_duration

ABSURD_LOSS = 1_000.0  # of the world model's weighted sum of losses; a sound start is between 5 and 50
_LEAST_SECONDS = 120.0  # a validation or a slow disk is no fault
_INTERVALS = 3  # so many of the asked intervals without a checkpoint are too many
_PATIENCE_SECONDS = 600.0  # a slow minute is no trend
_LEARNS_WITHIN = 0.1  # of the steps: a loss that is still at chance then is stuck
_SCATTER = 1_000  # examples whose accuracy scatters as much as is taken for chance
_CHANCE_SHARE = 0.02  # of ln V


@dataclass(frozen=True)
class Known:
    """What a launch knows of a run besides its config; None and why where it does not. `measured`: whether the
    estimate of the time rests on a measurement of this device; `peak_words` say whose `peak_flops` (per second) is."""

    usd_per_hour: float | None = None
    examples_per_second: float | None = None
    probe_examples_per_second: float | None = None
    measured: bool = False
    memory_bytes: float | None = None
    gpu: bool = False
    steps: int | None = None
    steps_per_epoch: int | None = None
    flops_per_example: float | None = None
    peak_flops: float | None = None
    peak_words: str = ""
    why: Mapping[str, str] | None = None

    def because(self, name: str) -> str:
        return (self.why or {}).get(name, "it is not known")


NOTHING = Known()


def guards(config: Mapping[str, Any], known: Known = NOTHING) -> list[dict[str, Any]]:
    """The default guards of a config, each on, or off with the reason."""
    command = config.get("task") == "command"
    loss = "loss" if command else "train/loss"
    vocabulary = whole(config.get("declares"), "vocab_size") if command else None
    found = [
        guard("nan", {"kind": "nan", "metric": None}, "stop"),
        _first(loss, vocabulary, command),
        _floor(loss, vocabulary, command),
        _chance(loss, vocabulary, known),
        guard(f"spike of {loss} ratio > 10 over 50", _spike(loss), "note"),
        _checkpoint(config, known, command),
        guard("skipped > 1%", _compare("skipped", ">", 0.01), "note"),
        guard("oom > 1%", _compare("oom", ">", 0.01), "note"),
        _throughput(known),
        _slowly("drift of throughput > 30%", "examples_per_second"),
        _slowly("creep of memory > 30%", "memory_bytes"),
        _memory(known),
        _utilisation(known),
    ]
    if not command:  # its trainer leaves no batch out
        found = [one for one in found if one["name"] not in ("skipped > 1%", "oom > 1%", "loss at chance")]
    return [*(settled(one, known) for one in found), *_budget(config, known)]


def guard(name: str, test: dict[str, Any], do: str, origin: str = "default") -> dict[str, Any]:
    """A guard as run.json holds it, without its words."""
    base = {"name": name, "origin": origin, "on": True, "off_because": "", "do": do, "why": None}
    return {**base, "after": None, "hold": None, "missing": "ignore", "test": test}


def settled(guard: dict[str, Any], known: Known) -> dict[str, Any]:
    """The guard with what is known of the run put in: a share of an estimate becomes a number, a utilisation gets its
    arithmetic. Where that is not known the guard is off, and says why."""
    test = guard["test"]
    if not guard["on"]:
        return guard
    if test.get("of") in ("estimate", "probe"):
        return _shared(guard, known)
    if test.get("metric") == "mfu" and test["kind"] in ("compare", "drift"):
        if known.flops_per_example and known.peak_flops:
            arithmetic = {"flops": known.flops_per_example, "peak": known.peak_flops}
            return guard | {"test": {**test, **arithmetic, "basis": f"of {known.peak_words}"}}
        missing = "peak_flops" if known.flops_per_example else "flops_per_example"
        if guard["origin"] != "default" and missing == "flops_per_example":
            return guard  # a program of one's own may report it
        return _off(guard, f"the utilisation cannot be told: {known.because(missing)}")
    return guard


def at_chance(metric: str, classes: int, within: float | None = None) -> dict[str, Any]:
    """The test whether a metric is no better than chance among so many classes: an accuracy at 1/N or below, a loss at
    ln N or above, a perplexity at N. Without `within`, an accuracy has three standard errors over 1,000 examples, and
    a loss a fiftieth."""
    if words.more_is_better(metric):
        level = 1 / classes
        scatter = 3 * math.sqrt(level * (1 - level) / _SCATTER)
        op, within = "<=", scatter if within is None else within
    else:
        level = float(classes) if words.perplexity(metric) else math.log(classes)
        op, within = ">=", _CHANCE_SHARE * level if within is None else within
    return {"kind": "chance", "metric": metric, "op": op, "value": level, "within": within, "classes": classes}


def _shared(guard: dict[str, Any], known: Known) -> dict[str, Any]:
    """A share of the estimate or of the probe as a number."""
    test = guard["test"]
    metric, base, share = test["metric"], test["of"], test["value"]
    values = {
        "estimate": {"examples_per_second": known.examples_per_second, "memory_bytes": known.memory_bytes},
        "probe": {"examples_per_second": known.probe_examples_per_second},
    }[base]
    value = values.get(metric)
    if value is None:
        reason = "probe" if base == "probe" else metric
        of = " and ".join({"estimate": ("memory", "examples_per_second"), "probe": ("examples_per_second",)}[base])
        only = f"only {of} {'are estimated' if base == 'estimate' else 'is taken from a probe'}"
        why = known.because(reason) if metric in values else only
        return _off(guard, f"no {base} of {metric}: {why}")
    kept = {key: one for key, one in test.items() if key != "of"}
    return guard | {"test": {**kept, "value": share * value, "basis": f"{100 * share:.3g} % of the {base}"}}


def _off(guard: dict[str, Any], why: str) -> dict[str, Any]:
    return guard | {"on": False, "off_because": why}


def _compare(metric: str, op: str, value: float) -> dict[str, Any]:
    return {"kind": "compare", "metric": metric, "op": op, "value": value}


def _spike(metric: str) -> dict[str, Any]:
    return {"kind": "spike", "metric": metric, "by": "ratio", "value": 10.0, "over": 50}


def _first(loss: str, vocabulary: int | None, command: bool) -> dict[str, Any]:
    if vocabulary and vocabulary > 1:
        found = guard("first loss far from ln V", _first_test(loss, "far", math.log(vocabulary)), "note")
        found["test"]["basis"] = f"ln {vocabulary:,}"
        return found
    found = guard("first loss", _first_test(loss, ">", ABSURD_LOSS), "note")
    return _off(found, "declares.vocab_size is not given, so nothing says what is absurd") if command else found


def _first_test(metric: str, op: str, value: float) -> dict[str, Any]:
    return {"kind": "first", "metric": metric, "op": op, "value": value}


def _floor(loss: str, vocabulary: int | None, command: bool) -> dict[str, Any]:
    found = guard(f"floor 0 of {loss}", {**_compare(loss, "<", 0.0), "floor": True}, "note")
    if command and not vocabulary:
        return _off(found, "declares.vocab_size is not given, so nothing says how low a loss may be")
    return found


def _chance(loss: str, vocabulary: int | None, known: Known) -> dict[str, Any]:
    found = guard("loss at chance", at_chance(loss, max(2, vocabulary or 2)), "note")
    if not vocabulary or vocabulary < 2:
        return _off(found, "declares.vocab_size is not given, so nothing says what chance is")
    steps = known.steps
    after = {"steps": float(math.ceil(_LEARNS_WITHIN * steps))} if steps else {"seconds": _PATIENCE_SECONDS}
    return found | {"after": after}


def _throughput(known: Known) -> dict[str, Any]:
    test = {**_compare("examples_per_second", "<", 0.5), "of": "estimate"}
    found = guard("throughput < 50% of the estimate for 10m", test, "note") | {"hold": {"seconds": _PATIENCE_SECONDS}}
    if known.examples_per_second is not None and not known.measured:
        return _off(found, "nothing of this kind was measured on this device: runctl probe CONFIG")
    return found


def _slowly(name: str, metric: str) -> dict[str, Any]:
    test = {"kind": "drift", "metric": metric, "value": 0.3}
    return guard(f"{name} after 10m", test, "note") | {"after": {"seconds": _PATIENCE_SECONDS}}


def _memory(known: Known) -> dict[str, Any]:
    found = guard("memory > 120% of the estimate", {**_compare("memory_bytes", ">", 1.2), "of": "estimate"}, "note")
    if known.memory_bytes is not None and not known.gpu:
        return _off(found, "on the CPU a process also holds Python and its libraries, which are not estimated")
    return found


def _utilisation(known: Known) -> dict[str, Any]:
    test = {**_compare("mfu", "<", 0.01), "shown": "percent"}
    found = guard("mfu < 1% for 10m", test, "note") | {"hold": {"seconds": _PATIENCE_SECONDS}}
    return found if known.gpu else _off(found, "the run uses no GPU that is known")


def _budget(config: Mapping[str, Any], known: Known) -> list[dict[str, Any]]:
    budget, found = config.get("budget"), []
    hours, usd = number(budget, "max_hours"), number(budget, "max_cost_usd")
    if hours is not None and hours > 0:
        found.append(guard("budget.max_hours", {"kind": "hours", "value": hours}, "stop", "budget.max_hours"))
    if usd is not None:
        rate = known.usd_per_hour
        test = {"kind": "cost", "value": usd, "usd_per_hour": rate or 0.0}
        ceiling = guard("budget.max_cost_usd", test, "stop", "budget.max_cost_usd")
        if rate is None:
            ceiling = _off(ceiling, f"the price is unknown: {known.because('usd_per_hour')}")
        elif rate == 0:
            ceiling = _off(ceiling, "an hour costs nothing here")
        found.append(ceiling)
    return found


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
