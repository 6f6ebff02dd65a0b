"""An adapter as data: which configs are its own, and where each fact stands in them.

    name: ours
    match: ["experiments/*.yaml"]
    facts:
      training.batch_size: train.batch_size
      training.micro_steps: train.steps
      checkpoint.every: {key: train.save_every, unit: steps, values: {0: never}}
      declares.parameters: {key: model.name, contains: {"135M": 135M, "1.7B": 1.7B}}
    defaults: {checkpoint.every: never}

A fact has one source or a list of them, of which the first that is there wins. A key path is exact
(`train.steps`), or begins with `**.` and then is a guess: it stands at any depth, however it is spelled (`batch-size`,
`batchSize`), and counts only where its value can be meant. `**.~lora` is any key with that word in it, unless another
source took it. A guess passes over sections that the `not` of its source or of the adapter names (`not: [eval]`:
`eval.batch_size` is another batch).
A source without a key gives its `value` wherever its conditions hold. docs/adapters.md tells it all.
Nothing of an adapter is ever run as code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from typing import Any

from runctl.adapters.vocabulary import WORDS
from runctl.errors import UsageError, did_you_mean
from runctl.light import dataclass, field, pattern
from runctl.yamldoc import Document, Path

UNITS = (
    "steps", "micro_steps", "samples", "tokens", "epochs", "seconds", "minutes", "hours", "share", "per_epoch",
    "counted", "ba", "ep", "tok", "sp",
)  # fmt: skip
ANYWHERE = "**."
SWITCHES = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
KINDS = ("training", "other")
OPEN = "unknown"  # what `values` may say of a value that leaves the fact open
_SECTIONS = (
    "name", "title", "extends", "match", "recognise", "sections", "kind", "facts", "defaults", "yields", "launch",
    "documentation", "not",
)  # fmt: skip
_SOURCE = (
    "key", "value", "unit", "values", "only", "contains", "factor", "when", "has", "least", "below", "why", "not",
)  # fmt: skip
_CAMEL = pattern(r"(?<=[a-z0-9])(?=[A-Z])|[-. ]+")


@dataclass(frozen=True)
class Take:
    """One place where a fact may stand.

    `values` maps what is written there to what it means (null: nothing), and with `only`, or where they are yes and no,
    nothing else counts; `contains` maps a part of a text to it, `factor` multiplies, and `when` names other keys with
    the values that they must have. The unit `counted` is that in which the run's length is written: steps, or else
    epochs; `ba`, `ep`, `tok` and `sp` are ends of texts such as `4800ba`: batches, epochs, tokens, samples. `apart` are
    words of sections where the key means something else. `has` are key paths of which one must be there, `least` and
    `below` bound the number that is written. `value` is the fact itself, wherever the key says anything; without a key,
    wherever the conditions hold. A meaning `unknown` leaves the fact open, and says `why`.
    """

    key: str
    unit: str | None = None
    values: tuple[tuple[Any, Any], ...] = ()
    only: bool = False
    contains: tuple[tuple[str, Any], ...] = ()
    factor: float | None = None
    when: tuple[tuple[str, Any], ...] = ()
    apart: frozenset[str] = frozenset()
    has: tuple[str, ...] = ()
    least: float | None = None
    below: float | None = None
    value: Any = None
    why: str = ""

    @property
    def guess(self) -> bool:
        return self.key.startswith(ANYWHERE)

    @cached_property
    def suffix(self) -> tuple[str, ...]:
        """The parts that a guessed key path must end with, as `normal` spells them."""
        return tuple(map(normal, self.key.removeprefix(ANYWHERE).removeprefix("~").split(".")))


@lru_cache(maxsize=65536)
def normal(part: str) -> str:
    """`batchSize`, `batch-size` and `Batch_Size` are one key: `batch_size`."""
    return _CAMEL.sub("_", part).lower().strip("_") if len(part) <= 100 else part


@lru_cache(maxsize=65536)
def words(part: str) -> frozenset[str]:
    """The words of a key's part: `eval_batch_size` → eval, batch, size."""
    return frozenset(normal(part).split("_"))


@dataclass(frozen=True)
class Place:
    """A guess, ready to be looked up: the fact, how many sources it has before this one, and the words of sections
    that it passes over."""

    fact: str
    order: int
    take: Take
    apart: frozenset[str]


