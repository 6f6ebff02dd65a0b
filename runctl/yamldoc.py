"""YAML → plain data, with the line and column of every key and value.

Why not `yaml.safe_load`: it keeps the last of two equal keys in silence, reads `3e-4` as a string, forgets where
things stood, and a few kilobytes of nested aliases or brackets can take all memory or crash the C parser. So the
document is built here from the parser's *events*, in one pass and without recursion, under stated limits.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path as FilePath
from typing import Any

import yaml

from runctl.errors import UsageError
from runctl.filekind import other_than_file
from runctl.gathering.secrets import masked
from runctl.light import dataclass, field, pattern
from runctl.yamlscalar import LOADER, Invalid, meaning, plain

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_VALUES = 100_000
MAX_SHOWN = 1_000  # letters of a line; nobody reads a longer one, and looking for secrets in it takes its square
MAX_DUPLICATES = 1_000

Path = tuple[str | int, ...]
_HALVES = pattern(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")


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
class Written:
    """A scalar as it was written: its dotted key, its text, what YAML made of it, whether it was quoted or has a tag
    (`!!float`) that says what it is, and where it stands (None: given with --set)."""

    key: str
    text: str
    value: Any
    quoted: bool = False
    position: Position | None = None


@dataclass(frozen=True)
class DuplicateKey:
    path: Path
    first: Position
    second: Position


@dataclass
class Document:
    """A parsed YAML file.

    `keys` and `values` give the position of a mapping's key and of any value by path (`("training", "lr")`);
    `scalars` gives scalars as they were written; `duplicates` lists keys given twice (the last one won); `hidden` are
    texts of it that are never shown. `tagged` are the tags of another program (`!ref <seed>`), in a document that may
    have them: such a value is its text with the tag before it, a list or mapping stays one, and nothing of it is run.
    `beneath` are the files that it was laid over, the lowest first: a position may stand in one of them. `straight`:
    each scalar is in `data` where it was written, for no key is given twice and nothing is merged.
    """

    file: str
    text: str
    data: Any = None
    keys: dict[Path, Position] = field(default_factory=dict)
    values: dict[Path, Position] = field(default_factory=dict)
    scalars: dict[Path, Written] = field(default_factory=dict)
    duplicates: list[DuplicateKey] = field(default_factory=list)
    hidden: tuple[str, ...] = ()
    beneath: tuple[Document, ...] = ()
    straight: bool = False
    tagged: list[tuple[str, Position]] = field(default_factory=list)
    _paths: dict[Position, Path] | None = field(default=None, repr=False, compare=False)

    def position(self, path: Path) -> Position:
        """Where `path` stands, or its nearest parent that does."""
        while path:
            if path in self.keys or path in self.values:
                return self.keys.get(path) or self.values[path]
            path = path[:-1]
        return Position(self.file, 1, 1)

    def path_at(self, position: Position) -> Path | None:
        """The path of the key or value that begins there, the outermost."""
        for table in (self.keys, self.values):
            for path, place in table.items():
                if place is position:
                    return path
        if self._paths is None:
            self._paths = {}
            for table in (self.keys, self.values):
                for path, place in table.items():
                    self._paths.setdefault(place, path)
        return self._paths.get(position)

    def line(self, number: int, file: str | None = None) -> str:
        """A line, of `file` among those beneath, as it may be shown: what is secret in it is hidden."""
        here = next((one for one in self.beneath if one.file == file), None) if file not in (None, self.file) else self
        lines = here.text.splitlines() if here is not None else []
        line = lines[number - 1] if 0 < number <= len(lines) else ""
        return masked(line, self.hidden) if len(line) <= MAX_SHOWN else f"({len(line):,} characters)"


def load(path: FilePath | str, *, tags: bool = False) -> Document:
    """Read one YAML file; raises YamlError where it is missing, too large, not text or not YAML. With `tags`, those of
    other programs are kept as text (`Document.tagged`); without, they are refused."""
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
        return parse(raw.decode("utf-8-sig"), str(path), tags=tags)
    except UnicodeDecodeError as error:
        wide = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
        hint = "it is UTF-16: save it as UTF-8" if wide else "a config is a text file; save it as UTF-8"
        raise YamlError(f"{path} is not UTF-8 text (byte {error.start})", hint=hint) from None


def parse(text: str, file: str = "<text>", *, tags: bool = False) -> Document:
    """Parse one YAML document; raises YamlError with file:line:col. `tags` is as for `load`."""
    document = Document(file, text)
    if "{" not in text and "[" not in text:
        from runctl import yamlplain  # which reads this module

        if yamlplain.read(document):
            return document
    try:
        _Builder(document, tags).build(_json(text) if file.endswith(".json") else text)
    except yaml.YAMLError as error:
        raise _syntax_error(error, document) from None
    except UnicodeEncodeError:  # of a command line that is no UTF-8, say
        raise YamlError(f"{file} holds what is no character") from None
    return document


def refuse_tags(document: Document) -> None:
    """Raise YamlError where a document has tags of another program: runctl's own files have none."""
    for tag, place in document.tagged:
        raise YamlError(f"{place}: the tag {tag} is not allowed")


