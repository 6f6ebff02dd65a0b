"""The baseline: findings that were there when a team began, known and counted, so that only new ones fail.

A file of JSON, one known finding on each line, so that git merges and shows it well:

    {"schema_version": 1, "findings": [
      {"fingerprint": "…", "rule": "CK101", "path": "configs/old.yaml", "key": "checkpoint.every", "message": "…"}
    ]}

Only the fingerprint counts; the rest is for people.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from runctl import record
from runctl.errors import UsageError
from runctl.facts import Finding
from runctl.filekind import other_than_file
from runctl.light import dataclass, pattern
from runctl.project import Project
from runctl.team.policy import UNWAIVABLE
from runctl.yamldoc import Position

FILE = "runctl-baseline.json"
SCHEMA_VERSION = 1
_EMPTY = f'{{"schema_version": {SCHEMA_VERSION}, "findings": []}}\n'
_FINGERPRINT = pattern(r'"fingerprint": "([0-9a-f]+)"')


def fingerprint(finding: Finding, nth: int = 0, root: Path | None = None) -> str:
    """32 hex digits that stay when lines move: of the rule, the file (relative to the project's `root`), the key, and
    which of several such findings it is (`nth`, from 0)."""
    import hashlib  # most calls need no fingerprint

    parts = (finding.rule, relative(finding.file, root), finding.key or "", str(nth))
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def fingerprints(findings: Iterable[Finding], root: Path | None = None) -> Iterator[tuple[Finding, str]]:
    """Each finding with its fingerprint, counted in the order of their places."""
    seen: dict[tuple[str, str | None, str | None], int] = {}
    for finding in sorted(findings, key=lambda one: (one.file or "", one.line or 0, one.column or 0)):
        alike = (finding.rule, finding.file, finding.key)
        nth = seen.get(alike, 0)
        seen[alike] = nth + 1
        yield finding, fingerprint(finding, nth, root)


def relative(file: str | None, root: Path | None = None) -> str:
    """A file's path from the project's root (else from here), with forward slashes, the same on every machine."""
    return "" if file is None else _relative(file, root, os.getcwd())


@lru_cache(maxsize=1 << 15)
def _relative(file: str, root: Path | None, here: str) -> str:
    folder, name = os.path.split(os.path.join(here, file))
    base, path = os.path.realpath(root or here), os.path.join(os.path.realpath(folder), name)  # a link has its own name
    return path[len(base) :].lstrip(os.sep).replace(os.sep, "/") if _inside(path, base) else Path(file).as_posix()


def _inside(path: str, base: str) -> bool:
    return path == base or path.startswith(base.rstrip(os.sep) + os.sep)


@dataclass(frozen=True)
class Entry:
    """A known finding; `line` is where it stands in the baseline `file`."""

    fingerprint: str
    rule: str
    path: str
    file: str
    line: int

    @property
    def position(self) -> Position:
        return Position(self.file, self.line, 1)


def place(project: Project) -> Path | None:
    """The project's baseline file, if it names one."""
    return project.root / project.baseline if project.baseline else None


def known(project: Project) -> Mapping[str, Entry]:
    """The entries of the project's baseline by fingerprint. Raises UsageError where the file is not there or is not
    one."""
    path = place(project)
    if path is None:
        return {}
    try:
        state = path.stat()
        if kind := other_than_file(path):
            raise UsageError(f"the baseline {path} is {kind}, not a file")
    except (OSError, ValueError):
        hint = "make it: runctl preflight FOLDER --create-baseline, with --baseline FILE for a place of its own"
        raise UsageError(f"there is no baseline {path}", hint=hint) from None
    return _read(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=16)
def _read(path: Path, changed: int, size: int) -> Mapping[str, Entry]:
    import json

    shown = relative(str(path)) or str(path)
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text)
        findings = data["findings"]
        if data["schema_version"] != SCHEMA_VERSION or not isinstance(findings, list):
            raise KeyError("schema_version")
        rows = enumerate(text.splitlines(), 1)
        lines = {one[1]: number for number, line in rows if (one := _FINGERPRINT.search(line))}
        entries = [
            Entry(each["fingerprint"], str(each["rule"]), str(each["path"]), shown, lines.get(each["fingerprint"], 1))
            for each in findings
        ]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        hint = "write it anew: runctl preflight FOLDER --create-baseline"
        raise UsageError(f"{shown} is no baseline of runctl", hint=hint) from None
    return {entry.fingerprint: entry for entry in entries}


def split(findings: Sequence[Finding], project: Project | None) -> tuple[list[Finding], list[tuple[Finding, Entry]]]:
    """The findings that are new, and those that the project's baseline knows."""
    entries = known(project) if project is not None else {}
    if not entries or project is None:
        return list(findings), []
    marks = {id(finding): mark for finding, mark in fingerprints(findings, project.root)}
    there = {mark: entries[mark] for mark in marks.values() if mark in entries}
    old = [(one, there[marks[id(one)]]) for one in findings if marks[id(one)] in there and one.rule not in UNWAIVABLE]
    held = {id(one) for one, _ in old}
    return [one for one in findings if id(one) not in held], old


def write(path: Path, findings: Iterable[tuple[Finding, str]], kept: Iterable[Mapping[str, str]], root: Path) -> int:
    """Replace the baseline by these findings, and by entries `kept` of files that were not looked at; returns how many
    it now holds."""
    import json

    rows = {
        mark: {
            "fingerprint": mark,
            "rule": finding.rule,
            "path": relative(finding.file, root),
            "key": finding.key or "",
            "message": finding.message,
        }
        for finding, mark in findings
        if finding.rule not in UNWAIVABLE
    }
    rows = {**{row["fingerprint"]: dict(row) for row in kept}, **rows}
    ordered = sorted(rows.values(), key=lambda row: (row["path"], row["rule"], row.get("key", ""), row["fingerprint"]))
    lines = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in ordered)
    text = f'{{"schema_version": {SCHEMA_VERSION}, "findings": [\n{lines}\n]}}\n' if lines else _EMPTY
    record.write_text(path, text)
    return len(ordered)


def rows(path: Path) -> list[dict[str, str]]:
    """The entries of a baseline as they are written; none where there is no such file."""
    found = record.read_object(path).get("findings")
    return [row for row in found if isinstance(row, dict) and "fingerprint" in row] if isinstance(found, list) else []
