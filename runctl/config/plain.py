"""What is plainly a valid value of a type: small functions that return it, or doubt it.

They may doubt whatever they like, and must never accept what pydantic would refuse or change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

Check = Callable[[Any], Any]
_EXACT = 1 << 53  # beyond it a whole number may not be a float exactly
_HARMLESS = {"description", "default_factory", "examples", "json_schema_extra", "allow_inf_nan"}
_BOUNDS = {"ge", "gt", "le", "lt"}
_LENGTHS = {"min_length", "max_length"}


class Doubt(Exception):
    """The value is not plainly valid: pydantic decides."""


class Bounds:
    """What `Field` says of a type, or of a field: its `words` are the arguments of pydantic's."""

    def __init__(self, words: dict[str, Any]) -> None:
        self.words = words


class BeforeValidator:
    """Turns what was written into a value of the type, or raises ValueError."""

    def __init__(self, function: Check) -> None:
        self.function = function


def check(annotation: Any, words: Mapping[str, Any], section: Callable[[Any], Check | None]) -> Check:
    """The function for a type. `words` are what `Field` says of it, `section` gives the function of a nested one."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _annotated(arguments[0], arguments[1:], dict(words), section)
    if origin in (Union, UnionType):
        others = [one for one in arguments if one is not type(None)]
        if len(others) == 1 < len(arguments):
            return _optional(check(others[0], words, section))
        return _doubt
    if origin is Literal:
        return _one_of(arguments)
    if origin is list and set(words) <= {*_HARMLESS, "min_length"}:
        return _list(check(arguments[0], {}, section), words.get("min_length", 0))
    if annotation is str and set(words) <= _HARMLESS | _LENGTHS:
        return _sized(words.get("min_length", 0), words.get("max_length", float("inf")))
    if annotation in (int, float) and set(words) <= _HARMLESS | _BOUNDS:
        return _number(annotation, words)
    if not set(words) <= _HARMLESS:
        return _doubt
    if origin is dict and arguments == (str, str):
        return _texts
    return section(annotation) or {str: _text, bool: _truth}.get(annotation, _doubt)


def _annotated(inner: Any, more: tuple[Any, ...], words: dict[str, Any], section: Any) -> Check:
    for one in more:
        if isinstance(one, Bounds):
            words.update(one.words)
        elif not isinstance(one, BeforeValidator):
            return _doubt
    found = check(inner, words, section)
    for one in more:
        if isinstance(one, BeforeValidator):
            found = _then(one.function, found)
    return found


def _doubt(value: Any) -> Any:
    raise Doubt


def _then(first: Check, second: Check) -> Check:
    return lambda value: second(first(value))


def _optional(found: Check) -> Check:
    return lambda value: None if value is None else found(value)


def _one_of(words: tuple[Any, ...]) -> Check:
    def judge(value: Any) -> Any:
        if type(value) in (str, int) and any(value == word and type(value) is type(word) for word in words):
            return value
        raise Doubt

    return judge


def _number(kind: type, words: Mapping[str, Any]) -> Check:
    low, above = words.get("ge", float("-inf")), words.get("gt", float("-inf"))
    high, below = words.get("le", float("inf")), words.get("lt", float("inf"))

    def judge(value: Any) -> Any:
        if type(value) is not kind:
            if type(value) is not int or not -_EXACT < value < _EXACT:
                raise Doubt
            value = float(value)
        if low <= value <= high and above < value < below:  # never so of NaN and infinities
            return value
        raise Doubt

    return judge


def _text(value: Any) -> Any:
    if type(value) is str and (value.isascii() or value.encode("utf-8")):  # half a surrogate pair is a ValueError
        return value
    raise Doubt


def _sized(least: int, most: float) -> Check:
    def judge(value: Any) -> Any:
        if type(value) is str and least <= len(value) <= most:
            return _text(value)
        raise Doubt

    return judge if least or most < float("inf") else _text


def _truth(value: Any) -> Any:
    if value is True or value is False:
        return value
    raise Doubt


def _list(found: Check, least: int) -> Check:
    def judge(value: Any) -> Any:
        if type(value) is not list or len(value) < least:
            raise Doubt
        return [found(item) for item in value]

    return judge


def _texts(value: Any) -> Any:
    if type(value) is not dict:
        raise Doubt
    return {_text(key): _text(item) for key, item in value.items()}
