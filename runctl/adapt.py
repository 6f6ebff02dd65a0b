"""`runctl adapt`: how a config is read, fact by fact, and what of it nobody reads.

Data only: `runctl/view/adapt.py` prints it, `runctl/proposal.py` writes an adapter from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runctl import adapters, preflight
from runctl import project as projects
from runctl.adapters import claims, guesses, vocabulary
from runctl.adapters.spec import Spec, Take, normal
from runctl.adapters.tree import Tree
from runctl.adapters.vocabulary import WORDS
from runctl.config.every import Every
from runctl.facts import Facts
from runctl.light import dataclass
from runctl.preflight import Options
from runctl.project import Project
from runctl.units import parse_bytes, parse_duration
from runctl.yamldoc import Document

ESSENTIAL = (
    "training.batch_size", "training.accumulation", "training.steps", "training.epochs", "training.precision",
    "training.lr", "training.seed", "checkpoint.every", "training.validate_every", "run.output", "data.train",
    "declares.seq_len",
)  # fmt: skip
DERIVED = ("run.steps", "run.epochs", "run.step_examples", "model.parameters")
_UNITS = {
    "steps": ("training.steps", "training.warmup_steps", "training.schedule_steps", "run.steps"),
    "forward passes": ("training.micro_steps",),
    "epochs": ("training.epochs", "run.epochs"),
    "examples": (
        "training.batch_size",
        "training.global_batch",
        "training.samples",
        "data.samples",
        "run.step_examples",
    ),
    "tokens": ("training.tokens", "training.step_tokens", "declares.seq_len"),
    "seconds": ("training.time_limit", "compute.timeout"),
    "bytes": ("compute.memory", "data.sample_bytes", "data.loaded_bytes"),
    "hours": ("budget.max_hours",),
    "USD": ("budget.max_cost_usd",),
    "of the run": ("training.warmup_ratio",),
    "of the data": ("data.validation_share",),
}
_COUNTED = frozenset(("steps", "epochs", "examples", "tokens", "seconds", "hours", "bytes"))
_UNIT = {name: unit for unit, names in _UNITS.items() for name in names}
_KINDS: dict[Any, str] = {
    vocabulary.number: "number",
    vocabulary.whole: "whole number",
    vocabulary.optimizer_steps: "whole number",
    vocabulary.share: "share, 0 to 1",
    vocabulary.count: "whole number above 0",
    vocabulary.switch: "true or false",
    vocabulary.text: "text",
    vocabulary.texts: "text or list",
    vocabulary.precision: "precision",
    vocabulary.cadence: "how often",
    vocabulary.parameters: "count, such as 1.7B",
    vocabulary.presence: "anything",
    parse_duration: "duration, such as 90m",
    parse_bytes: "size, such as 40GiB",
}


@dataclass(frozen=True)
class Row:
    """One fact: its value in words with its unit, the key that gives it and where that stands, and its origin
    (`file`, `default`, `override`, `derived`). `value` None: unknown, and `why` says why."""

    fact: str
    value: str | None
    unit: str
    key: str
    where: str
    origin: str
    why: str = ""


@dataclass(frozen=True)
class Unread:
    """A key that no fact takes, its value, where it stands, and the fact that it may be, with the spelling that it
    resembles."""

    key: str
    value: Any
    where: str
    guess: str | None = None
    resembles: str = ""


@dataclass(frozen=True)
class Adapted:
    """How one config is read. `because` says why this dialect, `kind` is training, incomplete or other. `taken` are
    the sources of its facts by name, with the key path that each was found at; `foreign_to_training` where
    it is surely something else. `extends` is the dialect
    that runctl brings and that knew it."""

    path: str
    dialect: str
    title: str
    because: str
    kind: str
    kind_why: str
    rows: tuple[Row, ...]
    unread: tuple[Unread, ...]
    taken: dict[str, tuple[str, Take, Any]]
    launch: tuple[str, ...]
    match: str
    foreign_to_training: bool
    extends: str | None


def read(path: Path, options: Options | None = None, project: Project | None = None) -> Adapted:
    """How `path` is read. Raises UsageError where it is missing, is no YAML, or the adapter is none."""
    options = options or Options()
    project = project or projects.load(path)
    facts, document = preflight.gather(path, options, project)
    spec = adapters.choose(document, project, options.adapter)
    recognised = facts.get("adapter.recognised", ()) if spec else ()
    takes = facts.get("adapter.taken", {}) if spec else {}
    return Adapted(
        path=str(path),
        dialect=facts.dialect,
        title=spec.title if spec else "runctl's own",
        because=_because(document, spec, project, options.adapter),
        kind=facts.get("config.kind", "training"),
        kind_why=facts.get("config.kind_why", ""),
        rows=tuple(_rows(facts)),
        unread=tuple(_unread(document, spec, facts)) if spec else (),
        taken={name: (key, takes[name], value) for name, key, value in recognised if name in takes},
        launch=tuple(facts.get("launch.command", ())),
        match=_match(path, project),
        foreign_to_training=facts.get("adapter.other") is not None,
        extends=facts.dialect if spec is not None and facts.dialect in _dialects() else None,
    )


def _dialects() -> set[str]:
    return set(adapters.builtin()) - {adapters.GENERIC}


def words() -> Iterator[tuple[str, str, str]]:
    """Every fact that an adapter may give: (name, kind of value, meaning)."""
    for name, word in WORDS.items():
        yield name, _KINDS.get(word.parse, "one word"), word.meaning


def _because(document: Document, spec: Spec | None, project: Project, asked: str | None) -> str:
    if asked:
        return "--adapter asks for it"
    if spec is None:
        return "its sections and keys are runctl's"
    if spec in adapters.of_project(project):
        pattern = next((one for one in spec.match if adapters.fits(document.file, one, project)), None)
        if pattern is not None:
            return f"{spec.file} matches {pattern}"
    marks = claims.why(document.data, spec)
    if marks:
        return f"it has {', '.join(marks[:4])}"
    return "no dialect recognised it, so that its keys are guessed"


def _rows(facts: Facts) -> Iterator[Row]:
    """Facts with a value in the order of the vocabulary, then what follows from them, then what is unknown."""
    names = [*WORDS, *(name for name in DERIVED if name not in WORDS)]
    known = [name for name in names if facts.source(name) is not None]
    for name in known:
        source = facts.source(name)
        assert source is not None
        key = facts.key(name) if source.kind in ("file", "override") else ""
        where = str(source.position) if source.position else "" if source.kind == "file" else str(source)
        value = facts.get(name)
        words = "never" if value is None and _is_cadence(name) else shown(value)
        yield Row(name, words, _unit(name, value), key, where, source.kind)
    for name in names:
        if name not in known and (name in facts.values or name in ESSENTIAL):
            yield Row(name, None, "", "", "", "unknown", facts.why(name))


def shown(value: Any) -> str:
    """A fact's value in words."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        text = ", ".join(map(str, value))
        return text if len(text) <= 60 else f"{text[:59]}…"
    if isinstance(value, int):
        return f"{value:,}" if value >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _is_cadence(name: str) -> bool:
    return name in WORDS and WORDS[name].parse is vocabulary.cadence


