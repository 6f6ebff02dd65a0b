"""Configs against another git ref: what a change does to cost, time, memory, parameters and findings.

Both versions are judged by this runctl with the same options; the base in a copy of its commit (`gitref.copy`), so
that the `runctl.yaml`, the manifests and the neighbours of that time count there.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runctl import gitref, preflight, surveys
from runctl import project as projects
from runctl.errors import RunctlError, UsageError
from runctl.facts import Fact, Finding
from runctl.gathering import versus
from runctl.preflight import ORDER, Options, Report
from runctl.team import baseline

CARDS = "runcards"  # the folder of a project's run cards
CLOSE = 0.005  # two estimates that differ by less than this part are the same


@dataclass(frozen=True)
class Change:
    """One config that is not as it was. `state` is `new`, `deleted`, `renamed` (from `was`), `changed`, or `affected`:
    the file is the same, and what it stands on is not. `broken` is why its base could not be judged.

    `new`, `fixed` and `kept` are findings; one that got worse is new. `waived` were open at the base and are allowed
    or known now."""

    path: str
    state: str
    now: Report | None
    before: Report | None
    was: str | None = None
    broken: str = ""
    new: tuple[Finding, ...] = ()
    fixed: tuple[Finding, ...] = ()
    kept: tuple[Finding, ...] = ()
    waived: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """`changes` in the order of their paths; `unchanged` are the present reports of all other configs, `cards`
    the run cards that are not as they were."""

    ref: str
    commit: str
    note: str
    changes: tuple[Change, ...]
    unchanged: tuple[Report, ...]
    cards: tuple[Path, ...] = ()

    @property
    def new(self) -> list[Finding]:
        return [finding for change in self.changes for finding in change.new]


@dataclass(frozen=True)
class Judged:
    """The present reports, the errors of files that cannot be read, and what changed."""

    reports: tuple[Report, ...]
    unreadable: tuple[RunctlError, ...]
    comparison: Comparison


def compare(paths: Sequence[Path], ref: str, options: Options, only: Iterable[str] | None = None) -> Judged:
    """Judge the configs now and at `ref`. A path that is only at `ref` is a deleted config, or a folder of them.

    Raises UsageError as `gitref.find` and `surveys.survey` do, and where nothing is at the paths in either
    version."""
    wanted = None if only is None else set(only)
    tree = gitref.find(paths, ref)
    given = [Path(os.path.relpath(path)) if path.is_absolute() else path for path in paths]
    with tempfile.TemporaryDirectory(prefix="runctl-base-") as temporary:
        folder = Path(temporary).resolve()
        names = gitref.copy(tree, folder)
        moved = {new: old for new, old in gitref.renames(tree).items() if old in names}
        with _inside(folder, tree):
            then = _then(given, folder, names)
        present = _now(given, tree.root, set(then))
        now, unreadable = _judge(present, options, wanted, tree.root)
        was = [moved[name] for name in now if name in moved]
        with _inside(folder, tree):
            then |= {name: Path(os.path.relpath(folder / name)) for name in was}
            before, broken = _judge_then(then, options, wanted, folder)
    before = {name: _as_here(report, str(folder), str(tree.root)) for name, report in before.items()}
    now = {name: _beside(report, before.get(moved.get(name, name)), tree.ref) for name, report in now.items()}
    changes = [*_changes(now, before, broken, moved, names), *_deleted(before, tree.root, set(moved.values()))]
    changes.sort(key=lambda change: change.path)
    changed = {id(change.now) for change in changes}
    unchanged = tuple(report for report in now.values() if id(report) not in changed and report.kind != "project")
    cards = [Path(name) for name in gitref.touched(tree, "*.md") if Path(name).parent.name == CARDS]
    near = tuple(Path(os.path.relpath(tree.root / path)) for path in cards if path.name.lower() != "readme.md")
    found = Comparison(tree.ref, tree.commit, tree.note, tuple(changes), unchanged, near)
    return Judged(tuple(now.values()), tuple(unreadable.values()), found)


def _name(path: Path | str, root: Path) -> str:
    """A path's name in the repository, with forward slashes."""
    return baseline.relative(str(path), root)


