"""Members of one sweep: configs whose names differ in one number, and what else they differ in.

A group is a sweep only where that number is the value of a key in every member: then the key is the factor. A key that
differs as often as the factor varies with it (a rate scaled with a batch); one that some members share and others do
not is what nobody meant to change.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from runctl.light import dataclass, pattern

if TYPE_CHECKING:
    from runctl.gathering.siblings import Member

Flat = dict[str, Hashable]
ABSENT = "not set"
MOST_NUMBERS = 4
LARGE, FEW = 5, 0.2
_SPLIT = pattern(r"[_\-\s]+")
_NUMBER = pattern(r"([A-Za-z]*?)(\d+(?:[.p]\d+)?)(e-?\d+)?([A-Za-z%]*)")
_SERIES = frozenset(("stage", "phase", "part", "step", "v", "version", "round", "fold"))  # each follows another
_SCALES = {"k": 1e3, "m": 1e6, "b": 1e9, "pct": 0.01, "percent": 0.01, "%": 0.01, "": 1.0}


@dataclass(frozen=True)
class Inconsistent:
    """A key in which a sweep's members differ beside their factor: what this one says, and others with another value
    (value, path of one of them). `odd`: this one is among the few."""

    key: str
    factor: str
    mine: Any
    others: tuple[tuple[Any, str], ...]
    odd: bool


def flat(data: Any) -> Flat:
    """Dotted key → value of every leaf, the last first."""
    found: Flat = {}
    within: list[tuple[str, Iterator[tuple[Any, Any]]]] = [("", iter([("", data)]))]
    while within:
        above, rest = within[-1]
        for part, node in rest:
            key, kind = f"{above}{part}", node.__class__
            if kind is not dict and kind is not list:
                found[key] = node
            elif not node:
                found[key] = repr(node)
            else:
                inner = node.items() if kind is dict else list(enumerate(node))
                within.append((f"{key}." if key else "", reversed(inner)))
                break
        else:
            within.pop()
    return found


def usual(flats: Sequence[Flat]) -> Flat:
    """What more than half of the configs say of a key; keys that most of them lack are not in it."""
    found: Flat = {}
    for key, values in _columns(flats).items():
        (value, count), *_ = Counter(values).most_common(1)
        if count * 2 > len(flats):
            found[key] = value
        elif len(values) * 2 > len(flats):
            found[key] = _Varies
    return found


def _columns(flats: Iterable[Flat]) -> dict[str, list[Hashable]]:
    """What is said of each key."""
    found: dict[str, list[Hashable]] = defaultdict(list)
    for one in flats:
        for key, value in one.items():
            found[key].append(value)
    return found


class _Varies:
    """A key whose value differs everywhere: it equals nothing."""


def compare(group: Sequence[Member]) -> None:
    """Put `siblings.sweep` into the facts of every member that differs from others beside its factor."""
    found: dict[Any, list[tuple[Member, str, str]]] = defaultdict(list)
    for one in group:
        for key, number, suffix in numbers(one.stem):
            found[key].append((one, number, suffix))
    for members in found.values():
        if len(members) < 3 or len({number for _, number, _ in members}) < len(members):
            continue  # too few to see what is usual, or no sweep: versions of a file have equal numbers
        factor = _factor(members)
        if factor:
            _judge([one for one, _, _ in members], factor)


def numbers(stem: str) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """(the name with one number left out, that number, what follows it) for each of the name's first numbers."""
    parts = _SPLIT.split(re.sub(r"(?<=\d)e-(?=\d)", "e", stem))
    count = 0
    for index, part in enumerate(parts):
        match = _NUMBER.fullmatch(part)
        if match is None or count == MOST_NUMBERS or match[1].lower() in _SERIES:
            continue
        count += 1
        suffix = match[4].lower()
        hole = f"{match[1]}#{suffix.rstrip('s')}"
        yield (*parts[:index], hole, *parts[index + 1 :]), match[2] + (match[3] or ""), suffix


def _factor(members: Sequence[tuple[Member, str, str]]) -> list[str]:
    """The keys whose value is the number of the name in every member."""
    first, number, suffix = members[0]
    keys = [key for key, value in first.flat.items() if says(number, suffix, value)]
    return [key for key in keys if all(says(number, suffix, one.flat.get(key)) for one, number, suffix in members[1:])]


def says(number: str, suffix: str, value: Any) -> bool:
    """Whether a value is what a number in a name says: 1e4 for 0.0001, 7pct for 0.07, 2k for 2000."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    written = number.replace("p", ".")
    meant = [float(written) * scale for scale in {1.0, _SCALES.get(suffix, 1.0)}]
    if "e" in written:
        meant.append(float(written.replace("e", "e-").replace("e--", "e-")))
    elif re.fullmatch(r"0\d+", written):
        meant.append(float(f"0.{written[1:]}"))
    return any(abs(value - one) <= 1e-9 * max(abs(value), abs(one)) for one in meant)


def _judge(members: Sequence[Member], factor: Sequence[str]) -> None:
    from runctl.gathering.siblings import NAMES

    counts = {key: Counter(values) for key, values in _columns(one.flat for one in members).items()}
    unequal = {}
    for key, values in counts.items():
        lacking = len(members) - sum(values.values())
        kinds = len(values) + (lacking > 0)
        last = re.sub(r"(?:\.\d+)+$", "", key).rpartition(".")[2]
        if 1 < kinds < len(members) and key not in factor and last not in NAMES:
            unequal[key] = (lacking, max(values.values()))
    if not unequal:
        return
    example: dict[tuple[str, Hashable], str] = {}
    for one in members:
        for key in unequal:
            if key in one.flat:
                example.setdefault((key, one.flat[key]), one.path)
    for one in members:
        found = []
        for key, (lacking, most) in unequal.items():
            mine = one.flat.get(key, ABSENT)
            share = (counts[key][mine] if key in one.flat else lacking) / len(members)
            rest = (value for value in counts[key] if value != mine or key not in one.flat)
            others = [(value, example[key, value]) for value in islice(rest, 2)]
            if key in one.flat and lacking:
                others.append(
                    (
                        ABSENT,
                        next(other.path for other in members[: lacking + counts[key].total()] if key not in other.flat),
                    )
                )
            odd = len(members) < LARGE or share <= FEW or most < (1 - FEW) * len(members)
            found.append(Inconsistent(key, factor[0], mine, tuple(others[:2]), odd))
        one.facts.put("siblings.sweep", tuple(found), "derived", "the configs given")