def _unit(name: str, value: Any) -> str:
    unit = "" if isinstance(value, Every) or value is None else _UNIT.get(name, "")
    return unit.removesuffix("s") if value == 1 and unit in _COUNTED else unit


def _unread(document: Document, spec: Spec, facts: Facts) -> Iterator[Unread]:
    """Every key with a value that no source of the adapter looks at, the guess first found for each fact."""
    read_ = {key for _, key, _ in facts.get("adapter.recognised", ())}
    read_ |= {key for key, _, _ in facts.get("config.odd", ())}
    known = _looked_at(spec)
    open_facts = {name for name in WORDS if facts.source(name) is None or facts.source(name).kind == "default"}  # type: ignore[union-attr]
    for leaf in Tree(document.data).leaves:
        if isinstance(leaf.value, dict) or leaf.value is None:
            continue
        dotted = ".".join(map(str, leaf.path))
        if any(dotted == key or dotted.startswith(f"{key}.") for key in (*read_, *known[0])):
            continue
        if normal(str(leaf.path[-1])) in known[1]:
            continue
        guess = guesses.of(leaf, open_facts)
        position = document.keys.get(leaf.path) or document.values.get(leaf.path)
        yield Unread(dotted, leaf.value, str(position or ""), *(guess or (None, "")))


def _looked_at(spec: Spec) -> tuple[frozenset[str], frozenset[str]]:
    """The key paths that the adapter's sources read or ask about, with its sections; and last parts of its guesses'
    conditions."""
    exact: set[str] = set()
    anywhere: set[str] = set()
    for takes in spec.facts.values():
        for take in takes:
            for key in (take.key, *(key for key, _ in take.when), *take.has):
                if key.startswith("**."):
                    if key != take.key:
                        anywhere.add(normal(key.rpartition(".")[2]))
                elif key:
                    exact.add(key)
    under = {f"{section}.{key}" for section in spec.sections for key in exact}
    return frozenset(exact | under), frozenset(anywhere)


def _match(path: Path, project: Project) -> str:
    """The glob for configs like this one: those of its folder, or itself where that is the project's root."""
    try:
        relative = path.resolve().relative_to(project.root.resolve())
    except ValueError:
        return path.name
    folder = relative.parent.as_posix()
    return relative.name if folder == "." else f"{folder}/*{relative.suffix}"