@contextlib.contextmanager
def _inside(folder: Path, tree: gitref.Tree) -> Iterator[None]:
    """Be where the command was called, but in the copy: every relative path then means the copy's file."""
    try:
        below = Path.cwd().resolve().relative_to(tree.root)
    except ValueError:
        raise UsageError("--base works inside the repository of the configs", hint=f"cd {tree.root}") from None
    (folder / below).mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(folder / below):
        yield


def _then(given: Sequence[Path], folder: Path, names: set[str]) -> dict[str, Path]:
    """The configs of the given paths at the base, by name."""
    found: dict[str, Path] = {}
    for path in given:
        if path.exists():
            with contextlib.suppress(UsageError):  # a folder without configs
                found |= {_name(one, folder): one for one in preflight.expand([path])}
    return {name: path for name, path in found.items() if name in names}


def _now(given: Sequence[Path], root: Path, then: set[str]) -> dict[str, Path]:
    """The configs of the given paths now, by name. A path that is gone is no mistake where the base has it."""
    found: dict[str, Path] = {}
    for path in given:
        name = _name(path, root)
        held = name == "." or any(one == name or one.startswith(f"{name}/") for one in then)
        if held and not path.exists():
            continue
        with contextlib.suppress(UsageError) if held else contextlib.nullcontext():
            found |= {_name(one, root): one for one in preflight.expand([path])}
    return found


def _judge(
    paths: Mapping[str, Path], options: Options, only: set[str] | None, root: Path
) -> tuple[dict[str, Report], dict[str, UsageError]]:
    """The report of each config by its name; the error of each that cannot be read. Those of `runctl.yaml` are last."""
    reports: dict[str, Report] = {}
    errors: dict[str, UsageError] = {}
    waiting = deque((name, str(path)) for name, path in paths.items() if path.name != projects.FILE)
    for found in surveys.survey(list(paths.values()), options, only):
        if isinstance(found, Report):
            reports[_name(found.path, root)] = found
            if waiting and waiting[0][1] == found.path:
                waiting.popleft()
        elif waiting:  # what comes is in the order of the paths
            errors[waiting.popleft()[0]] = found
    return reports, errors


def _judge_then(
    paths: Mapping[str, Path], options: Options, only: set[str] | None, folder: Path
) -> tuple[dict[str, Report], dict[str, UsageError]]:
    """The base's reports; where its project cannot be read, that is why none of them could be judged."""
    source = options.source.resolve() if options.source else None  # the same name would be read only once
    known = options.known if options.known is None or Path(options.known).exists() else None
    try:
        return _judge(paths, replace(options, source=source, known=known), only, folder)
    except UsageError as error:
        return {}, dict.fromkeys(paths, error)


def _as_here(report: Report, folder: str, root: str) -> Report:
    """The report without the names of the copy."""

    def here(text: str | None) -> str | None:
        return text.replace(folder, root) if text else text

    def moved(one: Finding) -> Finding:
        return replace(one, message=here(one.message) or "", file=here(one.file), fix=here(one.fix))

    return replace(
        report,
        path=here(report.path) or "",
        findings=tuple(moved(one) for one in report.findings),
        waived=tuple((moved(one), waiver) for one, waiver in report.waived),
    )


def _beside(report: Report, before: Report | None, ref: str) -> Report:
    """The report, with what OP103 says of the batch since the base, where no other baseline lies beside the config."""
    if before is None or report.document is None or "OP103" not in report.coverage.not_checked:
        return report
    versus.against(report.facts, before.facts, f"{Path(report.path).name} at {ref}")
    again = preflight.check(report.facts, report.document, {"OP103"})
    others = {rule: why for rule, why in report.coverage.not_checked.items() if rule != "OP103"}
    coverage = replace(
        report.coverage,
        checked=(*report.coverage.checked, *again.coverage.checked),
        not_checked=others | again.coverage.not_checked,
    )
    findings, waived = (*report.findings, *again.findings), (*report.waived, *again.waived)
    return replace(report, findings=findings, waived=waived, coverage=coverage)


