"""What configs say beside each other: put as facts into each, so that rules judge one config at a time.

Everything is grouped by hash: the time is linear in the number of configs, and a group's members know of the group's
first few only.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cached_property
from typing import Any

from runctl.facts import Facts
from runctl.gathering import corpora, sweeps, versus
from runctl.gathering.sweeps import Flat
from runctl.light import dataclass, pattern
from runctl.yamldoc import Document

SHOWN = 3
MOST_OWN = 3
AUTO = ("auto", "latest", "last", "true", "auto_resume", "must", "allow")
NAMES = frozenset((
    "name", "run_name", "exp_name", "experiment_name", "experiment", "run_id", "id", "wandb_name", "wandb_run_name",
    "wandb_run_id", "wandb_project", "wandb_entity", "project", "entity", "save_dir", "output_dir", "out_dir",
    "log_dir", "logging_dir", "output_path", "checkpoint_dir", "ckpt_dir", "notes", "tags", "description", "comment",
    "group", "hub_model_id", "output", "save_path", "card",
))  # fmt: skip
_VERSION = pattern(r"@[0-9a-f]{6,40}(?:_\w+)?$")
_FILTER = pattern(r"(?:min|max)_(?:frames|duration|seconds|len|length|words|chars|size|resolution|score)|.*filter.*")


@dataclass(frozen=True)
class Sharing:
    """Another config with the same output folder: whether it is another run, and whether it resumes by itself."""

    path: str
    differs: bool
    resumes: bool
    count: int


@dataclass(frozen=True)
class Unlike:
    """Siblings that validate on the same data: how many, what they train on, and in what this one is unlike them."""

    count: int
    validation: str
    theirs: str
    mine: str
    key: str | None = None


class Member:
    """One config of a call, with what comparing needs, computed once."""

    def __init__(self, facts: Facts, document: Document) -> None:
        self.facts, self.document = facts, document
        self.path, (self.folder, name) = facts.path, os.path.split(facts.path)
        stem = os.path.splitext(name)[0]
        self.version = "@" in stem and bool(_VERSION.search(stem))
        stem = _VERSION.sub("", stem) if self.version else stem
        self.family, _, self.stem = stem.rpartition("__")
        self.place = (self.folder, self.family, facts.dialect)

    @cached_property
    def flat(self) -> Flat:
        return sweeps.flat(self.document.data)

    @cached_property
    def names(self) -> frozenset[str]:
        """The keys that only name the run or say where it writes."""
        spelled = self.facts.spelled
        return frozenset(spelled[name] for name in ("run.name", "run.output") if name in spelled)

    @cached_property
    def content(self) -> Hashable:
        """All that the config sets but its names; None for too little to compare."""
        items = [
            (key, value)
            for key, value in self.flat.items()
            if key not in self.names and key.rpartition(".")[2] not in NAMES
        ]
        return (self.facts.dialect, frozenset(items)) if len(items) >= SHOWN else None

    @cached_property
    def template(self) -> bool:
        return any(isinstance(value, str) and ("${" in value or "{{" in value) for value in self.flat.values())

    @property
    def resumes(self) -> bool:
        return str(self.facts.get("run.resume")).lower() in AUTO

    def is_version_of(self, other: Member) -> bool:
        """Whether both are states of one file, named after commits."""
        return self.stem == other.stem and (self.version or other.version)


def compare(configs: Sequence[tuple[Facts, Document]]) -> None:
    """Put `siblings.*` and `baseline.*` into the facts of every config of one call."""
    versus.put([facts for facts, _ in configs])
    from runctl.gathering import stale

    stale.compare(configs)
    if len(configs) < 2:
        for facts, _ in configs:
            facts.miss("siblings.paths", "only one config was given; give its folder to compare it with the others")
        return
    paths = tuple(facts.path for facts, _ in configs)
    members = []
    for facts, document in configs:
        facts.put("siblings.paths", paths, "derived", "the configs given")
        if facts.get("config.kind") in ("training", "incomplete") and isinstance(document.data, dict):
            members.append(Member(facts, document))
    _duplicates(members)
    _names(members)
    _outputs(members)
    for group in _groups(members, lambda one: one.place):
        _own(group)
        _validation(group)
        sweeps.compare(group)


def _groups(members: Iterable[Member], key: Callable[[Member], Any]) -> list[list[Member]]:
    """The members of equal keys, where there are several; None is no key."""
    found: dict[Any, list[Member]] = defaultdict(list)
    for one in members:
        if (value := key(one)) is not None:
            found[value].append(one)
    return [group for group in found.values() if len(group) > 1]


def _first(group: Sequence[Member], one: Member) -> tuple[str, ...]:
    """The group's first members but this one and other versions of it."""
    return tuple(other.path for other in group[: SHOWN + 2] if other is not one and not other.is_version_of(one))[
        :SHOWN
    ]


