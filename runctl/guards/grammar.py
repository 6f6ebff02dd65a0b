"""A guard's condition, read by a grammar: text → a plain mapping that `evaluate` understands. Nothing is evaluated.

val/loss > 0.40 after 1 epoch for 3 evals on missing stop
nan · nan in train/loss
spike of train/loss z > 6 over 50 · spike of train/grad_norm ratio > 10 over 50
plateau of val/loss over 5 evals by less than 0.001
first train/loss far from ln(50257) · first train/loss > 100
floor ln(256) of train/loss
examples_per_second < 50% of the estimate for 10m · throughput < 50% of the probe · memory > 120% of the start
mfu < 2% for 10m · skipped > 1% · oom > 1%
drift of throughput > 30% after 10m · creep of memory > 30% after 10m
chance of val/accuracy among 10 after 1 epoch · chance of train/loss among 50257 within 0.2 after 500 steps
no checkpoint for 30m · no checkpoint for 5000 steps
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import lark

from runctl.guards.defaults import at_chance
from runctl.light import pattern
from runctl.units import parse_bytes, parse_duration

ACCEPTED = (
    "val/loss > 0.40",
    "nan",
    "spike of train/loss z > 6 over 50",
    "spike of train/loss ratio > 3 over 50",
    "plateau of val/loss over 5 evals by less than 0.001",
    "floor ln(256) of train/loss",
    "first train/loss far from ln(50257)",
    "chance of val/accuracy among 10",
    "examples_per_second < 50% of the estimate",
    "drift of throughput > 30%",
    "mfu < 2%",
    "memory > 20GiB",
    "creep of memory > 30%",
    "skipped > 1%",
    "no checkpoint for 30m",
)
HINT = "write it like one of: " + " · ".join(ACCEPTED)
AFTER_HINT = "write it as 1 epoch, 500 steps or 10m"
MOST = 100_000  # values that a condition may look back on
ALIASES = {"memory": "memory_bytes", "throughput": "examples_per_second"}

_GRAMMAR = r"""
condition: test clause*
?test: METRIC OP value                                      -> compare
     | "nan" ["in" METRIC]                                  -> nan
     | "spike" ["of" METRIC] SCORE ">" NUMBER ["over" NUMBER]  -> spike
     | "plateau" "of" METRIC "over" NUMBER COUNTED "by" "less" "than" NUMBER  -> plateau
     | ("drift" | "creep") "of" METRIC ">" PERCENT          -> drift
     | "chance" "of" METRIC "among" NUMBER ["within" NUMBER]  -> chance
     | "floor" value ["of" METRIC]                          -> floor
     | "first" METRIC OP value                              -> first
     | "first" METRIC "far" "from" value                    -> far
     | "no" "checkpoint" "for" span                         -> checkpoint
clause: "after" moment                                      -> after
      | "for" hold                                          -> hold
      | "on" "missing" DO                                   -> missing
moment: span | NUMBER EPOCHS                                -> epochs
?span: DURATION                                             -> seconds
     | NUMBER STEPS                                         -> steps
?hold: DURATION                                             -> seconds
     | NUMBER COUNTED                                       -> times
?value: NUMBER                                              -> number
      | SIZE                                                -> size
      | PERCENT ["of" "the" BASE]                           -> percent
      | "ln" "(" NUMBER ")"                                 -> logarithm
