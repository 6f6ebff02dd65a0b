"""What follows from the facts of one config, kept for others that say the same: so a survey of many is quick.

The configs of one call are much alike: of the thousand members of a sweep, a rule sees the same few values again and
again. While it judges one, what it asks of the facts is noted, question after question, with the answers; the next
config that gives the same answers gets the same verdict. So it is with facts that are derived of others. Nothing is
declared, so that nothing can be forgotten: whoever asks for more than can be noted, such as a config's path, is called
each time, and so is a rule that finds something, for a finding has a place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from runctl.facts import Fact, Facts, Finding, NotChecked, Source, Unknown
from runctl.project import Project
from runctl.yamldoc import Position

Check = Callable[[Facts], Iterable[Finding]]
Derivation = Callable[[Facts, Project], None]
Asked = str | tuple[str]  # the name of a fact that is asked for; in a tuple, where it came from
FIRST = 16  # times that anything is asked before it is noted: most calls have a few configs
MOST, PATIENCE = 1_000, 100  # outcomes that are kept of a function, and those that are before one is of use
_SIMPLE = frozenset((str, int, float, bool, type(None)))
_SOMEWHERE = Position("", 0, 0)
_FINDS = object()  # the outcome of a rule that finds something


class Repeats:
    """The facts of one config, beside what is known of the project's configs that are read alike."""

    def __init__(self, facts: Facts, project: Project | None) -> None:
        alike = ("repeats", facts.launching, facts.dialect, facts.otherwise, frozenset(facts.spelled.items()))
        kept = _Alike() if project is None else project.once(alike, _Alike)
        kept.times += 1
        self._known: dict[Any, _Known] | None = kept.known if kept.times > FIRST else None
        self._facts, self._answers = facts, _Answers(facts)

    def verdict(self, check: Check) -> Sequence[Finding] | str:
        """What a rule finds, or why it cannot judge."""
        if self._known is None:
            return _said(check, self._facts)
        known = self._known.get(check) or self._known.setdefault(check, _Known())
        outcome = known.recall(self._answers)
        if outcome is None and known.open:
            watched = _Watched(self._facts)
            said = _said(check, watched)
            outcome = known.keep(watched, self._answers, said if isinstance(said, str) or not said else _FINDS)
        return _said(check, self._facts) if outcome is None or outcome is _FINDS else outcome

    def derive(self, derivation: Derivation, project: Project) -> None:
        """Put what a function puts that reads nothing but facts and the project."""
        made: dict[str, Fact | Unknown] | None = None
        if self._known is not None:
            known = self._known.get(derivation) or self._known.setdefault(derivation, _Known())
            made = known.recall(self._answers)
            if made is None and known.open:
                watched = _Watched(self._facts)
                derivation(watched, project)
                made = known.keep(watched, self._answers, watched.made)
        if made is None:
            derivation(self._facts, project)
        else:
            self._facts.values.update(made)


def _said(check: Check, facts: Facts) -> Sequence[Finding] | str:
    try:
        return list(check(facts))
    except NotChecked as why:
        return str(why)


class _Alike:
    """What is known of configs that are read alike, by function; and how many times they were asked about."""

    def __init__(self) -> None:
        self.known: dict[Any, _Known] = {}
        self.times = 0


class _Answers(dict[Asked, Any]):
    """What tells one config from others for whoever asks: a value or why there is none, or an origin."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def __missing__(self, asked: Asked) -> Any:
        answer: Any = None
        if isinstance(asked, tuple):  # the line is told by findings only
            source = self._facts.source(asked[0])
            answer = source and (source.kind, source.detail, source.position is None)
        elif isinstance(found := self._facts.values.get(asked), Fact):
            value = found.value
            kind = value.__class__
            answer = (kind, value) if kind in _SIMPLE else id(value)
        elif found is not None:
            answer = found.why
        self[asked] = answer
        return answer


class _Question:
    """What a function asks next, and what follows from each answer: another question, or its outcome."""

    __slots__ = ("after", "asked")

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.after: dict[Any, Any] = {}


class _Known:
    """What is known of one function; `open` while more may be noted of it."""

    def __init__(self) -> None:
        self._after: dict[Any, Any] = {}  # as that of a question: after None comes the first one
        self._held: list[Any] = []  # facts that are told apart by where they lie in memory: they must not go away
        self._kept = self._recalled = 0
        self.open = True

    def recall(self, answers: _Answers) -> Any:
        """The outcome for these answers; None where it is not known."""
        node = self._after.get(None)
        while node.__class__ is _Question:
            node = node.after.get(answers[node.asked])
        if node is not None:
            self._recalled += 1
        return node

    def keep(self, watched: _Watched, answers: _Answers, outcome: Any) -> Any:
        """Note an outcome with what was asked for it; None where that cannot be done."""
        after, answer = self._after, None
        for asked in watched.asked:
            question = after.setdefault(answer, _Question(asked))
            if not isinstance(question, _Question) or question.asked != asked:  # it does not go by answers alone
                watched.own = True
                break
            after, answer = question.after, answers[asked]
        if watched.own:
            self.open, self._after = False, {}
            return None
        after[answer] = outcome
        self._held += watched.asked.values()
        self._kept += 1
        self.open = self._kept < (MOST if self._recalled else PATIENCE)
        if not self.open and not self._recalled:
            self._after, self._held = {}, []
        return outcome


class _Watched(Facts):
    """Facts that note what is asked of them and what is `made`; `own` is true once that was more than can be noted."""

    def __init__(self, facts: Facts) -> None:
        vars(self).update(vars(facts))  # of which `path` and `values` have a guard below
        self.facts, self.own = facts, False
        self.asked: dict[Asked, Fact | Unknown | None] = {}
        self.made: dict[str, Fact | Unknown] = {}

    def found(self, name: str) -> Fact | Unknown | None:
        if name in self.made:
            return self.made[name]
        found = self.asked[name] = self.facts.found(name)
        return found

    def need(self, name: str) -> Any:
        if isinstance(found := self.found(name), Fact):
            return found.value
        raise NotChecked(self.why(name))

    def get(self, name: str, default: Any = None) -> Any:
        return found.value if isinstance(found := self.found(name), Fact) else default

    def source(self, name: str) -> Source | None:
        if isinstance(found := self.made.get(name), Fact):
            return found.source
        self.asked[name,] = None
        source = self.facts.source(name)
        return source and Source(source.kind, source.detail, source.position and _SOMEWHERE)

    def later(self, *given: Any) -> None:
        self.own = True  # what is made later is made of this config
        super().later(*given)

    @property
    def values(self) -> Any:  # type: ignore[override]
        return _Names(self)

    @property
    def path(self) -> Any:  # type: ignore[override]
        self.own = True
        return self.facts.path


class _Names:
    """The facts as a mapping: whether one is there and that one is put can be noted, all else cannot."""

    def __init__(self, watched: _Watched) -> None:
        self._watched = watched

    def __contains__(self, name: str) -> bool:
        return self._watched.found(name) is not None

    def __setitem__(self, name: str, fact: Fact | Unknown) -> None:
        self._watched.made[name] = fact

    def __iter__(self) -> Iterator[str]:
        self._watched.own = True
        return iter(self._watched.facts.values)

    def __getattr__(self, method: str) -> Any:
        self._watched.own = True
        return getattr(self._watched.facts.values, method)