def _duplicates(members: Sequence[Member]) -> None:
    for group in _groups(members, lambda one: one.content):
        for one in group:
            if others := _first(group, one):
                one.facts.put("siblings.duplicates", others, "derived", "the configs given")


def _names(members: Sequence[Member]) -> None:
    """Equal names that were written, of runs that differ."""

    def written(one: Member) -> Any:
        source = one.facts.source("run.name")
        return one.facts.get("run.name") if source is not None and source.kind == "file" and not one.template else None

    for group in _groups(members, written):
        if len({one.content for one in group}) > 1:
            for one in group:
                if others := _first([other for other in group[: SHOWN + 3] if other.content != one.content], one):
                    one.facts.put("siblings.same_name", others, "derived", "the configs given")


def _outputs(members: Sequence[Member]) -> None:
    def output(one: Member) -> Any:
        folder = one.facts.get("run.output")
        if not isinstance(folder, str) or not folder.strip() or re.search(r"[${}%<>]", folder) or one.template:
            return None
        return posixpath.normpath(folder.strip())

    for group in _groups(members, output):
        for one in group:
            others = [other for other in group[: SHOWN + 2] if other is not one and not other.is_version_of(one)]
            if others:
                other = next((other for other in others if other.content != one.content), others[0])
                resumes = one.resumes or any(other.resumes for other in others)
                sharing = Sharing(other.path, other.content != one.content, resumes, len(group) - 1)
                one.facts.put("siblings.same_output", sharing, "derived", "the configs given")


def _own(group: Sequence[Member]) -> None:
    """`siblings.factors`: the few keys in which a config differs from what most of its siblings say."""
    usual = sweeps.usual([one.flat for one in group])
    for one in group:
        unusual = [key for key, value in one.flat.items() if usual.get(key, sweeps.ABSENT) != value]
        own = tuple(key for key in unusual if key.rpartition(".")[2] not in NAMES)
        if own and len({re.sub(r"\.\d+(?:\.|$)", ".", key) for key in own}) <= MOST_OWN:
            one.facts.put("siblings.factors", own, "derived", "the configs given")


def _validation(group: Sequence[Member]) -> None:
    """`siblings.validation`: siblings that validate on the same data, but train on another kind, or on all of it."""

    def held_out(one: Member) -> Any:
        return one.facts.get("data.validation") or None

    for same in _groups(group, held_out):
        if len(same) < 3:
            continue
        trained = [corpora.kinds(one.facts.get("data.train") or ()) or None for one in same]
        (most, count), *_ = Counter(trained).most_common(1)
        filtered = [_filters(one) for one in same]
        filters = Counter(key for keys in filtered for key in keys)
        for one, kind, keys in zip(same, trained, filtered, strict=True):
            validation = str(one.facts.get("data.validation")[0])
            own = [key for key in keys if filters[key] * 3 <= len(same)]
            if most and kind and not kind & most and count * 3 >= len(same) * 2:
                unlike = Unlike(count, validation, corpora.listed(most), corpora.listed(kind))
                one.facts.put("siblings.validation", unlike, "derived", "the configs given")
            elif own:
                unlike = Unlike(len(same) - filters[own[0]], validation, "unfiltered data", own[0], own[0])
                one.facts.put("siblings.validation", unlike, "derived", "the configs given")


def _filters(one: Member) -> list[str]:
    return [
        key
        for key, value in one.flat.items()
        if "data" in key.partition(".")[0] and value is not None and _FILTER.fullmatch(key.rpartition(".")[2])
    ]


def relative(path: str, other: str) -> str:
    """A path as seen from beside another."""
    try:
        return os.path.relpath(path, os.path.dirname(other) or ".")
    except ValueError:
        return path