OP: ">=" | "<=" | ">" | "<"
SCORE: "z" | "ratio"
DO: "note" | "stop"
BASE: "estimate" | "probe" | "start" | "best"
COUNTED: /evals?|validations?|rows?/
STEPS: /steps?/
EPOCHS: /epochs?/
NUMBER: /[+-]?(\d[\d_]*(\.\d*)?|\.\d+)([eE][+-]?\d+)?/
SIZE.2: /\d+(\.\d+)?\s*[KMGT]iB/
PERCENT.2: /\d+(\.\d+)?\s*%/
DURATION.2: /(\d+(\.\d+)?\s*(ms|sec|s|min|m|hours?|hr|h|days?|d)(?![A-Za-z])\s*)+/
METRIC: /[A-Za-z_][\w.\/@:\-]*/
%ignore /\s+/
"""


def condition(text: str) -> dict[str, Any]:
    """{"test": …, "after": …, "hold": …, "missing": …} of a condition; raises ValueError that says what is wrong."""
    found: dict[str, Any] = _made(text, "condition", f"{text!r} is no condition")
    return found


def moment(text: str) -> dict[str, float]:
    """`{"epochs": 1.0}`, `{"steps": 500.0}` or `{"seconds": 600.0}`; raises ValueError."""
    found: dict[str, float] = _made(text, "moment", f"{text!r} is no point of a run")
    return found


_DECIMAL = pattern(r"([KMGT])B")  # a unit of memory that could mean either


@cache
def _parser() -> lark.Lark:
    return lark.Lark(_GRAMMAR, parser="lalr", start=["condition", "moment"], maybe_placeholders=True)


def _made(text: str, start: str, wrong: str) -> Any:
    if len(text) > 1_000:
        raise ValueError(f"a condition of {len(text):,} characters is none")
    try:
        return _Maker().transform(_parser().parse(text, start=start))
    except lark.exceptions.VisitError as error:
        raise ValueError(f"{wrong}: {error.orig_exc}") from None
    except lark.exceptions.UnexpectedInput as error:
        column = getattr(error, "column", -1)
        ended = getattr(getattr(error, "token", None), "type", "") == "$END"
        rest = text[column - 1 :].split() if isinstance(column, int) and column > 0 and not ended else []
        said = f"{rest[0]!r} was not expected" if rest else "it ends too early"
        if rest and (unit := _DECIMAL.fullmatch(rest[0])):
            said += f"; write {unit[1]}iB"
        raise ValueError(f"{wrong}: {said}") from None


def _count(text: str) -> int:
    number = float(text)
    if number != int(number) or not 1 <= number <= MOST:
        raise ValueError(f"{text} is no count; it is a whole number from 1 to {MOST:,}")
    return int(number)


def _metric(token: Any, otherwise: str = "loss") -> str:
    name = str(token) if token is not None else otherwise
    return ALIASES.get(name, name)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not finite")
    return number


def _above_zero(number: float, what: str) -> float:
    if not number > 0:
        raise ValueError(f"{what} must be above zero")
    return number


class _Maker(lark.Transformer[Any, Any]):
    """The parse tree, from its leaves up, as plain data."""

    def number(self, found: list[Any]) -> dict[str, Any]:
        return {"value": _finite(found[0])}

    def size(self, found: list[Any]) -> dict[str, Any]:
        return {"value": float(parse_bytes(str(found[0]))), "shown": "bytes"}

    def percent(self, found: list[Any]) -> dict[str, Any]:
        share = float(str(found[0]).rstrip("% ")) / 100
        return {"value": share, "of": str(found[1])} if found[1] else {"value": share, "shown": "percent"}

    def logarithm(self, found: list[Any]) -> dict[str, Any]:
        return {"value": math.log(_above_zero(_finite(found[0]), "the argument of ln"))}

    def seconds(self, found: list[Any]) -> dict[str, float]:
        return {"seconds": _above_zero(parse_duration(str(found[0])), "a duration")}

    def steps(self, found: list[Any]) -> dict[str, float]:
        return {"steps": _above_zero(_finite(found[0]), "a number of steps")}

    def epochs(self, found: list[Any]) -> dict[str, float]:
        return {"epochs": _above_zero(_finite(found[0]), "a number of epochs")}

    def moment(self, found: list[Any]) -> Any:
        return found[0]

    def times(self, found: list[Any]) -> dict[str, int]:
        return {"times": _count(found[0])}

    def compare(self, found: list[Any]) -> dict[str, Any]:
        return {"kind": "compare", "metric": _metric(found[0]), "op": str(found[1]), **found[2]}

    def floor(self, found: list[Any]) -> dict[str, Any]:
        return {"kind": "compare", "metric": _metric(found[1]), "op": "<", "floor": True, **_absolute(found[0])}

    def nan(self, found: list[Any]) -> dict[str, Any]:
        return {"kind": "nan", "metric": None if found[0] is None else _metric(found[0])}

    def spike(self, found: list[Any]) -> dict[str, Any]:
        over = 50 if found[3] is None else _count(found[3])
        if over < 5:
            raise ValueError("a spike stands out of at least 5 values")
        limit = _above_zero(_finite(found[2]), "the limit of a spike")
        return {"kind": "spike", "metric": _metric(found[0]), "by": str(found[1]), "value": limit, "over": over}

    def plateau(self, found: list[Any]) -> dict[str, Any]:
        least = _above_zero(_finite(found[3]), "the least improvement")
        return {"kind": "plateau", "metric": _metric(found[0]), "over": _count(found[1]), "value": least}

    def drift(self, found: list[Any]) -> dict[str, Any]:
        share = _above_zero(float(str(found[1]).rstrip("% ")) / 100, "the limit of a drift")
        return {"kind": "drift", "metric": _metric(found[0]), "value": share}

    def chance(self, found: list[Any]) -> dict[str, Any]:
        metric, classes = _metric(found[0]), _finite(found[1])
        if classes != int(classes) or classes < 2:
            raise ValueError(f"{found[1]} is no number of classes; it is a whole number from 2 on")
        if found[2] is not None:
            return at_chance(metric, int(classes), _above_zero(_finite(found[2]), "what lies within chance"))
        return at_chance(metric, int(classes))

    def first(self, found: list[Any]) -> dict[str, Any]:
        return {"kind": "first", "metric": _metric(found[0]), "op": str(found[1]), **_absolute(found[2])}

    def far(self, found: list[Any]) -> dict[str, Any]:
        value = _absolute(found[1])
        _above_zero(value["value"], "what the first value is compared with")
        return {"kind": "first", "metric": _metric(found[0]), "op": "far", **value}

    def checkpoint(self, found: list[Any]) -> dict[str, Any]:
        return {"kind": "checkpoint", **found[0]}

    def after(self, found: list[Any]) -> tuple[str, Any]:
        return "after", found[0]

    def hold(self, found: list[Any]) -> tuple[str, Any]:
        return "hold", found[0]

    def missing(self, found: list[Any]) -> tuple[str, Any]:
        return "missing", str(found[0])

    def condition(self, found: list[Any]) -> dict[str, Any]:
        test, *clauses = found
        names = [name for name, _ in clauses]
        for name, word in (("after", "after"), ("hold", "for"), ("missing", "on missing")):
            if names.count(name) > 1:
                raise ValueError(f"'{word}' is given twice")
        if "hold" in names and test["kind"] not in ("compare", "chance"):
            raise ValueError("'for' goes with METRIC > NUMBER and with chance only")
        if "missing" in names and not test.get("metric"):
            raise ValueError("'on missing' needs a metric")
        return {"test": test, "after": None, "hold": None, "missing": "note", **dict(clauses)}


def _absolute(value: dict[str, Any]) -> dict[str, Any]:
    if "of" in value:
        raise ValueError("a share of something goes with METRIC > NUMBER only")
    return value
