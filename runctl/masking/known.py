"""The secrets that are known by their value: environment variables whose names say what they hold."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from runctl.light import dataclass, pattern

_SURE = frozenset({"SECRET", "SECRETS", "PASSWORD", "PASSWD", "PASSPHRASE"})
_WORDS = _SURE | {"TOKEN", "TOKENS", "KEY", "APIKEY", "CREDENTIAL", "CREDENTIALS", "AUTH", "PAT"}
_PARTS = pattern(r"[^A-Za-z0-9]+")
_NO_SECRET = pattern(  # paths, flags, numbers, lists of words
    r"(?:[~.]{0,2}/|[A-Za-z]:\\).*|(?i:true|false|none|null|yes|no|on|off|disabled|enabled|offline|online|default)|[\d.,:-]{1,11}",
    0,
)
_PIECE = pattern(r"[^/@:?&=,;\s]{8,}")
LEAST, LONGEST = 8, 4096
MOST = 200


@dataclass(frozen=True)
class Known:
    """`values` are texts to hide, each with the words for it, the longest first."""

    values: tuple[tuple[str, str], ...] = ()


NOTHING = Known()


def of_environment(environment: Mapping[str, str] | None = None, addresses: Iterable[str] = ()) -> Known:
    """The values of variables whose names say that they hold a secret; and of `addresses`, variables with the address
    of a service, whole and in the pieces that may be tokens."""
    environment = os.environ if environment is None else environment
    found: dict[str, str] = {}
    for name in addresses:
        value = environment.get(name, "").strip()
        for part in (value, *_PIECE.findall(value)):
            if (part == value and len(part) >= LEAST) or _mixed(part):
                found.setdefault(part, f"the value of {name}")
    for name, value in environment.items():
        if not LEAST <= len(value) <= LONGEST or not _names_secret(name) or not _is_secret(name, value):
            continue
        for line in value.splitlines():
            if len(line.strip()) >= LEAST:
                found.setdefault(line.strip(), f"the value of {name}")
    longest = sorted(found.items(), key=lambda entry: -len(entry[0]))
    return Known(tuple(longest[:MOST]))


def _names_secret(name: str) -> bool:
    return not _WORDS.isdisjoint(_PARTS.split(name.upper()))


def _is_secret(name: str, value: str) -> bool:
    if _NO_SECRET.fullmatch(value.strip()):
        return False
    return not _SURE.isdisjoint(_PARTS.split(name.upper())) or _mixed(value)


def _mixed(value: str) -> bool:
    """Letters and digits together, and enough of them: no word, no name of a host."""
    return len(value) >= LEAST and any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