def _json(text: str) -> str:
    """JSON as YAML takes it: tabs are spaces (in its strings they are written as \\t), a character that is written as
    two halves is itself. Lines stay where they are."""
    return _HALVES.sub(_whole, text.replace("\t", " "))


def _whole(match: re.Match[str]) -> str:
    high, low = int(match[2], 16), int(match[3], 16)
    return match[1] + chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))


class _Frame:
    """An open mapping or sequence while its events arrive; `keyed` where the next event is the value of `key`."""

    __slots__ = ("anchor", "key", "keyed", "mapping", "merges", "merging", "path", "size", "value")

    def __init__(self, mapping: bool, path: Path, anchor: str | None) -> None:
        self.mapping, self.path, self.anchor = mapping, path, anchor
        self.value: Any = {} if mapping else []
        self.key: Any = None
        self.keyed = self.merging = False
        self.merges: list[Any] = []
        self.size = 1


class _Builder:
    """Builds a document from events: a thousand configs are a hundred thousand of them, so this is quick."""

    def __init__(self, document: Document, tags: bool = False) -> None:
        self.document, self.tags = document, tags
        self.stack: list[_Frame] = []
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.total = 0
        self.reader = LOADER("")

    def build(self, text: str) -> None:
        self.document.straight = True
        parser = LOADER(text)
        try:
            self._read(parser.get_event)
        finally:
            parser.dispose()

    def _read(self, next_event: Callable[[], Any]) -> None:
        documents = 0
        while (event := next_event()) is not None:
            kind = event.__class__
            if kind is yaml.ScalarEvent:
                self._scalar(event)
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                self._open(event, kind is yaml.MappingStartEvent)
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                self._close(event)
            elif kind is yaml.AliasEvent:
                if event.anchor not in self.anchors:
                    raise self._error(f"unknown or unfinished anchor *{event.anchor}", event)
                value, size = self.anchors[event.anchor]
                self._add(value, size, size, event)
            elif kind is yaml.DocumentStartEvent:
                documents += 1
                if documents > 1:
                    hint = "give each config a file of its own"
                    raise self._error("the file holds more than one YAML document", event, hint)

    def _open(self, event: Any, mapping: bool) -> None:
        if len(self.stack) >= MAX_DEPTH:
            raise self._error(f"nested deeper than {MAX_DEPTH} levels", event)
        if self.stack and self.stack[-1].mapping and not self.stack[-1].keyed:
            raise self._error("a mapping's key must be a plain word, not a list or mapping", event)
        if event.tag and not self._foreign(event):
            raise self._error(f"the tag {event.tag} is not allowed", event)
        path = self._next_path()
        self.document.values[path] = self._position(event)
        self.stack.append(_Frame(mapping, path, event.anchor))

    def _close(self, event: Any) -> None:
        frame = self.stack.pop()
        self.document.straight = self.document.straight and not frame.merges
        for merged in frame.merges:
            for source in merged if isinstance(merged, list) else [merged]:
                if not isinstance(source, dict):
                    raise self._error("'<<' merges mappings only", event)
                frame.value = {**source, **frame.value}
        if frame.anchor:
            self.anchors[frame.anchor] = (frame.value, frame.size)
        self._add(frame.value, frame.size, 1, event)

    def _scalar(self, event: Any) -> None:
        text, quoted = event.value, bool(event.style)
        frame = self.stack[-1] if self.stack else None
        if frame is not None and frame.mapping and not frame.keyed:
            self._key(frame, text, text if quoted else self._value(text, event), event)
            return
        if frame is None:
            path: Path = ()
        else:
            path = (*frame.path, frame.key if frame.mapping else len(frame.value))
        document = self.document
        mark = event.start_mark
        document.values[path] = place = Position(document.file, mark.line + 1, mark.column + 1)
        if event.tag and self._foreign(event):
            text = value = f"{event.tag.replace(_STANDARD, '!!')} {text}".rstrip()
        else:
            value = text if quoted and event.tag is None else self._value(text, event)
        explicit = event.tag is not None and event.tag.removeprefix(_STANDARD) in _KNOWN
        document.scalars[path] = Written(".".join(map(str, path)), text, value, quoted or explicit, place)
        if event.anchor:
            self.anchors[event.anchor] = (value, 1)
        self._add(value, 1, 1, event)

    def _key(self, frame: _Frame, text: str, value: Any, event: Any) -> None:
        key = text if text == "<<" or value is None or isinstance(value, bool) else value
        if not isinstance(key, str | int):
            key = text
        frame.key, frame.keyed, frame.merging = key, True, text == "<<" and not event.style
        path = (*frame.path, key)
        here = self._position(event)
        if key in frame.value:
            self.document.straight = False
            self.document.duplicates.append(DuplicateKey(path, self.document.keys[path], here))
            if len(self.document.duplicates) > MAX_DUPLICATES:
                raise self._error(f"more than {MAX_DUPLICATES:,} keys are given twice", event)
        self.document.keys[path] = here

    def _add(self, value: Any, size: int, count: int, event: Any) -> None:
        """Put a value where the next one belongs: it is worth `size` values, of which `count` were not yet counted."""
        self.total += count
        if self.total > MAX_VALUES:
            raise self._error(f"more than {MAX_VALUES:,} values once aliases are expanded", event)
        if not self.stack:
            self.document.data = value
            return
        frame = self.stack[-1]
        frame.size += size
        if not frame.mapping:
            frame.value.append(value)
        elif not frame.keyed:
            raise self._error("an alias cannot be a key", event)
        else:
            frame.keyed = False
            if frame.merging:
                frame.merges.append(value)
            else:
                frame.value[frame.key] = value

    def _value(self, text: str, event: Any) -> Any:
        tag = event.tag
        try:
            if tag is None and not event.style:
                return plain(text)
            if tag not in (None, "!") and not tag.startswith("tag:yaml.org,2002:"):
                raise self._error(f"the tag {tag} is not allowed", event)
            return meaning(text, event)
        except Invalid as error:
            shown = text if len(text) <= 60 else f"{text[:60]}…"
            raise self._error(f"{shown!r} is not a valid {error}", event) from None

    def _foreign(self, event: Any) -> bool:
        """Whether a tag is another program's, and may stand here: it is noted."""
        if not self.tags or event.tag == "!" or event.tag.removeprefix(_STANDARD) in _KNOWN:
            return False
        self.document.tagged.append((event.tag.replace(_STANDARD, "!!"), self._position(event)))
        return True

    def _next_path(self) -> Path:
        if not self.stack:
            return ()
        frame = self.stack[-1]
        return (*frame.path, frame.key if frame.mapping else len(frame.value))

    def _position(self, event: Any) -> Position:
        mark = event.start_mark
        return Position(self.document.file, mark.line + 1, mark.column + 1)

    def _error(self, message: str, event: Any, hint: str | None = None) -> YamlError:
        return YamlError(f"{self._position(event)}: {message}", hint=hint)


