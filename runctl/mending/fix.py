"""`--fix`: make the edits that rules offer, one after the other, each judged again before it is kept.

An edit is kept only if the new text says what was meant and nothing else (`yamledit`), and if no rule that had judged
the config finds an error that it did not find before. A file is replaced whole or not at all, and not if somebody
changed it meanwhile.
"""

from __future__ import annotations

import difflib
import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from runctl import preflight, record, yamldoc
from runctl import project as projects
from runctl.errors import UsageError
from runctl.facts import Edit, Finding
from runctl.gathering import secrets
from runctl.light import dataclass, field, replace
from runctl.mending import yamledit
from runctl.preflight import Options, Report
from runctl.yamldoc import Document

MOST = 200
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Mended:
    """What was done to a file: its text `before` and `after`, the findings that were `fixed`, those whose edit was
    `refused` and why, and how many more edits are `unsafe`, that nobody asked for; `hidden` are its secrets."""

    path: Path
    before: str
    after: str
    fixed: tuple[Finding, ...] = ()
    refused: tuple[tuple[Finding, str], ...] = ()
    unsafe: int = 0
    hidden: tuple[Any, ...] = ()

    @property
    def changed(self) -> bool:
        return self.before != self.after

    def diff(self) -> str:
        """The change as a unified diff; empty where there is none."""
        name = self.path.as_posix()
        before, after = self.before.splitlines(keepends=True), self.after.splitlines(keepends=True)
        lines = difflib.unified_diff(before, after, f"a/{name}", f"b/{name}")
        whole = (line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
        return "".join(secrets.masked(line, self.hidden) for line in whole)


@dataclass
class _Course:
    """Where the edits of one file stand."""

    document: Document
    report: Report
    fixed: list[Finding] = field(default_factory=list)
    refused: dict[Edit, tuple[Finding, str]] = field(default_factory=dict)


def mend(path: Path, options: Options, only: Iterable[str] | None = None, *, unsafe: bool = False) -> Mended:
    """Work out the edits of one file; nothing is written. `only` are the rules whose edits are wanted.

    Raises UsageError where the file cannot be read, or `--set` says otherwise than the file."""
    if options.overrides:
        raise UsageError("--fix changes files, and --set speaks of what no file says", hint="leave --set out")
    wanted = None if only is None else set(only)
    project = projects.load(path)

    def judge(document: Document) -> Report:
        return preflight.check(*preflight.gather(path, options, project, replace(document)))

    document = yamldoc.load(path, tags=True)
    course = _Course(document, judge(document))
    for _ in range(MOST):
        found = _next(course, wanted, unsafe)
        if found is None:
            break
        finding, edit = found
        try:
            after = yamldoc.parse(yamledit.changed(course.document, edit), course.document.file, tags=True)
            report = judge(after)
            if made := _new_errors(course.report, report):
                raise yamledit.CannotEdit(f"it would make a new error: {made.rule} {made.message}")
            if after.text == course.document.text:
                raise yamledit.CannotEdit("nothing would change")
        except (yamledit.CannotEdit, UsageError) as why:
            course.refused[edit] = (finding, str(why))
            continue
        course.document, course.report = after, report
        course.fixed.append(finding)
    left = {one.edit for one in course.report.findings if one.edit is not None and not one.edit.safe}
    asked = {one.edit for one in course.report.findings if one.edit is not None}
    refused = tuple(value for edit, value in course.refused.items() if edit in asked)
    count = 0 if unsafe else len(left)
    hidden = tuple(course.report.facts.get("config.hidden") or ())
    return Mended(path, document.text, course.document.text, tuple(course.fixed), refused, count, hidden)


def _next(course: _Course, wanted: set[str] | None, unsafe: bool) -> tuple[Finding, Edit] | None:
    """The next edit to try."""
    for finding in course.report.findings:
        edit = finding.edit
        if edit is None or edit in course.refused or not (edit.safe or unsafe):
            continue
        if (wanted is None or finding.rule in wanted) and finding.file in (course.document.file, course.report.path):
            return finding, edit
    return None


def _new_errors(before: Report, after: Report) -> Finding | None:
    """An error that an edit would make: of a rule that judged before, and found no such error there."""
    known = Counter((one.rule, one.key) for one in before.errors)
    for one in after.errors:
        if one.rule in before.coverage.checked:
            if not known[one.rule, one.key]:
                return one
            known[one.rule, one.key] -= 1
    return None


def write(mended: Mended) -> None:
    """Replace the file, whole or not at all, with its mode and its byte-order mark. Raises UsageError where it is no
    longer what was judged."""
    path = mended.path.resolve()  # a link stays a link
    raw = path.read_bytes()
    mark = _BOM if raw.startswith(_BOM) else b""
    if raw != mark + mended.before.encode():
        raise UsageError(f"{mended.path} was changed meanwhile; it is left as it is", hint="run the command again")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(mark + mended.after.encode())
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, stat.S_IMODE(path.stat().st_mode))
        if path.read_bytes() != raw:
            raise UsageError(f"{mended.path} was changed meanwhile; it is left as it is", hint="run the command again")
        os.replace(temporary, path)
        record.sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def told(mended: Sequence[Mended]) -> list[str]:
    """What was fixed and what was not, a line each."""
    lines = []
    for one in mended:
        for finding in one.fixed:
            lines.append(f"fixed {finding.rule} {finding.where()}: {words(finding.edit)}")
        for finding, why in one.refused:
            lines.append(f"not fixed {finding.rule} {finding.where()}: {why}")
    return lines


def words(edit: Edit | None) -> str:
    """What an edit does, in words."""
    if edit is None:
        return ""
    if edit.rename is not None:
        return f"{edit.key} is now {'.'.join([*edit.key.split('.')[:-1], edit.rename])}"
    if edit.value is None:
        return f"{edit.key} is taken out" + (", where it stood twice" if edit.at else "")
    return ", ".join(f"{key}: {value}" for key, value in ((edit.key, edit.value), *edit.also))
