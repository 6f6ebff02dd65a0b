"""What a scalar of YAML means: YAML 1.2's numbers, no counting in sixties or eights, no dates.

`3e-4` is a number here, and `1:30`, `2026-11-21` and `=` are text; `0512` is 512.
"""

from __future__ import annotations

from typing import Any

import yaml

from runctl.light import pattern

MAX_BITS = 14_000  # of a whole number: Python writes none of more than 4,300 digits
MAX_KEPT, MAX_SEEN = 64, 20_000  # letters of a word, and words, whose meaning is kept
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FLOAT = pattern(r"[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+")  # YAML 1.2 floats that YAML 1.1 reads as text
_LEADING_ZERO = pattern(r"[-+]?0[\d_]*\d")


class Invalid(Exception):
    """A scalar is not of the kind that is named."""


_READER = LOADER("")
_FIRST = frozenset(_READER.yaml_implicit_resolvers)  # the characters with which anything but text begins
_seen: dict[str, Any] = {}


def plain(text: str) -> Any:
    """What a scalar without quotes and tag means. The words of configs come again and again: those seen are kept."""
    if text in _seen:
        return _seen[text]
    if text[:1] not in _FIRST:
        return text
    if len(text) < 16 and text.isascii() and text.isdigit() and (text[0] != "0" or text == "0"):
        return int(text)
    value = meaning(text)
    if len(text) <= MAX_KEPT and len(_seen) < MAX_SEEN:
        _seen[text] = value  # what has no tag is no list or mapping: nothing can change it
    return value


def meaning(text: str, event: Any = None) -> Any:
    """The value of a scalar, which has quotes or a tag where there is an `event`; raises Invalid."""
    tag, quoted = (event.tag, bool(event.style)) if event is not None else (None, False)
    if not quoted and _FLOAT.fullmatch(text):
        return float(text.replace("_", ""))
    kind = tag if tag not in (None, "!") else _READER.resolve(yaml.ScalarNode, text, (True, False))
    if kind in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value", "tag:yaml.org,2002:merge"):
        return text
    try:
        if not quoted and tag is None and kind.endswith((":int", ":float")):
            if ":" in text:  # YAML 1.1 counts in sixties: 1:30 would be 90
                return text
            if _LEADING_ZERO.fullmatch(text):  # and in eights: 0512 would be 330
                return int(text.replace("_", ""))
        marks = (event.start_mark, event.end_mark) if event is not None else ()
        value = _READER.construct_object(yaml.ScalarNode(kind, text, *marks))
        if isinstance(value, list | dict | set) or (isinstance(value, int) and value.bit_length() > MAX_BITS):
            raise ValueError
        return value
    except (ValueError, OverflowError, KeyError, IndexError):
        raise Invalid(kind.rsplit(":", 1)[-1]) from None
    finally:
        for kept in (_READER.constructed_objects, _READER.recursive_objects, _READER.state_generators):
            kept.clear()
