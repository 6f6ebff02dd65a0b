"""What is kept from one config for others that say the same: no report is another for it, and nothing is confused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runctl import preflight, repeats, reporting, surveys
from runctl.errors import RunctlError
from runctl.facts import Facts, Finding
from runctl.preflight import Report
from runctl.project import Project
from runctl.repeats import Repeats
from runctl.yamldoc import Position

NATIVE = """\
name: run-{i:02}
data: {{simulate: {{games: {games}, seconds: 20, seed: {i}}}}}
training: {{batch_size: {batch}, seed: {i}, epochs: {epochs}}}
checkpoint: {{every: {every}}}
compute: {{backend: modal, gpu: {gpu}, timeout: {hours}h}}
"""
OTHER = "trainer: {{max_steps: {steps}, batch_size: {batch}, output_dir: out/{i}}}\noptim: {{lr: {lr}}}\nseed: {i}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two sweeps in which every value comes again, some with findings, and one config that is not valid."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(repeats, "FIRST", 0)
    (tmp_path / "runctl.yaml").write_text("waivers: [{rule: CK102, paths: ['run-1*'], reason: a test of the folder}]\n")
    for i in range(24):
        values = {"i": i, "games": 20 + i % 2, "batch": (64, 512)[i % 2], "epochs": (1, 3000)[i % 3 == 0]}
        values |= {"every": ("5m", "never", "200 steps")[i % 3], "gpu": ("T4", "A100-80GB")[i % 2], "hours": 1 + i % 2}
        values |= {"steps": (500, 90_000)[i % 2], "lr": (0.1, 0.001)[i % 3 == 0]}
        (tmp_path / f"run-{i:02}.yaml").write_text(NATIVE.format(**values))
        (tmp_path / f"other-{i:02}.yaml").write_text(OTHER.format(**values))
    (tmp_path / "wrong.yaml").write_text("name: wrong\ntraining: {batch_size: many}\n")
    return tmp_path


def told(folder: Path) -> dict[str, str]:
    found = list(surveys.survey(preflight.expand([folder])))
    reports = [one for one in found if isinstance(one, Report)]
    unreadable = [one for one in found if isinstance(one, RunctlError)]
    assert len({finding.rule for report in reports for finding in report.findings}) > 5
    return {form: reporting.load(form)(reports, unreadable) for form in reporting.names()}


def test_no_report_is_another_for_what_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = told(folder)
    monkeypatch.setattr(repeats, "FIRST", 10**9)
    assert told(folder) == kept


def judged(check: Callable[[Facts], Iterator[Finding]], some: list[Facts]) -> list[Any]:
    """What a rule says of each, asked as a survey does."""
    return [Repeats(facts, facts.project).verdict(check) for facts in some]


def facts_of(project: Project, value: Any, line: int | None = 1, path: str = "a.yaml") -> Facts:
    facts = Facts(path, project=project)
    facts.put("run.steps", value, "file", "", None if line is None else Position(path, line, 1))
    return facts


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr(repeats, "FIRST", 0)
    return Project(tmp_path)


def test_a_rule_is_run_once_for_equal_answers_and_again_for_others(project: Project) -> None:
    """1, 1.0 and true are equal to Python, and three answers."""
    asked: list[Any] = []

    def check(facts: Facts) -> Iterator[Finding]:
        asked.append(facts.need("run.steps"))
        if facts.get("run.steps") == 7:
            yield Finding("it is 7")

    values = [1, 1.0, True, "1", None, 1, 1.0, True, "1", None]
    assert judged(check, [facts_of(project, value) for value in values]) == [[]] * 10
    assert [(type(one), one) for one in asked] == [(type(one), one) for one in values[:5]]
    assert [one[0].message for one in judged(check, [facts_of(project, 7), facts_of(project, 7)])] == ["it is 7"] * 2


def test_why_a_rule_cannot_judge_is_that_of_the_config(project: Project) -> None:
    def check(facts: Facts) -> Iterator[Finding]:
        yield Finding(str(facts.need("run.epochs")))

    some = [Facts("a.yaml", project=project) for _ in range(4)]
    for facts, why in zip(some, "abab", strict=True):
        facts.miss("run.epochs", why)
    assert judged(check, some) == ["a", "b", "a", "b"]


def test_a_rule_that_asks_where_a_value_came_from_is_not_told_another_s(project: Project) -> None:
    def check(facts: Facts) -> Iterator[Finding]:
        source = facts.source("run.steps")
        if source is not None and source.position is not None:
            yield Finding(f"line {source.position.line}")

    lines = (None, 1, None, 2, 3)
    said = judged(check, [facts_of(project, 5, line) for line in lines])
    assert [[one.message for one in each] for each in said] == [[], ["line 1"], [], ["line 2"], ["line 3"]]


def test_a_rule_that_asks_for_the_path_is_run_each_time(project: Project) -> None:
    paths: list[str] = []

    def check(facts: Facts) -> Iterator[Finding]:
        paths.append(facts.path)
        yield from ()

    judged(check, [facts_of(project, 5, path=f"{name}.yaml") for name in "abcd"])
    assert set(paths) == {"a.yaml", "b.yaml", "c.yaml", "d.yaml"}


def test_what_is_derived_is_put_into_each_and_follows_what_it_was_derived_of(project: Project) -> None:
    made: list[int] = []

    def derivation(facts: Facts, project: Project) -> None:
        made.append(facts.need("run.steps"))
        facts.put("run.twice", 2 * facts.need("run.steps"), "derived")
        facts.derive("run.more", "run.twice", lambda: facts.need("run.twice") + 1)

    some = [facts_of(project, value) for value in (1, 2, 1, 2)]
    for facts in some:
        Repeats(facts, project).derive(derivation, project)
    assert [(facts.need("run.twice"), facts.need("run.more")) for facts in some] == [(2, 3), (4, 5)] * 2
    assert made == [1, 2]
