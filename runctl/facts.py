"""Facts: all that preflight knows of a config, each value with where it came from, or unknown with why.

Rules read facts and never YAML, so that one rule serves every dialect that an adapter can map. Names are the
dotted keys of runctl's own config (`training.lr`) and, for what follows from them, `run.*`, `gpu`, `dataset.*`
and `estimate.*` (`runctl/gathering/derived.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from runctl import unsaid
from runctl.light import dataclass, field
from runctl.project import Project
from runctl.team.policy import Policy
from runctl.yamldoc import Position

Kind = Literal["file", "default", "override", "alias", "manifest", "catalogue", "measurement", "derived"]
Severity = Literal["error", "warning", "note"]
WHOLE = ("hf", "axolotl")  # dialects whose every key that matters is described


@dataclass(frozen=True)
class Source:
    """Where a value came from. `detail` says more: a title and date, or from what it was derived."""

    kind: Kind
    detail: str = ""
    position: Position | None = None

    def __str__(self) -> str:
        if self.position is not None:
            return str(self.position)
        words = {"default": "default", "override": "--set", "derived": "derived from"}.get(self.kind, self.kind)
        return f"{words} {self.detail}".strip()


DEFAULT = Source("default")  # of a setting of runctl's own that nobody wrote: it stands where its section does


@dataclass(frozen=True)
class Fact:
    value: Any
    source: Source


class Deferred(Fact):
    """A fact whose value is made when it is first asked for: what most reports never show."""

    def __init__(self, compute: Callable[[], Any], source: Source) -> None:
        self.source = source  # type: ignore[misc]
        self.compute = compute

    def __getattr__(self, name: str) -> Any:
        if name != "value":
            raise AttributeError(name)
        self.value = found = self.compute()  # type: ignore[misc]
        return found


@dataclass(frozen=True)
class Unknown:
    why: str


class NotChecked(Exception):
    """A rule cannot judge, and says why; the engine reports it under coverage."""


@dataclass(frozen=True)
class Edit:
    """A change of a config that would end a finding: `key` (dotted, as in the file) gets `value`, written as YAML.
    `safe` where the meaning stays what the author plainly intended. `value` None removes the key, of a key that is
    given twice the one `at` that place; `rename` gives it another name and keeps its value; `also` are keys that get
    their values in the same step."""

    key: str
    value: str | None = None
    safe: bool = True
    rename: str | None = None
    at: Position | None = None
    also: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Finding:
    """A rule's result. A rule fills `message`, `at`, `fix` and, to differ from its own, `severity` and `edit`; the
    engine fills the rest. `at` names the fact that is at fault: the finding stands where its value was written."""

    message: str
    at: str | Position | None = None
    fix: str | None = None
    severity: Severity | None = None
    edit: Edit | None = None
    rule: str = ""
    key: str | None = None
    file: str | None = None
    line: int | None = None
    column: int | None = None
    why: str | None = None

    def where(self) -> str:
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)

    def to_json(self) -> dict[str, Any]:
        keys = ("rule", "severity", "message", "file", "line", "column", "key", "why", "fix")
        return {key: getattr(self, key) for key in keys}


@dataclass
class Facts:
    """`values` by dotted name. `launching` is true where a launch follows: then data must really be there.
    `dialect` names the adapter that read the config, and `spelled` how it writes what it calls otherwise."""

    path: str
    policy: Policy = field(default_factory=Policy)
    launching: bool = False
    values: dict[str, Fact | Unknown] = field(default_factory=dict)
    otherwise: str | None = None
    dialect: str = "native"
    spelled: dict[str, str] = field(default_factory=dict)
    project: Project | None = None

    @property
    def foreign(self) -> bool:
        """Whether the config is another trainer's, read by an adapter."""
        return self.dialect != "native"

    def key(self, name: str) -> str:
        """The name as this config's dialect writes it: `train.save_every` for `checkpoint.every`."""
        return self.spelled.get(name, name)

    def need(self, name: str) -> Any:
        """The value; raises NotChecked with the reason where it is unknown."""
        found = self.values.get(name)
        if isinstance(found, Fact):
            return found.value
        raise NotChecked(self.why(name))

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or `default` where it is unknown: for what only adds to a message."""
        found = self.values.get(name)
        return found.value if isinstance(found, Fact) else default

    def found(self, name: str) -> Fact | Unknown | None:
        """The fact, or why it is unknown; None where nobody put it."""
        return self.values.get(name)

    def lacks(self, name: str) -> bool:
        """Whether another trainer's config surely has no such thing: its dialect has a key for it that is not there, or
        is known as a whole and has none."""
        if name in self.values or not self.foreign or self.dialect == "generic":
            return False
        return name in self.spelled or self.dialect in WHOLE

    def why(self, name: str) -> str:
        """Why a value is unknown; `otherwise` is why every fact is that nobody put."""
        found = self.found(name)
        if isinstance(found, Unknown):
            return found.why
        if self.otherwise or not self.foreign:
            return self.otherwise or f"the config does not say {name}"
        other = unsaid.follows(name)
        return self.why(other) if other else unsaid.why(name, self.spelled.get(name), self.dialect)

    def place(self, *names: str) -> str:
        """The first of the names whose value stands somewhere in a file, else the first: where a finding points."""
        return next((name for name in names if (source := self.source(name)) and source.position), names[0])

    def source(self, name: str) -> Source | None:
        found = self.found(name)
        if not isinstance(found, Fact):
            return None
        if found.source is DEFAULT:
            section = self.get("config.keys", {}).get((name.partition(".")[0],))
            return Source("default", "", section)
        return found.source

    def says(self, name: str) -> str:
        """`training.precision is fp32 (the default)`: the key, its value, and its origin if that is no line."""
        source, value = self.source(name), self.get(name)
        text = "not set" if value is None else f"{str(value).lower() if isinstance(value, bool) else value}"
        suffix = {"default": " (the default)", "override": " (--set)"}.get(source.kind, "") if source else ""
        return f"{self.key(name)} is {text}{suffix}"

    def put(self, name: str, value: Any, kind: Kind, detail: str = "", position: Position | None = None) -> None:
        self.values[name] = Fact(value, Source(kind, detail, position))

    def later(self, name: str, compute: Callable[[], Any], kind: Kind, detail: str = "") -> None:
        """Put what `compute` will return; it must not fail."""
        self.values[name] = Deferred(compute, Source(kind, detail))

    def miss(self, name: str, why: str) -> None:
        self.values[name] = Unknown(why)

    def derive(self, name: str, detail: str, compute: Callable[[], Any], kind: Kind = "derived") -> None:
        """Put what `compute` returns, or why it could not: `compute` reads other facts with `need`."""
        try:
            self.put(name, compute(), kind, detail)
        except NotChecked as why:
            self.miss(name, str(why))
