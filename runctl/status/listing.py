"""Many runs at once: those that go on, and of those that have ended as many as are wanted.

A run with a summary has ended: the summary is written last, removed when another attempt starts, and not believed
here where an attempt's folder is younger. So what is not shown costs two looks at the file system, what is shown and
has ended the beginning of one small file, and only what goes on (or ended without its supervisor) is read and weighed
whole.
"""

from __future__ import annotations

import fnmatch
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runctl import record
from runctl.light import dataclass
from runctl.status.facts import ACTIVE, RunStatus
from runctl.status.finished import brief, finished
from runctl.status.reading import observe, refresh

SORTS = ("started", "ended", "name", "state", "loss", "cost", "time", "step")
_CONFIG = b'\n  "config": '
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class Query:
    """Which runs are wanted: in one of `states`, named by one of the patterns `names`, alive at `since` (unix seconds)
    or later, with these values in their config (dotted key → text). `limit`: at most so many that have ended, or with
    `sort` so many in all. `sort` is one of SORTS, from the largest with `-` before it."""

    states: Sequence[str] = ()
    names: Sequence[str] = ()
    since: float | None = None
    where: Mapping[str, str] | None = None
    sort: str | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Listing:
    """The runs that were wanted, and how many more fit but were over `limit`."""

    shown: Sequence[RunStatus]
    hidden: int


@dataclass(frozen=True)
class Found:
    """A run in the folder `root`; `ended` is when its summary was written, None if that has to be looked into."""

    root: str
    name: str
    ended: float | None

    @property
    def folder(self) -> str:
        return f"{self.root}/{self.name}"

    @property
    def run(self) -> record.RunDir:
        return record.RunDir(Path(self.folder))


def index(project: Path, names: Sequence[str] = ()) -> list[Found]:
    """Every run of a project whose name fits one of the patterns (all, if there is none), in no order."""
    fits = (lambda name: any(fnmatch.fnmatchcase(name, pattern) for pattern in names)) if names else None
    root = str(record.runs_root(project))
    return [Found(root, name, ended) for name, ended in record.glance(project, fits)]


def select(project: Path, query: Query) -> Listing:
    """The runs that a person or a program asked for, oldest first unless sorted."""
    now = time.time()
    entries = index(project, query.names)
    if query.states and not set(query.states) - set(ACTIVE):
        entries = [entry for entry in entries if entry.ended is None]
    refresh(entry.run for entry in entries if entry.ended is None)
    if query.states or query.where or query.since is not None or query.sort or query.limit is None:
        return _cut(list(_wanted(entries, query, now)), query)
    closed = sorted((entry for entry in entries if entry.ended is not None), key=lambda entry: entry.ended or 0.0)
    last = closed[max(0, len(closed) - query.limit) :]
    found = [look(entry, now) for entry in (*(entry for entry in entries if entry.ended is None), *last)]
    listing = _cut(found, query)
    return Listing(listing.shown, listing.hidden + len(closed) - len(last))


def named(project: Path, begin: str, most: int) -> list[tuple[str, str]]:
    """The runs whose names begin so, those without an end on record first, then the last that ended; the first `most`
    with how they stand."""
    now, root = time.time(), str(record.runs_root(project))
    found = [Found(root, name, ended) for name, ended in record.glance(project, lambda name: name.startswith(begin))]
    found.sort(key=lambda entry: entry.name)
    found.sort(key=lambda entry: float("-inf") if entry.ended is None else -entry.ended)
    return [(entry.name, _stands(look(entry, now)) if at < most else "") for at, entry in enumerate(found)]


def _stands(found: RunStatus) -> str:
    share = "" if found.progress is None else f", {100 * found.progress:.0f}%"
    return f"{found.state}{share}" + (f": {found.reason[:60]}" if found.reason else "")


def look(entry: Found, now: float) -> RunStatus:
    """The status of one run: by its summary alone if that is whole and its last word, else weighed."""
    if entry.ended is None:
        return finished(entry.run, now) or observe(entry.run)
    return brief(entry.folder, entry.name, now) or observe(entry.run)


def config_of(folder: str) -> dict[str, Any]:
    """The config of the run in a folder, without the rest of its run.json where that can be told apart; {} if there is
    none."""
    try:
        if _again(folder):  # a resume may have changed it
            return dict(record.content(record.RunDir(Path(folder)))["config"])
        data = record.read_bytes(f"{folder}/run.json")
        at = data.find(_CONFIG)  # a line break within a text is written \n: this is the key itself
        rest = data[at + len(_CONFIG) :].decode()
        found = json.loads(data)["config"] if at < 0 else _DECODER.raw_decode(rest)[0]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _again(folder: str) -> bool:
    """Whether a run was started more than once."""
    try:
        return len(os.listdir(f"{folder}/attempts")) > 1
    except OSError:
        return False


def value(config: Any, key: str) -> Any:
    """The value of a dotted key; None if it is not there."""
    for part in key.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return config


def matches(found: Any, wanted: str) -> bool:
    """Whether a value is what was typed: as a number, as a word of YAML, or as text."""
    if isinstance(found, list | dict):
        return json.dumps(found, separators=(",", ":")) == wanted.replace(" ", "")
    from runctl import yamlscalar

    meant = yamlscalar.plain(wanted)
    if isinstance(found, bool) or isinstance(meant, bool) or found is None or meant is None:
        return found is meant or str(found) == wanted
    return found == meant or str(found) == wanted


def _wanted(entries: Iterable[Found], query: Query, now: float) -> Iterator[RunStatus]:
    """The runs that fit. A config is read of those that fit otherwise; where nothing else is asked, it comes first."""
    first = query.where and not query.states and query.since is None
    for entry in entries:
        if first and not _set(entry, query):
            continue
        found = look(entry, now)
        if query.states and found.state not in query.states:
            continue
        if query.since is not None and found.over and (found.ended or 0.0) < query.since:
            continue
        if not first and not _set(entry, query):
            continue
        yield found


def _set(entry: Found, query: Query) -> bool:
    """Whether a run's config has the values that are wanted."""
    if not query.where:
        return True
    config = config_of(entry.folder)
    return all(matches(value(config, key), wanted) for key, wanted in query.where.items())


def _cut(found: list[RunStatus], query: Query) -> Listing:
    """In order, and no more than `query.limit` allows."""
    if query.sort:
        ordered = _sorted(found, query.sort)
        shown = ordered if query.limit is None else ordered[: query.limit]
        return Listing(shown, len(ordered) - len(shown))
    ordered = sorted(found, key=lambda entry: (entry.created or entry.started or 0.0, entry.run))
    if query.limit is None:
        return Listing(ordered, 0)
    over = sorted((entry for entry in ordered if entry.over), key=lambda entry: entry.ended or 0.0)
    last = {id(entry) for entry in over[max(0, len(over) - query.limit) :]}
    shown = [entry for entry in ordered if entry.active or id(entry) in last]
    return Listing(shown, len(ordered) - len(shown))


def _sorted(found: list[RunStatus], sort: str) -> list[RunStatus]:
    """By one of SORTS; what has no such value comes last, whichever way."""
    name, down = sort.removeprefix("-"), sort.startswith("-")
    attribute = {"name": "run", "cost": "cost_usd", "time": "total_seconds"}.get(name, name)
    known = [entry for entry in found if getattr(entry, attribute) is not None]
    rest = [entry for entry in found if getattr(entry, attribute) is None]
    known.sort(key=lambda entry: entry.run)
    known.sort(key=lambda entry: getattr(entry, attribute), reverse=down)
    return [*known, *sorted(rest, key=lambda entry: entry.run)]