@dataclass(frozen=True)
class Spec:
    """A whole adapter. `recognise_all`, `recognise_any` and `recognise_none` are key paths that make a config its own
    or not; exact key paths count at the top and inside each of `sections`. `kind` other says that such files are no
    training configs. A fact of `yields` is of no account where the fact that it yields to is given. `launch` is the
    command that starts the trainer, for people to read. What an adapter extends counts where it says nothing itself."""

    name: str
    title: str = ""
    match: tuple[str, ...] = ()
    recognise_all: tuple[str, ...] = ()
    recognise_any: tuple[str, ...] = ()
    recognise_none: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    kind: str = "training"
    yields: dict[str, str] = field(default_factory=dict)
    launch: tuple[str, ...] = ()
    facts: dict[str, tuple[Take, ...]] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    apart: frozenset[str] = frozenset()
    file: str = ""

    @cached_property
    def by_last(self) -> dict[str, list[Place]]:
        """The guesses by the last part of their key path."""
        return self._guesses(by_word=False)

    @cached_property
    def by_word(self) -> dict[str, list[Place]]:
        """The guesses that ask for a word only."""
        return self._guesses(by_word=True)

    @cached_property
    def sure(self) -> dict[str, tuple[int, ...]]:
        """Of each fact the sources that are no guesses, by number."""
        return {fact: tuple(n for n, take in enumerate(takes) if not take.guess) for fact, takes in self._given()}

    @cached_property
    def spelled(self) -> dict[str, str]:
        """How this dialect writes each fact, where a config does not have it: by the fact's own name, if it may be."""
        found = {}
        for fact, takes in self._given():
            keys = [".".join(take.suffix) if take.guess else take.key for take in takes if take.key]
            if keys:
                own = fact.rpartition(".")[2]
                found[fact] = own if takes[0].guess and own in keys else keys[0]
        return found

    def _given(self) -> Iterator[tuple[str, tuple[Take, ...]]]:
        return ((fact, takes) for fact, takes in self.facts.items() if takes)

    def _guesses(self, by_word: bool) -> dict[str, list[Place]]:
        found: dict[str, list[Place]] = {}
        for fact, takes in self._given():
            for order, take in enumerate(takes):
                if take.guess and take.key.startswith(f"{ANYWHERE}~") is by_word:
                    named = frozenset(word for part in take.suffix for word in words(part))
                    place = Place(fact, order, take, (self.apart - named) | take.apart)
                    found.setdefault(take.suffix[-1], []).append(place)
        return found


def read(data: Any, document: Document, at: Path = (), known: Mapping[str, Spec] | None = None) -> Spec:
    """The adapter that stands at `at` in `document`; it may extend one of `known`. Raises UsageError with
    file:line:col and the nearest name."""
    section = _Section(document, at)
    if not isinstance(data, dict):
        raise section.error((), "an adapter is a mapping with name, match and facts")
    section.only(data, _SECTIONS)
    name = data.get("name")
    if not isinstance(name, str) or not name.strip():
        raise section.error((), "the adapter has no name", "add: name: ours")
    base = _extended(data.get("extends"), known or {}, section)
    recognise = data.get("recognise") or {}
    if not isinstance(recognise, dict) or set(recognise) - {"all", "any", "none"}:
        raise section.error(("recognise",), "recognise takes `all`, `any` and `none`, lists of key paths")
    kind = data.get("kind") or "training"
    if kind not in KINDS:
        raise section.error(("kind",), f"kind is {str(kind)[:30]!r}; it can be {', '.join(KINDS)}")
    facts, defaults, yields = (data.get(key) or {} for key in ("facts", "defaults", "yields"))
    for key, part in (("facts", facts), ("defaults", defaults), ("yields", yields)):
        if not isinstance(part, dict):
            to = {"facts": "keys", "defaults": "values", "yields": "names of facts"}[key]
            raise section.error((key,), f"{key} must map names of facts to {to}")
        for fact, other in part.items():
            for named in (fact, other) if key == "yields" else (fact,):
                if named not in WORDS:
                    hint = did_you_mean(str(named), list(WORDS)) or "runctl adapt --facts lists them"
                    raise section.error((key, fact), f"there is no fact '{str(named)[:60]}'", hint)
    for fact, value in defaults.items():
        try:
            WORDS[fact].parse(value)
        except ValueError as error:
            raise section.error(("defaults", fact), f"{fact}: {error}") from None
    return Spec(
        name=name,
        title=str(data.get("title") or ""),
        match=section.strings(data.get("match"), ("match",)),
        recognise_all=section.strings(recognise.get("all"), ("recognise", "all")),
        recognise_any=section.strings(recognise.get("any"), ("recognise", "any")),
        recognise_none=section.strings(recognise.get("none"), ("recognise", "none")),
        sections=section.strings(data.get("sections"), ("sections",)) or base.sections,
        kind=kind,
        yields=base.yields | {str(fact): str(other) for fact, other in yields.items()},
        launch=section.strings(data.get("launch"), ("launch",)) or base.launch,
        facts=base.facts | {str(fact): tuple(_takes(given, section, ("facts", fact))) for fact, given in facts.items()},
        defaults=base.defaults | dict(defaults),
        apart=base.apart | frozenset(map(normal, section.strings(data.get("not"), ("not",)))),
        file=document.file,
    )


