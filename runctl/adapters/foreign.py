"""Any trainer's config → facts, by an adapter's data: what is written, what the trainer does otherwise, and why not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from runctl.adapters.spec import Spec, Take
from runctl.adapters.vocabulary import WORDS
from runctl.config.every import Every
from runctl.facts import Facts, Written
from runctl.yamldoc import Document, Path, Position

TIMES = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0}


def read(document: Document, spec: Spec, facts: Facts, overridden: Sequence[Path] = ()) -> None:
    """Put a fact for each that the adapter knows, with its place, and `config.odd` for values that cannot be meant:
    (dotted key, what is wrong, position)."""
    facts.dialect = spec.name
    tree = Tree(document.data)
    odd: list[tuple[str, str, Position | None]] = []
    facts.put("config.problems", (), "file")
    for name, takes in spec.facts.items():
        facts.spelled[name] = takes[0].key.removeprefix("**.") if takes else name
        if _put(name, takes, tree, document, facts, odd, overridden):
            continue
        if name in spec.defaults:
            _default(name, spec, facts)
    for name in spec.defaults:
        if name not in facts.values and name not in spec.facts:
            _default(name, spec, facts)
    facts.put("config.odd", tuple(odd), "derived", f"the adapter {spec.name}")


def _default(name: str, spec: Spec, facts: Facts) -> None:
    facts.put(name, WORDS[name].parse(spec.defaults[name]), "default", f"of {spec.name}")


def _put(
    name: str,
    takes: Sequence[Take],
    tree: Tree,
    document: Document,
    facts: Facts,
    odd: list[tuple[str, str, Position | None]],
    overridden: Sequence[Path],
) -> bool:
    """Whether one of the places held the fact; a value that cannot be meant makes it unknown, with why."""
    for take in takes:
        for path, written in tree.find(take.key):
            if not all(_same(tree.value(other), wanted) for other, wanted in take.when):
                continue
            dotted = ".".join(map(str, path))
            position = document.keys.get(path) or document.values.get(path)
            given = any(path[: len(key)] == key for key in overridden)
            try:
                value, matched = _meaning(take, written)
                if not matched:
                    continue
                value = WORDS[name].parse(_united(value, take, name))
            except (ValueError, OverflowError) as error:
                odd.append((dotted, str(error), None if given else position))
                facts.miss(name, f"{dotted}: {error}")
                facts.spelled[name] = dotted
                return True
            facts.spelled[name] = dotted
            facts.put(name, value, "override" if given else "file", dotted, None if given else position)
            return True
    return False


def _meaning(take: Take, written: Any) -> tuple[Any, bool]:
    """What is written there stands for, and whether it says anything of the fact."""
    if take.values:
        for key, value in take.values:
            if _same(written, key):
                return value, True
        if all(isinstance(key, bool) for key, _ in take.values):
            return None, False
    if take.contains:
        shown = str(written).lower()
        for part, value in take.contains:
            if part.lower() in shown:
                return value, True
        return None, False
    if written is None:
        return None, False
    return written, True


def _united(value: Any, take: Take, name: str) -> Any:
    """A number with its unit: a cadence of steps or of time, a time in seconds."""
    if take.factor is not None and isinstance(value, int | float) and not isinstance(value, bool):
        value = value * take.factor
    if take.unit is None or value == "never" or value is None or isinstance(value, str | bool):
        return value
    seconds = TIMES.get(take.unit)
    if name.endswith(("_every", ".every")):
        if value <= 0:
            return None
        if seconds:
            return Every(seconds=value * seconds)
        if take.unit == "epochs":
            return Every(epochs=value)
    return value * seconds if seconds else value


def _same(written: Any, wanted: Any) -> bool:
    if isinstance(written, bool) or isinstance(wanted, bool):
        return written is wanted
    if isinstance(written, str) and isinstance(wanted, str):
        return written.lower() == wanted.lower()
    return bool(written == wanted)


class Tree:
    """A config's data by path; leaves by their last key, for paths that begin with `**.`."""

    def __init__(self, data: Any) -> None:
        self.data = data
        self._by_last: dict[str, list[tuple[Path, Any]]] | None = None

    def find(self, key: str) -> Iterator[tuple[Path, Any]]:
        """Every (path, value) that the key path names, the shallowest first."""
        if key.startswith("**."):
            wanted = tuple(key[3:].lower().split("."))
            for path, value in self.by_last().get(wanted[-1], ()):
                if tuple(str(part).lower() for part in path[-len(wanted) :]) == wanted:
                    yield path, value
            return
        exact: Path = tuple(key.split("."))
        node = self.data
        for part in exact:
            if not isinstance(node, dict) or part not in node:
                return
            node = node[part]
        yield exact, node

    def value(self, key: str) -> Any:
        return next((value for _, value in self.find(key)), None)

    def by_last(self) -> dict[str, list[tuple[Path, Any]]]:
        if self._by_last is None:
            self._by_last = {}
            level: list[tuple[Path, Any]] = [((), self.data)]
            while level:
                below: list[tuple[Path, Any]] = []
                for path, node in level:
                    if path:
                        self._by_last.setdefault(str(path[-1]).lower(), []).append((path, node))
                    if isinstance(node, dict):
                        below += [((*path, key), value) for key, value in node.items()]
                level = below
        return self._by_last


def scalars(document: Document, overridden: dict[Path, str]) -> tuple[Written, ...]:
    """Every scalar as written; an override takes the place of what it sets."""
    values = tuple(
        Written(
            ".".join(map(str, path)), scalar.text, _at(document.data, path), scalar.quoted, document.values.get(path)
        )
        for path, scalar in document.scalars.items()
        if path not in overridden
    )
    given = tuple(
        Written(".".join(map(str, path)), text, _at(document.data, path)) for path, text in overridden.items()
    )
    return values + given


def _at(data: Any, path: Path) -> Any:
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data
