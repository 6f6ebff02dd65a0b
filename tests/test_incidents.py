"""The story of the incidents, run as it is told: docs/incidents.md holds the configs and the rules that stop them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_rules import judge, without_credentials  # noqa: F401  (a fixture for every test here)

from runctl import rules
from runctl.rules import Example, Rule

PAGE = Path(__file__).parents[1] / "docs" / "incidents.md"
TEXT = PAGE.read_text(encoding="utf-8")
NO_INCIDENT = {11, 15, 25, 30, 35, 39, 42, 43}  # numbers that were never given, or merged into others
ALL = {f"I-{number}" for number in range(1, 45) if number not in NO_INCIDENT} | {f"W-{n}" for n in range(1, 20)}
_STORY = re.compile(r"^### ([IW]-\d+): ([^\n]+)\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
_STOPS = re.compile(r"^```yaml ([^\n]*\bstops=(\S+)[^\n]*)$", re.MULTILINE)
_ROW = re.compile(r"^\| ([IW]-\d+) \|([^|]+)\|([^|]+)\|([^|]+)\|([^|]+)\|$", re.MULTILINE)
STORIES = _STORY.findall(TEXT)


def cases() -> list[object]:
    """(what the page promises, the example), for every config of every story."""
    found = []
    for incident, _, story in STORIES:
        told = Rule(incident, "error", f"## Fails\n{story}", (), lambda facts: ())
        examples, promises = told.examples("Fails"), [stops for _, stops in _STOPS.findall(story)]
        assert len(examples) == len(promises), f"{incident}: every config names the rules that stop it"
        for number, (example, stops) in enumerate(zip(examples, promises, strict=True), 1):
            wanted = tuple(tuple(one.split(":")) for one in stops.split(","))
            found.append(pytest.param(wanted, example, id=f"{incident}-{number}"))
    return found


@pytest.mark.parametrize(("wanted", "example"), cases())
def test_the_rule_stops_the_incident(wanted: tuple[tuple[str, str], ...], example: Example, tmp_path: Path) -> None:
    report = judge(example, tmp_path)
    severities: dict[str, set[str]] = {}
    for finding in report.findings:
        severities.setdefault(finding.rule, set()).add(finding.severity or "")
    for rule, severity in wanted:
        why = report.coverage.not_checked.get(rule, "checked, and nothing found")
        assert severity in severities.get(rule, set()), f"{rule}: {severities.get(rule) or why}"


def test_every_incident_is_told_once_with_its_cost() -> None:
    told = [incident for incident, _, _ in STORIES]
    rows = _ROW.findall(TEXT)
    elsewhere = [row[0] for row in rows]
    assert sorted([*told, *elsewhere]) == sorted(ALL)
    for incident, _, story in STORIES:
        assert "**Cost:**" in story, incident
        assert _STOPS.search(story), incident
    for row in rows:
        assert all(cell.strip() for cell in row), row[0]


def test_every_rule_of_the_story_is_one_and_is_linked() -> None:
    named = {rule.split(":")[0] for _, stops in _STOPS.findall(TEXT) for rule in stops.split(",")}
    for rule in named:
        assert rules.find(rule).id == rule
        assert f"[{rule}](rules/{rule}.md)" in TEXT, f"{rule} is not linked"
