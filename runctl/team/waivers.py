"""Waivers: findings that a team allows, each with its reason; and what is wrong with a waiver that is not in order.

In a config, a comment on a line of its own speaks for the whole file, and one at the end of a line for the findings
on that line only:

    # runctl: allow EN104 the cluster's image is pinned
    checkpoint: {every: never}  # runctl: allow CK101 throughput test

In `runctl.yaml`, by path, for as long as it says:

    waivers:
      - {rule: CK101, paths: ["configs/smoke/*.yaml"], reason: smoke runs keep nothing, until: 2027-01-31}
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runctl import rules
from runctl.errors import UsageError, did_you_mean
from runctl.facts import Finding
from runctl.light import dataclass, field, pattern
from runctl.project import Project
from runctl.team import globs
from runctl.team.policy import UNWAIVABLE
from runctl.yamldoc import Document, Path, Position

if TYPE_CHECKING:
    import datetime

KEYS = ("rule", "paths", "reason", "until")
_COMMENT = pattern(r"(?:^|\s)#\s*runctl:\s*allow\b[ \t]*(\S*)[ \t]*(.*?)\s*$")


@dataclass(frozen=True)
class Waiver:
    """`where` says what kind of waiver it is: of the config, of the project, or of the baseline, whose `fingerprint`
    it has. `line` is the only line that it speaks for; `paths` are globs from the project's root; from the day after
    `until` on it is void."""

    rule: str
    reason: str
    position: Position
    where: str = "config"
    line: int | None = None
    paths: tuple[str, ...] = ()
    until: datetime.date | None = None
    fingerprint: str = ""

    @property
    def expired(self) -> bool:
        if self.until is None:
            return False
        import datetime  # few waivers end

        return self.until < datetime.date.today()


def find(document: Document) -> list[Waiver]:
    """The `# runctl: allow RULE reason` comments of a config; text in quotes or in a block is no comment."""
    if "runctl:" not in document.text:
        return []
    found = []
    inside: list[tuple[tuple[int, int], tuple[int, int]]] | None = None
    for number, line in enumerate(document.text.splitlines(), 1):
        if "runctl:" not in line or not (match := _COMMENT.search(line)):
            continue
        column = line.index("#", match.start()) + 1
        inside = _scalars(document.text) if inside is None else inside
        if any(start <= (number, column) < end for start, end in inside):
            continue
        own = not line[: column - 1].strip()
        position = Position(document.file, number, column)
        found.append(Waiver(match[1].upper(), match[2], position, line=None if own else number))
    return found


def _scalars(text: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where each scalar of a document begins and ends, as (line, column) from 1."""
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        marks = [(one.start_mark, one.end_mark) for one in yaml.scan(text, loader) if isinstance(one, yaml.ScalarToken)]
    except yaml.YAMLError:
        return []
    return [((start.line + 1, start.column + 1), (end.line + 1, end.column + 1)) for start, end in marks]


def of_project(project: Project) -> tuple[Waiver, ...]:
    """The waivers of `runctl.yaml`; raises UsageError, with the place, where one is not written as it must be."""
    if not project.waivers or project.document is None:
        return ()
    return tuple(_read(item, project.document, ("waivers", index)) for index, item in enumerate(project.waivers))


def _read(item: Any, document: Document, path: Path) -> Waiver:
    if not isinstance(item, Mapping):
        hint = 'write: - {rule: CK101, paths: ["configs/smoke/*.yaml"], reason: why it is allowed}'
        raise UsageError(f"{document.position(path)}: a waiver is a mapping of rule, paths and reason", hint=hint)
    for key in item:
        if key not in KEYS:
            hint = did_you_mean(str(key), KEYS) or f"known: {', '.join(KEYS)}"
            raise UsageError(f"{document.position((*path, key))}: a waiver has no '{key}'", hint=hint)
    rule, reason, paths = item.get("rule"), item.get("reason"), item.get("paths")
    if not isinstance(rule, str):
        raise UsageError(f"{document.position((*path, 'rule'))}: a waiver names one rule", hint="write rule: CK101")
    if reason is not None and not isinstance(reason, str):
        raise UsageError(f"{document.position((*path, 'reason'))}: the reason of a waiver is a sentence")
    paths = [paths] if isinstance(paths, str) else paths
    if not isinstance(paths, list) or not paths or not all(isinstance(one, str) and one for one in paths):
        hint = 'write paths: ["configs/smoke/*.yaml"], from the folder of runctl.yaml; "**" is every file'
        raise UsageError(f"{document.position((*path, 'paths'))}: a waiver names the files that it is for", hint=hint)
    until = _date(item.get("until"), document, (*path, "until"))
    place = document.position(path)
    return Waiver(rule.upper(), (reason or "").strip(), place, "project", None, tuple(paths), until)


