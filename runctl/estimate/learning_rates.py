"""The learning rates that models of a size usually bear (`data/learning_rates.yaml`)."""

from __future__ import annotations

import itertools
import math
from functools import cache
from typing import Any

from runctl import shipped
from runctl.config.declares import parse_count
from runctl.light import dataclass


@dataclass(frozen=True)
class Band:
    """Rates that are usual, and the nearest published one with its source; None for SGD, which no size governs."""

    low: float
    high: float
    published: float | None
    source: str


def band(parameters: int, kind: str, optimizer: str) -> Band | None:
    """The usual rates for a model of so many parameters. `kind` is scratch, finetune, lora or unknown; None where
    nothing is known of the optimizer."""
    data = _data()
    name = optimizer.lower()
    rule = next((value for word, value in data["optimizers"].items() if word in name), None)
    if rule is None:
        return None
    if "range" in rule:
        low, high = rule["range"]
        return Band(low, high, None, "")
    factors = data["kinds"][kind]
    rate, source = _published(parameters)
    rate *= rule["scale"]
    return Band(rate / factors["below"], rate * factors["above"], rate, source)


def _published(parameters: int) -> tuple[float, str]:
    points = _points()
    if parameters <= points[0][0]:
        return points[0][1], points[0][2]
    for (size, lr, _), (above, lr_above, source) in itertools.pairwise(points):
        if parameters <= above:
            share = math.log(parameters / size) / math.log(above / size)
            return lr * (lr_above / lr) ** share, source
    return points[-1][1], points[-1][2]


@cache
def _points() -> tuple[tuple[int, float, str], ...]:
    data = _data()
    return tuple((parse_count(raw["parameters"]), raw["lr"], data["sources"][raw["source"]]) for raw in data["peaks"])


@cache
def _data() -> dict[str, Any]:
    found: dict[str, Any] = shipped.load("learning_rates.yaml")
    return found
