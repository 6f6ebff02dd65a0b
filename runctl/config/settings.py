"""`Settings`: frozen, strictly checked groups of settings, for which pydantic is asked only in doubt.

A class body declares fields in pydantic's words (`Annotated[int, Field(ge=1)] = 3`). A valid value is recognised here,
by a few lines for each kind of type (`plain.py`), without importing pydantic: that import and its schemas take longer
than all else that `runctl preflight` does. Whatever is not plainly valid is given to the same section *as pydantic
builds it* (`twin.py`), which alone decides, and says what is wrong.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

from runctl.config import plain
from runctl.config.plain import BeforeValidator, Bounds, Check, Doubt

MISSING: Any = object()
MOST_KNOWN = 10_000  # sections of one process: those of many configs repeat each other
__all__ = ["MISSING", "BeforeValidator", "Field", "Settings", "after", "before", "errors", "marked", "shown"]


class FieldInfo(Bounds):
    """What a field is declared to be: its default, and `words`, the other arguments for pydantic's `Field`."""

    def __init__(self, default: Any, words: dict[str, Any]) -> None:
        super().__init__(words)
        self.default = default
        self.default_factory: Callable[[], Any] | None = words.get("default_factory")
        self.description: str | None = words.get("description")
        self.owner: Any = None
        self.name = ""

    @property
    def annotation(self) -> Any:
        """The type, evaluated where it was written."""
        written = vars(self.owner)["__annotations__"][self.name]
        scope = vars(sys.modules[self.owner.__module__])
        return eval(written, scope) if isinstance(written, str) else written  # noqa: S307 - our own source


def Field(default: Any = MISSING, **words: Any) -> Any:
    """A default with its description, or the bounds (`ge`, `gt`, `le`, `lt`, `min_length`) of a type."""
    return FieldInfo(default, words)


def before(function: Any) -> Any:
    """Marks a class method that sees the whole data of its section first, and may change it."""
    function.__func__.when = "before"
    return function


def after(function: Any) -> Any:
    """Marks a method that judges the finished section; raises ValueError."""
    function.when = "after"
    return function


def shown(function: Any) -> Any:
    """Marks the method that gives the section as plain data, where that is no mapping."""
    function.when = "shown"
    return function


def marked(value: Any) -> str:
    """How a method is marked; empty where it is not."""
    return "" if isinstance(value, type) else getattr(getattr(value, "__func__", value), "when", "")


class Settings:
    """Base of every section. `rules` are pydantic's own for its model."""

    model_fields: ClassVar[dict[str, FieldInfo]] = {}
    rules: ClassVar[dict[str, Any]] = {}
    _defaults: ClassVar[dict[str, Any]] = {}
    _factories: ClassVar[tuple[tuple[str, Callable[[], Any]], ...]] = ()
    _required: ClassVar[tuple[str, ...]] = ()
    _checks: ClassVar[dict[str, Check]] = {}
    _before: ClassVar[tuple[str, ...]] = ()
    _after: ClassVar[tuple[str, ...]] = ()
    _shown: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **rules: Any) -> None:
        cls.rules = {**cls.rules, **rules}
        fields = dict(cls.model_fields)
        for name in vars(cls).get("__annotations__", ()):
            if name.startswith("_") or name in ("model_fields", "rules"):
                continue
            given = cls.__dict__.get(name, MISSING)
            found = given if isinstance(given, FieldInfo) else FieldInfo(given, {})
            found.owner, found.name = cls, name
            fields[name] = found
            if given is not MISSING:
                delattr(cls, name)
        cls.model_fields = fields
        cls._defaults = {name: one.default for name, one in fields.items()}
        cls._factories = tuple((name, one.default_factory) for name, one in fields.items() if one.default_factory)
        cls._required = tuple(
            name for name, one in fields.items() if one.default is MISSING and one.default_factory is None
        )
        cls._checks = {}
        for name, value in list(vars(cls).items()):
            if when := marked(value):
                setattr(cls, f"_{when}", (*getattr(cls, f"_{when}"), name))

    def __init__(self, **data: Any) -> None:
        vars(self).update(vars(type(self).model_validate(data)))

    @classmethod
    def model_validate(cls, data: Any) -> Self:
        """The section of that data. Raises pydantic's ValidationError, which is a ValueError and lists every fault."""
        try:
            made: Self = _made(cls, data)
        except (Doubt, ValueError, AssertionError, TypeError, OverflowError, RecursionError):
            from runctl.config import twin

            made = twin.validated(cls, data)
        return made

    @classmethod
    def model_json_schema(cls) -> dict[str, Any]:
        from runctl.config import twin

        return twin.model(cls).model_json_schema()  # type: ignore[no-any-return]

    def model_copy(self, *, update: Mapping[str, Any] | None = None) -> Self:
        """The same with some fields changed; what is given is not checked."""
        made = copy.copy(self)
        vars(made).update(update or {})
        return made

    def model_dump(self, *, mode: str = "python", exclude: set[str] | None = None) -> Any:
        """The section as plain data."""
        for name in self._shown:
            return getattr(self, name)()
        left_out = exclude or ()
        return {name: _plain(value, mode) for name, value in vars(self).items() if name not in left_out}

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be set")

    __delattr__ = __setattr__  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


_known: dict[Any, Any] = {}


def errors(error: ValueError) -> list[Any]:
    """What is wrong with each value of a section that was refused, as pydantic lists it."""
    return error.errors(include_url=False)  # type: ignore[attr-defined,no-any-return]


def _plain(value: Any, mode: str) -> Any:
    if isinstance(value, Settings):
        return value.model_dump(mode=mode)
    if isinstance(value, list):
        return [_plain(item, mode) for item in value]
    return dict(value) if isinstance(value, dict) else value


def _made(cls: type[Settings], data: Any) -> Any:
    """The section of plainly valid data; raises Doubt or ValueError otherwise. Equal data give the same object."""
    if type(data) is cls:
        return data
    kinds = tuple([type(one) if one else repr(one) for one in data.values()]) if type(data) is dict else type(data)
    key = (cls, tuple(data.items()) if type(data) is dict else data, kinds)  # 1, 1.0 and true are equal, 0.0 and -0.0
    try:
        if (known := _known.get(key)) is not None:
            return known
    except TypeError:  # it holds a list or a mapping
        return _built(cls, data)
    made = _built(cls, data)
    if len(_known) < MOST_KNOWN:
        _known[key] = made
    return made


def _built(cls: type[Settings], data: Any) -> Any:
    for name in cls._before:
        data = getattr(cls, name)(data)
    if type(data) is not dict:
        raise Doubt
    made = cls.__new__(cls)
    values = vars(made)
    values.update(cls._defaults)
    checks = cls._checks
    for name, value in data.items():
        values[name] = (checks.get(name) or _check(cls, name))(value)
    for name, factory in cls._factories:
        if name not in data:
            values[name] = factory()
    if any(name not in data for name in cls._required):
        raise Doubt
    for name in cls._after:
        getattr(made, name)()
    return made


def _check(cls: type[Settings], name: Any) -> Check:
    """The check of a field; made where a config first gives it."""
    field = cls.model_fields.get(name)
    if field is None:
        raise Doubt
    found = cls._checks[name] = plain.check(field.annotation, field.words, _nested)
    return found


def _nested(annotation: Any) -> Check | None:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return lambda value: _made(annotation, value)
    return None