def _extended(name: Any, known: Mapping[str, Spec], section: _Section) -> Spec:
    """The adapter that another builds on; one without facts where it builds on none."""
    if name is None:
        return Spec("")
    if not isinstance(name, str) or name not in known:
        hint = did_you_mean(str(name), list(known)) or f"known: {', '.join(known)}"
        raise section.error(("extends",), f"there is no adapter '{str(name)[:40]}' to extend", hint)
    return known[name]


def _takes(given: Any, section: _Section, at: Path) -> Iterator[Take]:
    for item in given if isinstance(given, list) else [given]:
        if isinstance(item, str):
            yield Take(item)
            continue
        if not isinstance(item, dict) or not isinstance(item.get("key", "" if "value" in item else None), str):
            raise section.error(at, "a source is a key path, or a mapping with `key`", "write it as train.batch_size")
        section.only(item, _SOURCE, at)
        unit, factor = item.get("unit"), item.get("factor")
        if unit is not None and unit not in UNITS:
            raise section.error(at, f"the unit is {str(unit)[:30]!r}; it can be {', '.join(UNITS)}")
        if not isinstance(item.get("only", False), bool):
            raise section.error(at, "only is true or false")
        for bound in ("factor", "least", "below"):
            if item.get(bound) is not None and (
                isinstance(item[bound], bool) or not isinstance(item[bound], int | float)
            ):
                raise section.error(at, f"{bound} must be a number")
        for name in ("values", "contains", "when"):
            if not isinstance(item.get(name) or {}, dict):
                raise section.error(at, f"{name} must be a mapping")
        values = tuple((item.get("values") or {}).items())
        yield Take(
            item.get("key", ""),
            unit,
            values,
            item.get("only", False) or (bool(values) and all(str(key).lower() in SWITCHES for key, _ in values)),
            tuple((str(part), value) for part, value in (item.get("contains") or {}).items()),
            factor,
            tuple((str(key), value) for key, value in (item.get("when") or {}).items()),
            frozenset(map(normal, section.strings(item.get("not"), (*at, "not")))),
            section.strings(item.get("has"), (*at, "has")),
            item.get("least"),
            item.get("below"),
            item.get("value"),
            str(item.get("why") or ""),
        )


@dataclass(frozen=True)
class _Section:
    document: Document
    at: Path

    def error(self, path: Path, message: str, hint: str | None = None) -> UsageError:
        return UsageError(f"{self.document.position((*self.at, *path))}: {message}", hint=hint)

    def only(self, data: dict[Any, Any], known: tuple[str, ...], path: Path = ()) -> None:
        for key in data:
            if key not in known:
                hint = did_you_mean(str(key), list(known)) or f"known: {', '.join(known)}"
                raise self.error((*path, key), f"unknown key '{key}' in an adapter", hint)

    def strings(self, given: Any, path: Path) -> tuple[str, ...]:
        items = [given] if isinstance(given, str) else given or []
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise self.error(path, f"{path[-1]} must be a text or a list of texts")
        return tuple(items)
