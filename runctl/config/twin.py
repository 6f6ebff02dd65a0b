"""The pydantic model of a section: what decides where a value is in doubt, lists what is wrong, and gives the schema.

Pydantic looks through every installed package for plugins when its first model is built. It is told not to here, and
only here: no program that runctl starts inherits that.
"""

from __future__ import annotations

import os
from types import FunctionType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pydantic

from runctl.config.plain import BeforeValidator, Bounds
from runctl.config.settings import MISSING, Settings, marked

_PLUGINS = "PYDANTIC_DISABLE_PLUGINS"
_models: dict[type[Settings], Any] = {}


def validated(cls: type[Settings], data: Any) -> Any:
    """The section of that data; raises pydantic's ValidationError, which lists every fault."""
    return _ours_of(cls, model(cls).model_validate(_twins_of(data)))


def model(cls: type[Settings]) -> Any:
    """The model with the same fields, bounds, validators and methods; made once."""
    if cls not in _models:
        ours = _PLUGINS not in os.environ
        os.environ.setdefault(_PLUGINS, "__all__")
        try:
            _models[cls] = _build(cls)
        finally:
            if ours:
                os.environ.pop(_PLUGINS, None)
    return _models[cls]


def _build(cls: type[Settings]) -> Any:
    body: dict[str, Any] = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "__annotations__": {name: _type(field.annotation) for name, field in cls.model_fields.items()},
        "model_config": {"frozen": True, "extra": "forbid", **cls.rules},
    }
    for name, field in cls.model_fields.items():
        words = dict(field.words)
        if isinstance(field.default_factory, type) and issubclass(field.default_factory, Settings):
            words["default_factory"] = model(field.default_factory)
        if field.default is not MISSING:
            body[name] = pydantic.Field(_twins_of(field.default), **words)
        elif words:
            body[name] = pydantic.Field(**words)
    for name, value in vars(cls).items():
        if when := marked(value):
            decorate: Any = pydantic.model_serializer if when == "shown" else pydantic.model_validator(mode=when)  # type: ignore[call-overload]
            body[name] = decorate(value)
        elif name not in body and isinstance(value, FunctionType | property):
            body[name] = value
    make: Any = type(pydantic.BaseModel)
    return make(cls.__name__, (pydantic.BaseModel,), body)


def _type(annotation: Any) -> Any:
    """A type in pydantic's own objects."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return Annotated.__class_getitem__((_type(arguments[0]), *map(_metadata, arguments[1:])))
    if origin in (Union, UnionType):
        return Union[tuple(map(_type, arguments))]  # noqa: UP007 - made of a list
    if origin in (list, dict):
        return origin[tuple(map(_type, arguments))]
    return model(annotation) if isinstance(annotation, type) and issubclass(annotation, Settings) else annotation


def _metadata(one: Any) -> Any:
    if isinstance(one, Bounds):
        return pydantic.Field(**one.words)
    return pydantic.BeforeValidator(one.function) if isinstance(one, BeforeValidator) else one


def _twins_of(data: Any) -> Any:
    """Data with every section in it as its model, which the model of another takes as it is."""
    if isinstance(data, Settings):
        return model(type(data)).model_construct(**{name: _twins_of(value) for name, value in vars(data).items()})
    if isinstance(data, dict):
        return {key: _twins_of(value) for key, value in data.items()}
    return [_twins_of(item) for item in data] if isinstance(data, list) else data


def _ours_of(annotation: Any, value: Any) -> Any:
    """What the model made of the data, in our own classes."""
    if isinstance(annotation, type) and issubclass(annotation, Settings) and type(value) is model(annotation):
        made = annotation.__new__(annotation)
        vars(made).update(
            {name: _ours_of(field.annotation, getattr(value, name)) for name, field in annotation.model_fields.items()}
        )
        return made
    if isinstance(value, list) and get_origin(annotation) is list:
        return [_ours_of(get_args(annotation)[0], item) for item in value]
    for one in get_args(annotation):
        value = _ours_of(one, value)
    return value
