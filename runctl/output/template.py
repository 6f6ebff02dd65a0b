"""A pattern for lines of output, written as the line looks: `step {step}/{total_steps} | loss {loss}`.

Everything outside braces is text that must stand there; a space is any run of spaces and tabs, and before a number
there may be more. `{name}` or `{name:kind}` is a number, `{_}` is any text up to what follows it. The pattern may stand
anywhere in a line. `{{` and `}}` are braces.

Why not regular expressions of the user's: one with nested repetition can take hours for a line. What is compiled here
never goes back over what it has matched, so that a line costs time in proportion to its length for each place where the
pattern could begin, and lines are cut at `MOST_LETTERS`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import cache

from runctl.errors import did_you_mean
from runctl.light import dataclass, pattern

MOST_LETTERS = 2_000  # of a line that are looked at
_MOST_PATTERN = 500
WHOLE = ("step", "total_steps", "epochs")  # whole numbers, unless said otherwise
_NUMBER = (
    r"[-+]?(?>(?:nan|NaN|NAN|inf|Inf|INF)(?:inity)?(?![A-Za-z])|"
    r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)"
)
_INT = r"[-+]?(?>\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?!\.?\d)"
NUMBER = _NUMBER + r"(?!\.?\d)"
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "b": 3, "t": 4}
_TOKEN = pattern(r"\{\{|\}\}|\{[^{}]*\}|[{}]|[^{}]+")
_NAME = pattern(r"[A-Za-z_][\w/.\-@]{0,99}")


class Bad(ValueError):
    """A pattern that cannot be; `hint` says what is accepted."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def number(text: str) -> float | int:
    """A number as programs print it: `1,234`, `3e-4`, `nan`."""
    plain = text.replace(",", "")
    return int(plain) if plain.lstrip("+-").isdigit() and len(plain) < 19 else float(plain)


def scaled(text: str) -> float | int:
    """`1.2k` or `78M`."""
    power = _POWERS.get(text[-1].lower(), 0)
    value = number(text[:-1] if power else text)
    return round(value * 1000**power) if power and math.isfinite(value) else value


def _bytes(text: str) -> float:
    found = re.match(r"(.*?)[ \t]*([KMGTkmgt]?)(i?)[bB]$", text)
    if found is None:
        return 0.0
    return float(number(found[1])) * float(1024 if found[3] else 1000) ** _POWERS[found[2].lower()]


KINDS: dict[str, tuple[str, Callable[[str], float | int]]] = {
    "int": (_INT, number),
    "float": (NUMBER, lambda text: float(number(text))),
    "percent": (NUMBER + r"[ \t]*+%", lambda text: number(text.rstrip(" \t%")) / 100),
    "count": (NUMBER + r"(?:[kKmMgGbBtT](?![A-Za-z]))?", scaled),
    "bytes": (NUMBER + r"[ \t]*+[KMGTkmgt]?i?[bB](?![A-Za-z])", _bytes),
}


@dataclass(frozen=True)
class Template:
    """A pattern that has been read. `names` and `kinds` of its values, in order."""

    text: str
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    expression: re.Pattern[str]

    def read(self, line: str) -> dict[str, float | int] | None:
        """The values in a line; None if the pattern is not there."""
        match = self.expression.search(line[:MOST_LETTERS])
        if match is None:
            return None
        found = zip(self.names, self.kinds, match.groups(), strict=True)
        return {name: KINDS[kind][1](text) for name, kind, text in found}


@cache
def compiled(text: str) -> Template:
    """The template of a text; raises Bad."""
    if len(text) > _MOST_PATTERN:
        raise Bad(f"a pattern of {len(text):,} letters is too long", f"use up to {_MOST_PATTERN}")
    parts: list[str] = []
    names: list[str] = []
    kinds: list[str] = []
    before, open_ = "start", False  # what the last part was; whether a {_} waits for the text that ends it
    letters = False
    for piece in _TOKEN.findall(text):
        if piece in ("{", "}"):
            raise Bad(f"a single {piece!r}", "a value is {name}; for the brace itself write it twice")
        if piece in ("{{", "}}") or piece[0] not in "{}":
            plain = {"{{": "{", "}}": "}"}.get(piece, piece)
            letters = letters or bool(plain.strip())
            made = _literal(plain)
            parts.append(f"(?>.*?{made})" if open_ else made)
            before, open_ = "text", False
            continue
        if piece == "{_}" and before == "start":
            continue  # a pattern may stand anywhere
        if before in ("value", "skip"):
            raise Bad(f"nothing stands between {piece} and what is before it", "give the text that separates them")
        if piece == "{_}":
            before, open_ = "skip", True
            continue
        name, kind = _value(piece[1:-1])
        if name in names:
            raise Bad(f"'{name}' is there twice", "each value has its own name; {_} is any text")
        names.append(name)
        kinds.append(kind)
        parts.append(("[ \\t]*+" if before == "text" else r"(?<![\w.])") + f"({KINDS[kind][0]})")
        before = "value"
    if not names:
        raise Bad("the pattern reads no value", _example(text))
    body = "".join(parts)
    return Template(text, tuple(names), tuple(kinds), re.compile(body if letters else rf"\A\s*+{body}\s*+\Z"))


def _literal(text: str) -> str:
    return "".join("[ \\t]++" if piece.isspace() else re.escape(piece) for piece in re.split(r"(\s+)", text) if piece)


def _value(text: str) -> tuple[str, str]:
    name, colon, kind = text.partition(":")
    name, kind = name.strip(), kind.strip()
    if not _NAME.fullmatch(name):
        raise Bad(f"{{{text[:40]}}} has no name for its value", "write it as {loss} or {loss:float}")
    if not colon:
        return name, "int" if name in WHOLE else "float"
    if kind not in KINDS:
        known = ", ".join(KINDS)
        raise Bad(f"unknown kind '{kind[:40]}' of {{{name}}}; known: {known}", did_you_mean(kind, list(KINDS)))
    return name, kind


def _example(text: str) -> str:
    from runctl.output.presets import PRESETS

    near = did_you_mean(text, list(PRESETS))
    known = ", ".join(PRESETS)
    return near or f'write it like "step {{step}} loss {{loss}}", or take one of: {known}'
