"""Load a config: YAML → aliases → overrides → `RunConfig`; every problem at once, each with file:line:col."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from runctl import yamldoc
from runctl.config import aliases
from runctl.config.every import Every
from runctl.config.model import RunConfig
from runctl.config.settings import Settings, errors
from runctl.errors import ConfigError, Problem, UsageError, did_you_mean
from runctl.light import dataclass, field, pattern
from runctl.names import RUN_NAME

MAX_PROBLEMS = 1_000  # that are listed one by one
UNQUOTED = "write it without quotes: "
_NUMBER = pattern(r"[-+]?(\d[\d_]*)(\.\d*)?([eE][-+]?\d+)?")


Kind = Literal["file", "default", "override", "alias"]
Leaf = tuple[str, Any, Kind, yamldoc.Position | None]


@dataclass(frozen=True)
class Origin:
    """Where a value of the effective config came from."""

    kind: Kind
    position: yamldoc.Position | None = None

    def __str__(self) -> str:
        if self.kind in ("default", "override"):
            return {"default": "default", "override": "--set"}[self.kind]
        return f"{self.position}"


@dataclass(frozen=True)
class LoadedConfig:
    """A valid config with its file. `data` is what was given, with today's keys: `moved` maps those that the file
    spells otherwise, `overridden` are those given with --set. `plain`: nothing stands in the file but what is in
    `data`."""

    config: RunConfig
    document: yamldoc.Document
    data: dict[str, Any]
    moved: dict[yamldoc.Path, yamldoc.Path] = field(default_factory=dict)
    overridden: dict[yamldoc.Path, str] = field(default_factory=dict)
    plain: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return Path(self.document.file)

    @property
    def origins(self) -> dict[str, Origin]:
        """Where each setting came from, by its dotted key."""
        found: list[Leaf] = []
        self._leaves(self.config, self.data, (), True, found)
        return {key: Origin(kind, place) for key, _, kind, place in found}

    @property
    def given(self) -> list[Leaf]:
        """The settings, where they are not plainly what they are in every config that does not say them: dotted key
        (`training.lr`), value, kind of origin and, where it stands in the file, the place. A section that need not be
        there is given as a whole."""
        found: list[Leaf] = []
        self._leaves(self.config, self.data, (), not self.plain, found)
        return found

    def _leaves(self, config: Settings, data: dict[str, Any], above: yamldoc.Path, every: bool, to: list[Leaf]) -> None:
        dotted, keys, moved, values = (
            "".join(f"{part}." for part in above),
            self.document.keys,
            self.moved,
            vars(config),
        )
        for name in values if every else data:
            path, value, given = (*above, name), values[name], data.get(name)
            section = isinstance(value, Settings) and not isinstance(value, Every)
            if section and (given is None or isinstance(given, dict)):
                self._leaves(value, given or {}, path, every or config.model_fields[name].default is None, to)
            elif self.overridden and any(path[: len(key)] == key for key in self.overridden):
                to.append((dotted + name, value, "override", None))
            elif (place := keys.get(moved.get(path, path) if moved else path)) is not None:
                to.append((dotted + name, value, "alias" if path in moved else "file", place))
            else:
                to.append((dotted + name, value, "default", None))


def load(path: Path | str, overrides: Sequence[str] = ()) -> LoadedConfig:
    """Read and validate a config.

    `overrides` are `key.path=value` texts; the value is read as YAML and typed by the field it sets.
    Raises UsageError (missing file, not YAML, malformed override) and ConfigError (every other problem, at once).
    """
    return validate(yamldoc.load(path), overrides)


def validate(document: yamldoc.Document, overrides: Sequence[str] = ()) -> LoadedConfig:
    """`load`, for a file that was read already."""
    path = document.file
    if document.data is None:
        raise UsageError(f"{path} is empty", hint="start from one of configs/*.yaml")
    if not isinstance(document.data, dict):
        raise UsageError(f"{path} holds a {_kind(document.data)}, not a mapping of settings")
    aliased = aliases.apply({str(key): value for key, value in document.data.items()})
    data = aliased.data
    if "name" not in data:
        data["name"] = _name_from(Path(path))
    overridden: dict[yamldoc.Path, str] = {}
    for text in overrides:
        key, value = parse_override(text)
        _set(data, key, value, text)
        overridden[key] = text

    problems = [_duplicate(duplicate) for duplicate in document.duplicates]
    problems += [
        _located(document, aliased.moved, {}, where, message, hint) for where, message, hint in aliased.problems
    ]
    config: RunConfig | None = None
    try:
        config = RunConfig.model_validate(data)
    except ValueError as error:
        problems += [_problem(document, aliased.moved, overridden, details) for details in errors(error)]
    if config is not None:
        problems += _beyond_types(config, document, aliased.moved, overridden)
    if problems or config is None:
        found = sorted(problems, key=lambda problem: (problem.line or 0, problem.column or 0))
        if (more := len(found) - MAX_PROBLEMS) > 0:
            found[MAX_PROBLEMS:] = [Problem(f"{more:,} more problems like these")]
        raise ConfigError(found)
    plain = not (overridden or aliased.moved or aliased.dropped)
    return LoadedConfig(config, document, data, aliased.moved, overridden, plain, aliased.notes)


def _beyond_types(
    config: RunConfig,
    document: yamldoc.Document,
    moved: dict[yamldoc.Path, yamldoc.Path],
    overridden: dict[yamldoc.Path, str],
) -> list[Problem]:
    """What the types alone cannot say: names, tasks, and sections that a task needs."""
    from runctl import tasks

    located = partial(_located, document, moved, overridden)
    problems = []
    if not RUN_NAME.fullmatch(config.name) or ".." in config.name:
        hint = "use up to 100 letters, digits, '.', '_' and '-', beginning with a letter or digit"
        problems.append(located(("name",), f"{config.name[:60]!r} cannot be a run's name", hint))
    if config.task not in tasks.names():
        known = ", ".join(tasks.names())
        hint = did_you_mean(config.task, tasks.names()) or "a program of your own is task: command"
        problems.append(located(("task",), f"unknown task '{config.task}'; known: {known}", hint))
    if config.task == "command" and config.command is None:
        hint = "add: command: {argv: [python, train.py]}"
        problems.append(located(("task",), "task: command needs a command section", hint))
    if config.task != "command" and config.declares is not None:
        hint = f"remove it: the model of task: {config.task} is described by its own sections"
        problems.append(located(("declares",), "declares is for task: command", hint))
    if config.guards:
        from runctl.guards import listing  # its grammar takes a while to import

        for index, key, message, hint in listing.problems(config.guards):
            problems.append(located(("guards", index, key), f"guards[{index}].{key}: {message}", hint))
    if config.command is not None:
        from runctl.config import program

        problems += [located(path, message, hint) for path, message, hint in program.problems(config)]
    for name in config.command.env if config.command else ():
        if re.search(r"(?i)api_?key|secret|token|passw|credential", name):
            hint = f"export {name} in your shell: the program inherits it, and no record keeps it"
            where = ("command", "env", name)
            problems.append(located(where, f"command.env.{name} looks like a secret", hint))
    return problems


def _problem(
    document: yamldoc.Document,
    moved: dict[yamldoc.Path, yamldoc.Path],
    overridden: dict[yamldoc.Path, str],
    details: dict[str, Any],
) -> Problem:
    path = tuple(details["loc"])
    dotted = ".".join(str(part) for part in path)
    rule, hint = "CF100", None
    if details["type"] == "extra_forbidden":
        rule, message = "CF101", f"unknown key '{dotted}'"
        known = _fields_at(path[:-1])
        hint = did_you_mean(str(path[-1]), known) or _elsewhere(str(path[-1])) or f"known here: {', '.join(known)}"
    elif details["type"] == "missing":
        message = f"'{dotted}' is missing"
    elif details["type"] in ("model_type", "dict_type", "model_attributes_type"):
        message = f"'{dotted}' must be a section of settings, not {_shown(details['input'])}"
        hint = _as_argv(details["input"]) if path == ("command",) else None
    elif details["type"] == "too_short":
        message = f"{dotted}: must hold at least {details.get('ctx', {}).get('min_length', 1)} entry, not an empty list"
    else:
        text = details["msg"].removeprefix("Value error, ")
        text = re.sub(r"^Input should be", "must be", text)
        message = f"{dotted}: {text}" + ("" if "section" in text else f", not {_shown(details['input'])}")
        if details["type"] == "value_error":
            message = f"{dotted}: {text}"
        hint = _remedy(details)
    return _located(document, moved, overridden, path, message, hint, rule)


def _remedy(details: dict[str, Any]) -> str | None:
    """What was plainly meant: the number within quotes, the nearest of the words that may stand there."""
    given = details["input"]
    if not isinstance(given, str):
        return None
    if details["type"].startswith(("int_", "float_")) and _NUMBER.fullmatch(given.strip()):
        return f"{UNQUOTED}{given.strip()}"
    if details["type"] == "literal_error":
        return did_you_mean(given, re.findall(r"'([^']+)'", details["msg"]))
    return None


def _as_argv(given: Any) -> str | None:
    """How a program that was written as a list or as one line is written."""
    words = given.split() if isinstance(given, str) else given
    if not isinstance(words, list) or not words or not all(isinstance(word, str | int | float) for word in words):
        return "write it as command: {argv: [python3, train.py]}"
    flow = yaml.safe_dump([str(word) for word in words], default_flow_style=True, width=10**6).strip()
    return f"write it as command: {{argv: {flow}}}"


def _located(
    document: yamldoc.Document,
    moved: dict[yamldoc.Path, yamldoc.Path],
    overridden: dict[yamldoc.Path, str],
    path: yamldoc.Path,
    message: str,
    hint: str | None,
    rule: str = "CF100",
) -> Problem:
    """The problem where it was made: by an override that set this value or brought in its section, or in the file."""
    starts = [path[:depth] for depth in range(1, len(path) + 1)]
    in_file = max((len(start) for start in starts if moved.get(start, start) in document.keys), default=0)
    for key, override in overridden.items():
        shared = sum(start == key[: len(start)] for start in starts)
        if shared == len(key) or shared > in_file:
            return Problem(f"{message} (--set {override})", None, None, None, hint, rule)
    position = document.position(moved.get(path[:2], path))
    return Problem(message, position.file, position.line, position.column, hint, rule)


def _duplicate(duplicate: yamldoc.DuplicateKey) -> Problem:
    dotted = ".".join(str(part) for part in duplicate.path)
    message = f"'{dotted}' is given twice; first at line {duplicate.first.line}"
    second = duplicate.second
    return Problem(message, second.file, second.line, second.column, "keep one of the two", "CF103")


def parse_override(text: str) -> tuple[yamldoc.Path, Any]:
    """`training.batch_size=256` → its path and value; raises UsageError where it is not that."""
    key, equals, value = text.partition("=")
    name = key.strip()
    if not equals or not name or not all(name.split(".")):
        raise UsageError(f"--set {text!r} is not key=value", hint="write it as --set training.batch_size=256")
    try:
        document = yamldoc.parse(value)
    except yamldoc.YamlError:
        raise UsageError(f"--set {text}: the value cannot be read as YAML", hint="quote it for YAML: '\"…\"'") from None
    if not document.values:
        raise UsageError(f"--set {text!r} gives no value", hint=f"write --set {name}=null for no value")
    return tuple(name.split(".")), document.data


def _set(data: dict[str, Any], path: yamldoc.Path, value: Any, text: str) -> None:
    node = data
    for depth, part in enumerate(path[:-1]):
        child = node.get(str(part))
        if child is None:
            child = node[str(part)] = {}
        if not isinstance(child, dict):
            raise UsageError(f"--set {text}: {'.'.join(map(str, path[: depth + 1]))} is not a section")
        node = child
    last = str(path[-1])
    other = {"training.epochs": "steps", "training.steps": "epochs"}.get(".".join(map(str, path)))
    if other and value is not None:
        node.pop(other, None)  # a length given on the command line replaces the file's, whichever it was
    node[last] = value


def _model_of(annotation: Any) -> type[Settings] | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Settings):
            return candidate
        inner = _model_of(candidate) if candidate is not annotation and get_args(candidate) else None
        if inner:
            return inner
    return None


def _fields_at(path: Sequence[Any]) -> list[str]:
    model: type[Settings] = RunConfig
    for part in path:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        model = _model_of(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _elsewhere(key: str) -> str | None:
    """Where a key that is unknown here would belong."""
    for section, info in RunConfig.model_fields.items():
        model = _model_of(info.annotation)
        if model is not None and key in model.model_fields:
            return f"'{key}' belongs to the section '{section}'"
    return None


def _name_from(path: Path) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._") or "run"


def _kind(data: Any) -> str:
    return {list: "list", str: "text", int: "number", float: "number", bool: "true/false"}.get(type(data), "value")


def _shown(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
