"""Preflight of many configs: each by itself, and beside the others; a long list in two processes.

The work of a config is its own but for one moment: the comparison with its neighbours. So the list is dealt out, both
processes read their configs, tell each other what comparing reads (`gathering/shared.py`), compare, and judge.
What goes wrong with the other process is no reason to fail: its configs are then judged here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runctl import project as projects
from runctl.errors import UsageError
from runctl.facts import Facts
from runctl.gathering import shared, siblings, written
from runctl.preflight import Options, Report, check, gather
from runctl.project import Project
from runctl.team import preflight_project
from runctl.team.waivers import Course
from runctl.yamldoc import Document

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

LEAST = 64  # configs; fewer are judged before a second process is of use
Gathered = tuple[Facts, Document] | UsageError
Item = tuple[Path, Project]


def survey(
    paths: Sequence[Path],
    options: Options | None = None,
    only: Iterable[str] | None = None,
    project: Project | None = None,
    processes: int = 1,
    brief: bool = False,
) -> Iterator[Report | UsageError]:
    """Judge many configs, each also beside the others; the error of each file that cannot be read. Last come reports
    on the `runctl.yaml` of each project that says something of findings. Raises UsageError where one is not valid.

    With two `processes`, a report of the other one holds what is shown of a config, not all that was gathered; with
    `brief`, what a text about many configs shows of each."""
    wanted = None if only is None else set(only)
    owners = preflight_project.Projects(project, options.known if options else None)
    if options is not None and options.source is not None:
        written.code(options.source)  # what is wrong with it is said once
    items = [(path, owners.of(path)) for path in paths]
    items = [(path, own) for path, own in items if path.name != projects.FILE or own.file is None]
    if processes > 1 and len(items) >= LEAST and sys.platform == "linux":
        judged = _apart(items, options, wanted, brief)
    else:
        judged = _here(items, options, wanted)
    for one in judged:
        if isinstance(one, Report):
            owners.add(one.facts, _course(one))
        yield one
    for held in owners.speaking():
        yield check(*preflight_project.facts_of(held), wanted)


def _course(report: Report) -> Course:
    """What became of the rules in a config."""
    coverage = report.coverage
    found = [*report.findings, *(finding for finding, _ in report.waived)]
    return Course(found, report.waived, coverage.not_checked, {*coverage.checked, *coverage.not_checked})


def _here(items: Sequence[Item], options: Options | None, wanted: set[str] | None) -> Iterator[Report | UsageError]:
    found = _gathered(items, options)
    siblings.compare([one for one in found if isinstance(one, tuple)])
    return _judged(found, wanted)


def _gathered(items: Sequence[Item], options: Options | None) -> list[Gathered]:
    found: list[Gathered] = []
    for path, own in items:
        try:
            found.append(gather(path, options, own))
        except UsageError as error:
            found.append(error)
    return found


def _judged(found: Iterable[Gathered], wanted: set[str] | None) -> Iterator[Report | UsageError]:
    for one in found:
        yield check(*one, wanted) if isinstance(one, tuple) else one


def _apart(
    items: Sequence[Item], options: Options | None, wanted: set[str] | None, brief: bool
) -> Iterator[Report | UsageError]:
    """As `_here`, with every second config in a process of its own."""
    import multiprocessing  # only a long list needs it

    forks = multiprocessing.get_context("fork")
    here, there = forks.Pipe()
    mine, theirs = items[::2], items[1::2]
    helper = forks.Process(target=_help, args=(there, here, theirs, options, wanted, brief), daemon=True)
    helper.start()
    there.close()
    try:
        found = _gathered(mine, options)
        others = _received(here)
        if others is not None:
            _send(here, _stand_ins(found))
        else:
            others = _gathered(theirs, options)
        _compare(found, others)
        reports = list(_judged(found, wanted))
        answers = _received(here)
    finally:
        here.close()
        helper.kill()
        helper.join()
    if answers is None:
        again = _gathered(theirs, options)
        _compare(found, again)
        answers = list(_judged(again, wanted))
    for (_, own), answer in zip(theirs, answers, strict=True):
        if isinstance(answer, Report):
            answer.facts.project = own
    yield from _merged(reports, answers)


def _help(
    there: Connection,
    here: Connection,
    items: Sequence[Item],
    options: Options | None,
    wanted: set[str] | None,
    brief: bool,
) -> None:
    """The other process. It says nothing: what it cannot do is done where it was started."""
    try:
        here.close()
        found = _gathered(items, options)
        _send(there, _stand_ins(found))
        others = _received(there)
        if others is not None:
            _compare(others, found)
            reports = _judged(found, wanted)
            _send(there, [shared.slim(one, brief) if isinstance(one, Report) else one for one in reports])
    except BaseException:
        os._exit(1)


def _stand_ins(found: Iterable[Gathered]) -> list[Gathered | None]:
    return [shared.stand_in(*one) if isinstance(one, tuple) else None for one in found]


def _compare(first: Sequence[Gathered | None], second: Sequence[Gathered | None]) -> None:
    siblings.compare([one for one in _merged(first, second) if isinstance(one, tuple)])


def _merged(first: Sequence[Any], second: Sequence[Any]) -> Iterator[Any]:
    """What was dealt out, in its order."""
    for index in range(len(first) + len(second)):
        yield (second if index % 2 else first)[index // 2]


def _send(to: Connection, what: Any) -> None:
    try:
        to.send(what)
    except OSError:  # the other one is gone, and what it would say is not waited for
        return


def _received(source: Connection) -> Any:
    """What the other process says; None where it is gone."""
    try:
        return source.recv()
    except (EOFError, OSError):
        return None