def _date(given: Any, document: Document, path: Path) -> datetime.date | None:
    if given is None:
        return None
    import datetime

    try:
        return datetime.date.fromisoformat(str(given))
    except ValueError:
        raise UsageError(
            f"{document.position(path)}: until is {str(given)[:40]!r}, not a day", hint="write until: 2027-01-31"
        ) from None


def concern(waiver: Waiver, relative: str) -> bool:
    """Whether a project's waiver is for this file and still holds."""
    return not waiver.expired and any(globs.fits(relative, glob) for glob in waiver.paths)


def waives(waiver: Waiver, finding: Finding) -> bool:
    if waiver.rule != finding.rule or not waiver.reason or finding.rule in UNWAIVABLE:
        return False
    return waiver.line is None or (waiver.line == finding.line and waiver.position.file == finding.file)


@dataclass(frozen=True)
class Course:
    """What became of the rules in one config: what was `found`, waived or not, which could `not_check`, and which
    were `chosen` at all."""

    found: Sequence[Finding]
    waived: Sequence[tuple[Finding, Waiver]]
    not_checked: Collection[str]
    chosen: Collection[str]


def judged(waivers: Sequence[Waiver], course: Course) -> tuple[tuple[Waiver, str], ...]:
    """(waiver, what is wrong with it) for every waiver of a config that is not in order."""
    used = [waiver for _, waiver in course.waived]
    result = []
    for waiver in waivers:
        if fault := _fault(waiver):
            result.append((waiver, fault))
        elif waiver in used or waiver.rule in course.not_checked or waiver.rule not in course.chosen:
            continue
        elif waiver.line is not None and (elsewhere := _elsewhere(waiver, course)):
            result.append((waiver, f"is for this line, but {waiver.rule} stands {elsewhere}"))
        else:
            here = "here" if waiver.line is None else "here: at the end of a line it speaks for that line only"
            result.append((waiver, f"allows {waiver.rule}, which finds nothing {here}"))
    return tuple(result)


def _fault(waiver: Waiver) -> str | None:
    if waiver.rule not in rules.known():
        return f"names no rule: '{waiver.rule}'"
    if waiver.rule in UNWAIVABLE:
        why = "such a config cannot run" if waiver.rule.startswith("CF") else "it is about what is allowed"
        return f"cannot allow {waiver.rule}: {why}"
    if not waiver.reason:
        return f"gives no reason to allow {waiver.rule}"
    return None


def _elsewhere(waiver: Waiver, course: Course) -> str | None:
    lines = [finding.line for finding in course.found if finding.rule == waiver.rule]
    if not lines:
        return None
    return f"on line {lines[0]}" if lines[0] is not None else "on no line of the file"


@dataclass
class Tally:
    """Over all configs of one call: which files were checked, and what each project's waiver did there."""

    checked: set[str] = field(default_factory=set)
    used: set[Waiver] = field(default_factory=set)
    undecided: set[Waiver] = field(default_factory=set)

    def add(self, relative: str, waivers: Sequence[Waiver], course: Course) -> None:
        self.checked.add(relative)
        self.used.update(waiver for _, waiver in course.waived if waiver.where == "project")
        for waiver in waivers:
            if waiver.rule in course.not_checked or waiver.rule not in course.chosen:
                self.undecided.add(waiver)


def judged_of_project(project: Project, waivers: Sequence[Waiver], tally: Tally) -> Iterator[tuple[Waiver, str]]:
    """(waiver, what is wrong with it) for those of `runctl.yaml`. One that allows nothing is only known to where every
    file that it is for was checked."""
    listed: dict[Any, list[str]] = {}
    for waiver in waivers:
        if fault := _fault(waiver):
            yield waiver, fault
        elif waiver.expired:
            yield waiver, f"allowed {waiver.rule} until {waiver.until}, which is over"
        elif waiver not in tally.used and waiver not in tally.undecided:
            idle = [glob for glob in waiver.paths if globs.judged_whole(glob, project.root, tally.checked, listed)]
            if len(idle) == len(waiver.paths):
                yield waiver, f"allows {waiver.rule}, which finds nothing in {', '.join(idle)}"
