"""YAML → plain data, with the line and column of every key and value.

Why not `yaml.safe_load`: it keeps the last of two equal keys in silence, reads `3e-4` as a string, forgets where
things stood, and a few kilobytes of nested aliases or brackets can take all memory or crash the C parser. So the
document is built here from the parser's *events*, in one pass and without recursion, under stated limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import yaml

from runctl.errors import UsageError
from runctl.filekind import other_than_file

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_VALUES = 100_000

Path = tuple[str | int, ...]
_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FLOAT = re.compile(r"[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+")  # YAML 1.2 floats that YAML 1.1 reads as text
_LEADING_ZERO = re.compile(r"[-+]?0[\d_]*\d")


class YamlError(UsageError):
    """The text cannot be read as YAML, or is beyond the limits of this module."""


@dataclass(frozen=True)
class Position:
    """A place in a file; `line` and `column` count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Scalar:
    """A scalar as written: its text, and whether it was quoted."""

    text: str
    quoted: bool


@dataclass(frozen=True)
class DuplicateKey:
    path: Path
    first: Position
    second: Position


@dataclass
class Document:
    """A parsed YAML file.

    `keys` and `values` give the position of a mapping's key and of any value by path (`("training", "lr")`);
    `scalars` gives scalars as they were written; `duplicates` lists keys given twice (the last one won).
    """

    file: str
    text: str
    data: Any = None
    keys: dict[Path, Position] = field(default_factory=dict)
    values: dict[Path, Position] = field(default_factory=dict)
    scalars: dict[Path, Scalar] = field(default_factory=dict)
    duplicates: list[DuplicateKey] = field(default_factory=list)

    def position(self, path: Path) -> Position:
        """Where `path` stands, or its nearest parent that does."""
        while path:
            if path in self.keys or path in self.values:
                return self.keys.get(path) or self.values[path]
            path = path[:-1]
        return Position(self.file, 1, 1)

    def line(self, number: int) -> str:
        lines = self.text.splitlines()
        return lines[number - 1] if 0 < number <= len(lines) else ""