_STANDARD = "tag:yaml.org,2002:"
_KNOWN = frozenset(("bool", "float", "int", "null", "str"))  # a scalar's tags that say what it means


_OPENED = {
    "while parsing a flow mapping": "the brace {",
    "while parsing a flow sequence": "the bracket [",
    "while scanning a quoted scalar": "the quote",
}


def _syntax_error(error: yaml.YAMLError, document: Document) -> YamlError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    if mark is None:
        return YamlError(f"{document.file}: {problem}")
    line, hint = document.line(mark.line + 1), None
    if "\t" in line[: mark.column + 1]:
        hint = "YAML does not allow tabs for indentation: use spaces"
    elif (opened := getattr(error, "context_mark", None)) and (what := _OPENED.get(str(getattr(error, "context", "")))):
        hint = f"{what} that opens at line {opened.line + 1}, column {opened.column + 1} is perhaps not closed"
    elif problem.startswith("mapping values"):
        hint = "a text that has ': ' in it wants quotes; a key of its own begins a line"
    caret = f"\n  {' ' * mark.column}^" if mark.column <= len(line) else ""
    where = f"{document.file}:{mark.line + 1}:{mark.column + 1}"
    return YamlError(f"{where}: cannot be read as YAML: {problem}\n  {line}{caret}", hint=hint)


def _neighbours(path: FilePath) -> str | None:
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder {folder}"
    from runctl.errors import did_you_mean

    names = [entry.name for entry in folder.iterdir() if entry.suffix in (".yaml", ".yml")]
    return did_you_mean(path.name, names)
