"""Single values out of data that may be torn, foreign or nonsense: of the wanted type, or None."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")
MOST_LETTERS = 10_000


def number(data: Any, key: str) -> float | None:
    """A finite number; True and False are none."""
    value = data.get(key) if type(data) is dict or isinstance(data, Mapping) else None
    if type(value) is float:  # as nearly always: a list of ten thousand runs asks for a hundred thousand
        return value if math.isfinite(value) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def whole(data: Any, key: str) -> int | None:
    """A whole number of at most 64 bits: what is larger counts nothing."""
    value = data.get(key) if type(data) is dict or isinstance(data, Mapping) else None
    return value if type(value) is int and value.bit_length() < 64 else None


def text(data: Any, key: str) -> str | None:
    """A text; of a very long one its begin."""
    value = data.get(key) if type(data) is dict or isinstance(data, Mapping) else None
    return value[:MOST_LETTERS] if isinstance(value, str) else None


_HELD_OUT = ("val/", "val_", "valid_", "validation_", "eval_", "eval/", "test_")
_TAKEN = ("_seconds", "_runtime", "_per_second", "_time")


def held_out(name: str) -> bool:
    """Whether a metric is one of a validation: `val/loss` as runctl's trainer names it, `val_loss` or `eval_loss`. How
    long it took is none."""
    return name.startswith(_HELD_OUT) and not name.endswith(_TAKEN)


def first_of(values: Iterable[T | None]) -> T | None:
    """The first value that is not None."""
    return next((value for value in values if value is not None), None)


def storable(data: Any) -> Any:
    """JSON data as any reader takes it: a number that is not finite, which programs do write, becomes null."""
    if isinstance(data, dict):
        return {key: storable(value) for key, value in data.items()}
    if isinstance(data, list):
        return [storable(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