def load(path: FilePath | str) -> Document:
    """Read one YAML file; raises YamlError where it is missing, too large, not text or not YAML."""
    path = FilePath(path)
    try:
        if kind := other_than_file(path):
            raise YamlError(f"{path} is {kind}, not a file", hint="give a YAML file")
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise YamlError(f"no such file: {path}", hint=_neighbours(path)) from None
    except OSError as error:
        raise YamlError(f"cannot read {path}: {error.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise YamlError(f"{path} is larger than {MAX_BYTES >> 20} MiB", hint="a config is a small file: is this one?")
    try:
        return parse(raw.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        raise YamlError(f"{path} is not UTF-8 text (byte {error.start})") from None


def parse(text: str, file: str = "<text>") -> Document:
    """Parse one YAML document; raises YamlError with file:line:col."""
    document = Document(file, text)
    try:
        _Builder(document).build(yaml.parse(text, Loader=_BASE))
    except yaml.YAMLError as error:
        raise _syntax_error(error, document) from None
    return document


@dataclass
class _Frame:
    """An open mapping or sequence while its events arrive."""

    value: Any
    path: Path
    anchor: str | None
    key: Any = None
    has_key: bool = False
    merges: list[Any] = field(default_factory=list)
    size: int = 1


class _Builder:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.stack: list[_Frame] = []
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.total = 0
        self.reader = _BASE("")

    def build(self, events: Iterator[Any]) -> None:
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._error("the file holds more than one YAML document", event)
            elif isinstance(event, yaml.ScalarEvent):
                self._scalar(event)
            elif isinstance(event, yaml.AliasEvent):
                if event.anchor not in self.anchors:
                    raise self._error(f"unknown or unfinished anchor *{event.anchor}", event)
                value, size = self.anchors[event.anchor]
                self._add(value, size, event)
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                self._open(event)
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                self._close(event)

    def _open(self, event: Any) -> None:
        if len(self.stack) >= MAX_DEPTH:
            raise self._error(f"nested deeper than {MAX_DEPTH} levels", event)
        if self.stack and isinstance(self.stack[-1].value, dict) and not self.stack[-1].has_key:
            raise self._error("a mapping's key must be a plain word, not a list or mapping", event)
        if event.tag:
            raise self._error(f"the tag {event.tag} is not allowed", event)
        path = self._next_path()
        self._mark_value(path, event)
        self.stack.append(_Frame({} if isinstance(event, yaml.MappingStartEvent) else [], path, event.anchor))

    def _close(self, event: Any) -> None:
        frame = self.stack.pop()
        for merged in frame.merges:
            for source in merged if isinstance(merged, list) else [merged]:
                if not isinstance(source, dict):
                    raise self._error("'<<' merges mappings only", event)
                frame.value = {**source, **frame.value}
        if frame.anchor:
            self.anchors[frame.anchor] = (frame.value, frame.size)
        self._add(frame.value, frame.size, event, count=False)

    def _scalar(self, event: Any) -> None:
        frame = self.stack[-1] if self.stack else None
        if frame is not None and isinstance(frame.value, dict) and not frame.has_key:
            self._key(frame, event)
            return
        path = self._next_path()
        self._mark_value(path, event)
        self.document.scalars[path] = Scalar(event.value, bool(event.style))
        value = self._value(event)
        if event.anchor:
            self.anchors[event.anchor] = (value, 1)
        self._add(value, 1, event)

    def _key(self, frame: _Frame, event: Any) -> None:
        key = self._value(event) if not event.style else event.value
        frame.key = "<<" if event.value == "<<" else (event.value if isinstance(key, bool) or key is None else key)
        if not isinstance(frame.key, str | int):
            frame.key = str(event.value)
        frame.has_key = True
        path = (*frame.path, frame.key)
        here = self._position(event)
        if frame.key in frame.value:
            self.document.duplicates.append(DuplicateKey(path, self.document.keys[path], here))
        self.document.keys[path] = here

    def _add(self, value: Any, size: int, event: Any, count: bool = True) -> None:
        self.total += size if count else 1
        if self.total > MAX_VALUES:
            raise self._error(f"more than {MAX_VALUES:,} values once aliases are expanded", event)
        if not self.stack:
            self.document.data = value
            return
        frame = self.stack[-1]
        frame.size += size
        if isinstance(frame.value, list):
            frame.value.append(value)
        elif not frame.has_key:
            raise self._error("an alias cannot be a key", event)
        elif frame.key == "<<":
            frame.merges.append(value)
            frame.has_key = False
        else:
            frame.value[frame.key] = value
            frame.has_key = False

    def _value(self, event: Any) -> Any:
        if event.tag not in (None, "!") and not event.tag.startswith("tag:yaml.org,2002:"):
            raise self._error(f"the tag {event.tag} is not allowed", event)
        if event.style and event.tag is None:
            return event.value
        if not event.style and _FLOAT.fullmatch(event.value):
            return float(event.value.replace("_", ""))
        tag = (
            event.tag
            if event.tag not in (None, "!")
            else self.reader.resolve(yaml.ScalarNode, event.value, (True, False))
        )
        if tag in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value", "tag:yaml.org,2002:merge"):
            return event.value
        if not event.style and event.tag is None and tag.endswith((":int", ":float")):
            if ":" in event.value:  # YAML 1.1 counts in sixties: 1:30 would be 90
                return event.value
            if _LEADING_ZERO.fullmatch(event.value):  # and in eights: 0512 would be 330
                return int(event.value.replace("_", ""))
        node = yaml.ScalarNode(tag, event.value, event.start_mark, event.end_mark)
        try:
            return self.reader.construct_object(node)
        except (ValueError, OverflowError, KeyError):
            raise self._error(f"{event.value!r} is not a valid {tag.rsplit(':', 1)[-1]}", event) from None

    def _next_path(self) -> Path:
        if not self.stack:
            return ()
        frame = self.stack[-1]
        return (*frame.path, len(frame.value) if isinstance(frame.value, list) else frame.key)

    def _mark_value(self, path: Path, event: Any) -> None:
        self.document.values[path] = self._position(event)

    def _position(self, event: Any) -> Position:
        return Position(self.document.file, event.start_mark.line + 1, event.start_mark.column + 1)

    def _error(self, message: str, event: Any) -> YamlError:
        return YamlError(f"{self._position(event)}: {message}")


def _syntax_error(error: yaml.YAMLError, document: Document) -> YamlError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    if mark is None:
        return YamlError(f"{document.file}: {problem}")
    line = document.line(mark.line + 1)
    hint = None
    if "\t" in line[: mark.column + 1]:
        hint = "YAML does not allow tabs for indentation: use spaces"
    where = f"{document.file}:{mark.line + 1}:{mark.column + 1}"
    return YamlError(f"{where}: cannot be read as YAML: {problem}\n  {line}\n  {' ' * mark.column}^", hint=hint)


def _neighbours(path: FilePath) -> str | None:
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder {folder}"
    from runctl.errors import did_you_mean

    names = [entry.name for entry in folder.iterdir() if entry.suffix in (".yaml", ".yml")]
    return did_you_mean(path.name, names)
