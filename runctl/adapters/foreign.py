"""Any trainer's config → facts, by an adapter's data: what is written, what the trainer does otherwise, and why not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from runctl.adapters import pretrained
from runctl.adapters.spec import ANYWHERE, OPEN, SWITCHES, Spec, Take, normal, words
from runctl.adapters.tree import Leaf, Tree, saves, stands
from runctl.adapters.vocabulary import WORDS, Amount, count, number, optimizer_steps, presence, switch, whole
from runctl.config.every import Every
from runctl.facts import Facts
from runctl.yamldoc import Document, Path, Position

TIMES = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0}
_AMOUNTS = ("share", "micro_steps", "samples", "tokens")
_ENDS = ("ba", "ep", "tok", "sp")  # as MosaicML's composer counts
_COUNTED = ("training.steps", "training.micro_steps", "training.samples", "training.tokens")


def read(document: Document, spec: Spec, facts: Facts, overridden: Sequence[Path] = ()) -> None:
    """Put a fact for each that the adapter knows, with its place; `adapter.recognised`: (fact, dotted key, value) of
    those that the file gives; and `config.odd` for values that cannot be meant: (dotted key, what is wrong, position).
    """
    facts.dialect = spec.name
    facts.spelled |= spec.spelled
    facts.put("config.problems", (), "file")
    reader = _Reader(document, spec, facts, tuple(overridden))
    for name, takes in spec.facts.items():
        if not reader.put(name, takes) and name in spec.defaults:
            _default(name, spec, facts)
    for name in spec.defaults:
        if name not in facts.values:
            _default(name, spec, facts)
    facts.put("training.precisions", reader.precisions(spec.facts.get("training.precision", ())), "file")
    facts.put("adapter.yields", spec.yields, "derived", spec.name)
    if spec.kind == "other":
        facts.put("adapter.other", spec.title or spec.name, "derived", spec.name)
    facts.put("launch.command", spec.launch, "default", f"of {spec.name}")
    named = reader.taken.get("model.names")
    if "model.names" not in facts.values or (named is not None and named.guess):
        _models(reader, facts)
    facts.put("config.odd", tuple(reader.odd), "derived", f"the adapter {spec.name}")
    facts.put("adapter.taken", reader.taken, "derived", spec.name)
    facts.put("adapter.recognised", tuple(reader.recognised), "derived", spec.title or spec.name)
    facts.put("adapter.saves", tuple(saves(reader.tree)), "derived", "keys that speak of saving")


def _models(reader: _Reader, facts: Facts) -> None:
    """Every published model that the config names; those that a guess took for one stay where none is known."""
    found = pretrained.mentioned(reader.tree.leaves)
    if not found:
        return
    path = found[0][1]
    dotted, place = ".".join(map(str, path)), reader.document.keys.get(path)
    facts.put("model.names", tuple(text for text, _ in found), "file", dotted, place)
    facts.spelled["model.names"] = dotted
    reader.recognised[:] = [one for one in reader.recognised if one[0] != "model.names"]
    reader.recognised.append(("model.names", dotted, facts.get("model.names")))


def _default(name: str, spec: Spec, facts: Facts) -> None:
    facts.put(name, WORDS[name].parse(spec.defaults[name]), "default", f"of {spec.name}")


class _Reader:
    """Where each fact stands in one config."""

    def __init__(self, document: Document, spec: Spec, facts: Facts, overridden: tuple[Path, ...]) -> None:
        self.document, self.spec, self.facts, self.overridden = document, spec, facts, overridden
        self.tree = Tree(document.data, spec.sections)
        self.guesses = self._guesses(spec)
        self.odd: list[tuple[str, str, Position | None]] = []
        self.recognised: list[tuple[str, str, Any]] = []
        self.taken: dict[str, Take] = {}

    def _guesses(self, spec: Spec) -> dict[str, list[tuple[int, Leaf]]]:
        """For each fact the values at the places where its guesses look, the best source first, then the shallowest."""
        found: dict[str, list[tuple[int, Leaf]]] = {}
        by_last, by_word = spec.by_last, spec.by_word
        for leaf in self.tree.leaves:
            last = leaf.path[-1]
            if not isinstance(last, str):
                continue
            for place in by_last.get(normal(last), ()):
                if stands(leaf.path, place):
                    found.setdefault(place.fact, []).append((place.order, leaf))
            for word in words(last) if by_word else ():
                for place in by_word.get(word, ()):
                    if stands(leaf.path, place):
                        found.setdefault(place.fact, []).append((place.order, leaf))
        for listed in found.values():
            listed.sort(key=lambda one: one[0])
        return found

    def put(self, name: str, takes: Sequence[Take]) -> bool:
        """Whether one of the places held the fact; a value that cannot be meant makes it unknown, with why."""
        guesses, sure = self.guesses.get(name), self.spec.sure.get(name, ())
        orders = sorted({*sure, *(order for order, _ in guesses)}) if guesses else sure
        for order in orders:
            take = takes[order]
            if any(self._take(name, take, leaf) for leaf in self._leaves(name, order, take)):
                return True
        return False

    def _leaves(self, name: str, order: int, take: Take) -> list[Leaf]:
        if not take.key:
            return [Leaf((), take.value)]
        if take.guess:
            return [leaf for known, leaf in self.guesses.get(name, ()) if known == order]
        return list(self.tree.exact(take.key))

    def precisions(self, takes: Sequence[Take]) -> tuple[tuple[str, str], ...]:
        """Every place that names a precision, not only the one that counts: (dotted key, precision)."""
        found: dict[str, str] = {}
        for order, take in enumerate(takes):
            for leaf in self._leaves("training.precision", order, take):
                dotted = ".".join(map(str, leaf.path))
                if not dotted or isinstance(leaf.value, dict | list) or not self._holds(take):
                    continue
                try:
                    value, matched = _meaning(take, leaf.value)
                    known = WORDS["training.precision"].parse(value) if matched else None
                except (ValueError, OverflowError):
                    continue
                if known not in ("fp32", "bf16", "fp16", "fp8") or leaf.value is False:
                    continue
                if leaf.value is not True or known in dotted.lower():
                    found.setdefault(dotted, known)
        return tuple(found.items())

    def _take(self, name: str, take: Take, leaf: Leaf) -> bool:
        if take.guess and isinstance(leaf.value, dict | list) and not WORDS[name].nested:
            return False
        if not self._holds(take) or not _within(take, leaf.value):
            return False
        dotted = ".".join(map(str, leaf.path)) or self.facts.key(name)
        if take.key.startswith(f"{ANYWHERE}~") and any(key == dotted for _, key, _ in self.recognised):
            return False  # it is known for what it is
        given = bool(leaf.path) and any(leaf.path[: len(key)] == key for key in self.overridden)
        position = None if given else self.document.keys.get(leaf.path) or self.document.values.get(leaf.path)
        try:
            if WORDS[name].parse is switch and str(leaf.value).lower() in SWITCHES:
                switch(leaf.value)  # text is refused, before a meaning of yes or no is found for it
            value, matched = _meaning(take, leaf.value)
            if not matched:
                return False
            if value == OPEN and (leaf.value != OPEN or not leaf.path):
                self.facts.miss(name, take.why or f"{dotted} is {leaf.value}, which leaves it open")
                self.facts.spelled[name] = dotted
                return True
            if not leaf.path:
                self.facts.put(name, WORDS[name].parse(value), "default", f"of {self.facts.dialect}")
                return True
            value = WORDS[name].parse(_united(value, take, name, self.facts))
        except (ValueError, OverflowError) as error:
            if take.guess and not _meant(leaf.value):
                return False
            self.odd.append((dotted, str(error), position))
            self.facts.miss(name, f"{dotted}: {error}")
            self.facts.spelled[name] = dotted
            return True
        self.facts.spelled[name] = dotted
        self.facts.put(name, value, "override" if given else "file", dotted, position)
        self.recognised.append((name, dotted, value))
        self.taken[name] = take
        return True

    def _holds(self, take: Take) -> bool:
        """Whether the other keys are as the source wants them."""
        for other, wanted in take.when:
            written = self.tree.value(other)
            if not any(_same(written, one) for one in (wanted if isinstance(wanted, list) else [wanted])):
                return False
        return not take.has or any(presence(self.tree.value(other)) for other in take.has)


def _within(take: Take, written: Any) -> bool:
    """Whether a number is within the bounds of a source that has some; what is no number is outside."""
    if take.least is None and take.below is None:
        return True
    try:
        found = number(written)
    except ValueError:
        return take.below is None and written is not None  # so that somebody says that it is none
    return (take.least is None or found >= take.least) and (take.below is None or found < take.below)


def _meant(written: Any) -> bool:
    """Whether a value that cannot be read at a guessed place is surely meant for it: a switch as text, which every
    program takes for true, or a placeholder."""
    text = str(written).strip().lower()
    return isinstance(written, str) and (text in SWITCHES or "{{" in text or "${" in text)


def _meaning(take: Take, written: Any) -> tuple[Any, bool]:
    """What is written there stands for, and whether it says anything of the fact."""
    if take.value is not None:
        return take.value, presence(written)
    for key, value in take.values:
        if _same(written, key):
            return value, value is not None
    if take.contains:
        shown = str(written).lower()
        for part, value in take.contains:
            if part.lower() in shown:
                return value, value is not None
        return None, False
    return written, written is not None and not take.only


def _united(value: Any, take: Take, name: str, facts: Facts) -> Any:
    """A number with its unit: a cadence of steps or of time, a time in seconds."""
    if take.factor is not None and isinstance(value, int | float) and not isinstance(value, bool):
        value = value * take.factor
        value = math.ceil(value) if WORDS[name].parse in (count, whole) else value
    if take.unit in _ENDS:
        if not str(value).endswith(take.unit):
            raise ValueError(f"it is no number of {take.unit}")
        return number(str(value).removesuffix(take.unit).strip())
    if take.unit is None or value is None or isinstance(value, str | bool | dict | list):
        return value
    unit = take.unit
    if unit == "counted":
        steps = any(facts.get(known) for known in _COUNTED)
        epochs = facts.get("training.epochs")
        unit = "epochs" if epochs and not steps and value <= epochs else "steps"
    seconds = TIMES.get(unit)
    if name.endswith(("_every", ".every")):
        if value <= 0:
            return None
        if unit in _AMOUNTS:
            return Amount(value, unit)
        if unit == "per_epoch":
            return Every(epochs=1 / value)
        if seconds:
            return Every(seconds=value * seconds)
        if unit == "epochs":
            return Every(epochs=value)
    if WORDS[name].parse is optimizer_steps and unit in (*_AMOUNTS, "epochs"):
        return Amount(value, unit)
    return value * seconds if seconds else value


def _same(written: Any, wanted: Any) -> bool:
    if isinstance(written, bool) and isinstance(wanted, str):  # a mapping's keys are text
        return SWITCHES.get(wanted.lower()) is written
    if isinstance(written, bool) or isinstance(wanted, bool):
        return written is wanted
    if isinstance(written, str) and isinstance(wanted, str):
        return written.lower() == wanted.lower()
    return bool(written == wanted)