def _changes(
    now: Mapping[str, Report],
    before: Mapping[str, Report],
    broken: Mapping[str, UsageError],
    moved: Mapping[str, str],
    names: set[str],
) -> Iterator[Change]:
    for name, report in now.items():
        was = moved.get(name)
        old = before.get(was or name)
        state = "renamed" if was else "changed" if name in names else "new"
        why = str(broken[was or name]) if (was or name) in broken else ""
        change = _change(report, old, state, was, why)
        if state == "changed" and old is not None and _text(report) == _text(old):
            if _alike(change):
                continue
            change = replace(change, state="affected")
        yield change


def _deleted(before: Mapping[str, Report], root: Path, moved: set[str]) -> Iterator[Change]:
    for name, report in before.items():
        if name not in moved and report.kind != "project" and not os.path.lexists(root / name):
            yield Change(report.path, "deleted", None, report, fixed=report.findings)


def _change(now: Report, before: Report | None, state: str, was: str | None, broken: str) -> Change:
    old = dict(_marked(before.findings)) if before else {}
    present = dict(_marked(now.findings))
    allowed = dict(_marked(one for one, _ in now.waived))
    kept = {mark for mark, one in present.items() if mark in old and _rank(one) >= _rank(old[mark])}
    gone = {mark: one for mark, one in old.items() if mark not in present}
    return Change(
        now.path,
        state,
        now,
        before,
        was,
        broken,
        new=tuple(one for mark, one in present.items() if mark not in kept),
        fixed=tuple(one for mark, one in gone.items() if mark not in allowed),
        kept=tuple(one for mark, one in present.items() if mark in kept),
        waived=tuple(allowed[mark] for mark in gone if mark in allowed),
    )


def _marked(findings: Iterable[Finding]) -> Iterator[tuple[tuple[str, str, int], Finding]]:
    """Each finding with what it is known by in its file: rule, key, and which of several such. Worst first."""
    seen: dict[tuple[str, str], int] = {}
    marks = {}
    every = list(findings)
    for one in sorted(every, key=lambda one: (one.line or 0, one.column or 0)):
        alike = (one.rule, one.key or "")
        marks[id(one)] = (*alike, seen.get(alike, 0))
        seen[alike] = seen.get(alike, 0) + 1
    for one in every:
        yield marks[id(one)], one


def _rank(finding: Finding) -> int:
    return ORDER[finding.severity or "error"]


def _text(report: Report) -> str | None:
    return report.document.text if report.document else None


def _alike(change: Change) -> bool:
    """Whether nothing differs that a person would want to know."""
    if change.now is None or change.before is None or change.new or change.fixed or change.waived:
        return False
    if change.now.verdict != change.before.verdict:
        return False
    then, now = measures(change.before), measures(change.now)
    return all(same(then[name], now[name]) for name in now)


def measures(report: Report) -> dict[str, float | str | None]:
    """The likely `cost` in USD, `time` in seconds, `memory` in bytes, `parameters` and `steps`; on which `gpu`. None
    where unknown."""
    likely = {name: _likely(report.estimates.get(name)) for name in ("cost", "time", "memory", "parameters")}
    gpu = report.facts.get("gpu")
    count = report.facts.get("gpu.count", 1)
    where = None if gpu is None else f"{count} × {gpu.name}" if count and count != 1 else str(gpu.name)
    return {**likely, "steps": report.facts.get("run.steps"), "gpu": where}


def same(before: float | str | None, now: float | str | None) -> bool:
    if isinstance(before, int | float) and isinstance(now, int | float):
        return math.isclose(before, now, rel_tol=CLOSE)
    return before == now


def _likely(found: Any) -> float | None:
    if not isinstance(found, Fact):
        return None
    value = getattr(found.value, "likely", found.value)
    return value if isinstance(value, int | float) else None
