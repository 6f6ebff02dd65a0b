"""`runctl.yaml` under preflight: the project of each config, what its waivers and its baseline did in all configs of a
call, and the facts by which the rules judge the project itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from runctl import project as projects
from runctl.facts import Facts, Finding
from runctl.light import dataclass, field, replace
from runctl.project import Project
from runctl.team import baseline, policy, waivers
from runctl.team.waivers import Course, Tally, Waiver
from runctl.yamldoc import Document

T = TypeVar("T")


@dataclass
class Held:
    """A project, and what was counted of it. `known` are the entries of the baseline that occurred; `undecided` are
    (file, rule) that could not be judged, `judged` those that were."""

    project: Project
    tally: Tally = field(default_factory=Tally)
    known: set[str] = field(default_factory=set)
    judged: set[tuple[str, str]] = field(default_factory=set)


class Projects:
    """The project of each config, read once for each folder."""

    def __init__(self, given: Project | None = None, known: str | None = None) -> None:
        self.given = given
        self.known = known
        self.folders: dict[Path, Project] = {}
        self.held: dict[Path, Held] = {}

    def of(self, path: Path) -> Project:
        """Raises UsageError where its `runctl.yaml`, or the baseline that it names, is not valid."""
        found = self.folders.get(path.parent)
        if found is None:
            found = self.given or projects.load(path)
            if found.root in self.held:
                found = self.held[found.root].project
            elif self.known is not None:
                found = replace(found, baseline=str(Path(self.known).resolve()) if self.known else None)
            self.folders[path.parent] = found
        if found.root not in self.held:
            policy_of(found)
            waivers_of(found)
            baseline.known(found)
            self.held[found.root] = Held(found)
        return found

    def add(self, facts: Facts, course: Course) -> None:
        """Count what the waivers and the baseline of a config's project did in it."""
        own = facts.project
        if own is None or not (own.waivers or own.baseline):
            return
        held = self.held[own.root]
        relative = baseline.relative(facts.path, own.root)
        held.tally.add(relative, concerning(own, relative), course)
        held.known.update(waiver.fingerprint for _, waiver in course.waived if waiver.where == "baseline")
        held.judged.update((relative, rule) for rule in course.chosen if rule not in course.not_checked)

    def speaking(self) -> Iterator[Held]:
        """Every project whose `runctl.yaml` says something of findings."""
        for held in self.held.values():
            own = held.project
            if own.baseline or (own.file is not None and (own.policy or own.waivers)):
                yield held


def policy_of(project: Project) -> policy.Policy:
    """Raises UsageError, with the place, where it is not written as it must be."""
    document = project.document
    if document is None:
        return policy.read(project.policy, str(project.file or projects.FILE))
    return _once(
        "policy",
        document,
        lambda: policy.read(project.policy, document.file, lambda *keys: str(document.position(("policy", *keys)))),
    )


_kept: dict[str, tuple[Document, Any]] = {}


def _once(name: str, document: Document, make: Callable[[], T]) -> T:
    """What is made of a `runctl.yaml`, made once for each that was read."""
    found = _kept.get(name)
    if found is None or found[0] is not document:
        found = _kept[name] = (document, make())
    kept: T = found[1]
    return kept


def waivers_of(project: Project) -> tuple[Waiver, ...]:
    """Raises UsageError, with the place, where one is not written as it must be."""
    document = project.document
    return () if document is None else _once("waivers", document, lambda: waivers.of_project(project))


def concerning(project: Project, relative: str) -> list[Waiver]:
    """The project's waivers that are for this file."""
    return [waiver for waiver in waivers_of(project) if waivers.concern(waiver, relative)]


def known(findings: list[Finding], facts: Facts) -> tuple[list[Finding], list[tuple[Finding, Waiver]]]:
    """The findings that are new, and those of the baseline as what allows them."""
    new, old = baseline.split(findings, facts.project)
    return new, [
        (one, Waiver(entry.rule, f"known: in {entry.file}", entry.position, "baseline", fingerprint=entry.fingerprint))
        for one, entry in old
    ]


def facts_of(held: Held) -> tuple[Facts, Document]:
    """The facts of `runctl.yaml`: `project.policy` as written, `project.waivers` and `project.baseline` that are not in
    order, each (what, what is wrong with it)."""
    own = held.project
    document = own.document or Document(str(own.file or projects.FILE), "")
    facts = Facts(document.file, policy_of(own), project=own)
    facts.put("config.kind", "project", "file")
    facts.put("project.policy", own.policy, "file")
    facts.put("project.document", document, "file")
    wrong = tuple(waivers.judged_of_project(own, waivers_of(own), held.tally))
    facts.put("project.waivers", wrong, "derived", "the configs given")
    facts.put("project.baseline", tuple(_gone(held)), "derived", "the configs given")
    return facts, document


def _gone(held: Held) -> Iterator[tuple[baseline.Entry, str]]:
    """Entries of the baseline that no longer occur, as far as that was looked at."""
    from runctl.team import globs  # most projects have no baseline

    root, checked = held.project.root, held.tally.checked
    gone: dict[str, bool] = {}
    listed: dict[Path, list[str]] = {}
    for entry in baseline.known(held.project).values():
        if entry.fingerprint in held.known:
            continue
        if (entry.path, entry.rule) in held.judged:
            yield entry, f"{entry.path} no longer has this finding of {entry.rule}"
            continue
        if entry.path not in gone:
            away = not (root / entry.path).exists()
            gone[entry.path] = away and globs.judged_whole(entry.path, root, checked, listed)
        if gone[entry.path]:
            yield entry, f"there is no {entry.path} any more"
