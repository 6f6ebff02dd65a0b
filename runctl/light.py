"""`dataclass` and `pattern` for modules that every command loads: the same things, made fifteen times as fast.

The standard decorator writes up to six methods for each class as source and compiles them, 0.6 ms a class; the eighty
classes that a preflight loads took a quarter of its time. Here all classes share a few closures. What it offers is
what runctl uses: fields with defaults and factories, `frozen`, `repr=False` and `compare=False` of a field,
`__post_init__`; `replace`, `fields` and `asdict` of the standard module work on them. That nothing sets a field of a
frozen object is for mypy to see; at run time nothing stands in the way, which halves the time of making one.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import asdict, field, fields, is_dataclass, replace
from operator import attrgetter
from typing import Any, TypeVar, cast, dataclass_transform, overload

__all__ = ["asdict", "dataclass", "field", "fields", "is_dataclass", "pattern", "replace"]
MANY = 32  # objects of a class, after which its compiled constructor is worth its making
_C = TypeVar("_C", bound=type)


class _Pattern:
    """Stands for a regular expression until one of its methods is asked for."""

    def __init__(self, text: str, flags: int) -> None:
        self._text, self._flags = text, flags

    def __getattr__(self, name: str) -> Any:
        found = getattr(re.compile(self._text, self._flags), name)
        if not name.startswith("_"):
            self.__dict__[name] = found
        return found


def pattern(text: str, flags: int = 0) -> re.Pattern[str]:
    """`re.compile`, put off until the pattern is used: a rule's takes up to a millisecond, and most find nothing."""
    return cast("re.Pattern[str]", _Pattern(text, flags))


@overload
def dataclass(cls: _C, /) -> _C: ...
@overload
def dataclass(*, frozen: bool = False) -> Callable[[_C], _C]: ...
@dataclass_transform(field_specifiers=(dataclasses.field, dataclasses.Field))
def dataclass(cls: Any = None, /, *, frozen: bool = False) -> Any:
    """As `dataclasses.dataclass`."""
    return (lambda given: _made(given, frozen)) if cls is None else _made(cls, frozen)


def _made(cls: Any, frozen: bool) -> Any:
    cls.__doc__ = cls.__doc__ or cls.__name__  # else the standard module writes a signature
    own = set(vars(cls))
    cls = dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
    known = fields(cls)
    methods = {"__init__": _init(cls, known), "__repr__": _repr(tuple(one.name for one in known if one.repr))}
    compared = tuple(one.name for one in known if one.compare)
    methods |= _equality(cls, attrgetter(*compared) if compared else lambda one: (), frozen)
    for name, method in methods.items():
        if name not in own or (name == "__hash__" and method is not None and vars(cls)[name] is None):
            setattr(cls, name, method)
    return cls


def _init(cls: type, known: tuple[dataclasses.Field[Any], ...]) -> Any:
    missing = dataclasses.MISSING
    names = tuple(one.name for one in known)
    defaults = {one.name: one.default for one in known if one.default is not missing}
    factories = tuple((one.name, one.default_factory) for one in known if one.default_factory is not missing)
    count, allowed = len(names), frozenset(names)
    post = getattr(cls, "__post_init__", None)

    made = 0

    def init(self: Any, /, *args: Any, **named: Any) -> None:
        nonlocal made
        made += 1
        if made == MANY and post is None:
            cls.__init__ = _written(known)  # type: ignore[misc]
        values = self.__dict__
        values.update(zip(names, args, strict=False))  # what was left out is seen below
        if named:
            if not allowed.issuperset(named) or not values.keys().isdisjoint(named):
                raise TypeError(f"{cls.__name__}() takes {', '.join(names)}, each once, not {', '.join(named)}")
            values.update(named)
        if len(values) != count or len(args) > count:
            for name, factory in factories:
                if name not in values:
                    values[name] = factory()
            for name in defaults:
                if name not in values:
                    values[name] = defaults[name]
            if len(values) != count or len(args) > count:
                raise TypeError(f"{cls.__name__}() takes {', '.join(names)}; it was given {', '.join(values)}")
        if post is not None:
            post(self)

    return init


def _written(known: tuple[dataclasses.Field[Any], ...]) -> Any:
    """The same as source, compiled: for a class of which many are made."""
    missing, scope = dataclasses.MISSING, {"_nothing": object()}
    arguments: list[str] = []
    lines: list[str] = []
    for one in known:
        name, value = one.name, one.name
        if one.default is not missing:
            scope[f"_default_{name}"] = one.default
            arguments.append(f"{name}=_default_{name}")
        elif one.default_factory is not missing:
            scope[f"_make_{name}"] = one.default_factory
            arguments.append(f"{name}=_nothing")
            value = f"_make_{name}() if {name} is _nothing else {name}"
        else:
            arguments.append(name)
        lines.append(f"self.{name} = {value}")
    body = "\n ".join(lines or ["pass"])
    exec(f"def __init__(self, {', '.join(arguments)}):\n {body}", scope)  # noqa: S102 - our own source
    return scope["__init__"]


def _repr(names: tuple[str, ...]) -> Any:
    def show(self: Any) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    return show


def _equality(cls: type, key: Callable[[Any], Any], frozen: bool) -> dict[str, Any]:
    def equal(self: Any, other: object) -> Any:
        return key(self) == key(other) if other.__class__ is self.__class__ else NotImplemented

    def hashed(self: Any) -> int:
        return hash(key(self))

    return {"__eq__": equal, "__hash__": hashed if frozen else None}
