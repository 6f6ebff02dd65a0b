"""A guard in a sentence, and what tripped it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runctl.units import counted, format_bytes, format_duration, format_usd

ACTIONS = {
    "note": "a note is made if",
    "notify": "a notice is given if",
    "checkpoint": "a checkpoint is saved if",
    "stop": "the run will be stopped, with a checkpoint, if",
    "kill": "the run will be killed at once if",
    "nothing": "nothing happens if",
}
_OPS = {">": "above", "<": "below", ">=": "at or above", "<=": "at or below"}
_BASES = {"best": "its best", "start": "what it was at the start", "estimate": "the estimate", "probe": "the probe"}
_HIGHER_IS_BETTER = ("acc", "score", "f1", "auc", "bleu", "reward", "recall", "precision", "per_second", "mfu")


def sentence(guard: Mapping[str, Any], command: bool = False) -> str:
    """`the run will be stopped, with a checkpoint, if val/loss is above 0.4 at any validation after epoch 1`."""
    action = ACTIONS[guard["do"]]
    if command:  # whether a program of one's own saves when it is asked to end is its own business
        action = action.replace(", with a checkpoint,", "")
    judged = ", judged" if guard["test"]["kind"] == "drift" and guard.get("after") else ""
    said = f"{action} {_test(guard)}{judged}{_after(guard.get('after'))}"
    if guard["test"]["kind"] in ("hours", "cost"):
        said += "; a notice at 50 %, 80 % and 100 %"
    if guard.get("missing") == "stop":
        said += f", or {guard['test']['metric']} is missing"
    return said


def line(guard: Mapping[str, Any]) -> str:
    """`the run will be stopped, with a checkpoint, if any loss is NaN or infinite`; whether it is off, and why."""
    state = "" if guard["on"] else f" - off: {guard['off_because']}"
    because = f" ({guard['why']})" if guard["why"] else ""
    return f"{guard['words']}{because}{state}"


def figure(value: float, shown: str | None = None) -> str:
    """A value as people read it."""
    if shown == "bytes":
        return format_bytes(value)
    if shown == "percent":
        return f"{100 * value:.3g} %"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.6g}"


def shown_as(test: Mapping[str, Any]) -> str | None:
    """How the values of a metric are written."""
    if test.get("metric") == "memory_bytes":
        return "bytes"
    return "percent" if test.get("metric") in ("skipped", "oom", "mfu") else test.get("shown")


def level(test: Mapping[str, Any]) -> str:
    """What chance is, and how near to it counts."""
    return f"{figure(test['value'])} within {test['within']:.3g}"


def more_is_better(metric: str) -> bool:
    """Whether a metric is better the higher it is, by its name."""
    name = metric.lower()
    return any(word in name for word in _HIGHER_IS_BETTER) and "loss" not in name


def perplexity(metric: str) -> bool:
    return any(word in metric.lower() for word in ("perplexity", "ppl"))


def limit(test: Mapping[str, Any]) -> str:
    """What a metric is compared with."""
    text = figure(test["value"], shown_as(test))
    if test.get("of"):
        text = f"{100 * test['value']:.3g} % of {_BASES[test['of']]}"
    return text + (f" ({test['basis']})" if test.get("basis") else "")


def _test(guard: Mapping[str, Any]) -> str:
    test = guard["test"]
    kind, metric = test["kind"], test.get("metric")
    if kind == "compare":
        said = f"{metric} is {_OPS[test['op']]} {limit(test)}{_span(guard)}"
        return said + (", its theoretical minimum: a sign of a leak" if test.get("floor") else "")
    if kind == "nan":
        return f"{metric or 'any loss'} is NaN or infinite"
    if kind == "spike" and test["by"] == "z":
        spread = f"{test['value']:g} standard deviations"
        return f"{metric} is more than {spread} above the mean of its last {test['over']} values"
    if kind == "spike":
        return f"{metric} is more than {test['value']:g} times the mean of its last {test['over']} values"
    if kind == "plateau":
        return f"{metric} got better by less than {test['value']:g} over {counted(test['over'], 'evaluation')}"
    if kind == "drift":
        way = "fallen" if more_is_better(str(metric)) else "risen"
        return f"{metric} has steadily {way} by more than {100 * test['value']:g} % since the attempt began"
    if kind == "chance" and not guard["on"]:  # among how many is not known
        return f"{metric} is no better than chance"
    if kind == "chance":
        return f"{metric} is no better than chance among {test['classes']:,} classes, {level(test)}{_span(guard)}"
    if kind == "first":
        side = "more than a factor 2 from" if test["op"] == "far" else _OPS[test["op"]]
        return f"the first {metric} is {side} {limit(test)}"
    if kind == "checkpoint":
        return f"no checkpoint is saved for {_amount(test)}"
    if kind == "hours":
        return f"{test['value']:g} h are used up, all attempts together"
    rate = f", at {format_usd(test['usd_per_hour'])}/h" if test["usd_per_hour"] else ""
    return f"{format_usd(test['value'])} are spent, all attempts together{rate}"


def _span(guard: Mapping[str, Any]) -> str:
    hold, held_out = guard.get("hold") or {}, str(guard["test"]["metric"]).startswith("val/")
    if "seconds" in hold:
        return f" for {format_duration(hold['seconds'])}"
    times, noun = hold.get("times", 1), "validation" if held_out else "value"
    if times > 1:
        return f" at {counted(times, noun)} in a row"
    return " at any validation" if held_out else ""


def _after(after: Mapping[str, float] | None) -> str:
    if not after:
        return ""
    if "epochs" in after:
        return f" after epoch {after['epochs']:g}"
    if "steps" in after:
        return f" after step {after['steps']:,.0f}"
    return f" after the first {format_duration(after['seconds'])}"


def _amount(span: Mapping[str, float]) -> str:
    return format_duration(span["seconds"]) if "seconds" in span else counted(int(span["steps"]), "step")
