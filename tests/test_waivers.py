"""Waivers in configs and in runctl.yaml, and a project's policy: through the files that a team writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runctl import launch, preflight, rules, surveys
from runctl.errors import UsageError
from runctl.facts import Finding
from runctl.preflight import Report

LONG = "training: {steps: 50000, seed: 1}\n"
NEVER = "checkpoint: {every: never}"
Judge = Callable[..., dict[str, Report]]


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Judge:
    """Write files, preflight those named (else all configs), and give the reports by path."""
    monkeypatch.chdir(tmp_path)

    def run(files: dict[str, str], given: list[str] | None = None, only: set[str] | None = None) -> dict[str, Report]:
        for name, text in files.items():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(text)
        paths = preflight.expand([Path(name) for name in given or ["."]])
        found = surveys.survey(paths, only=only)
        return {report.path: report for report in found if isinstance(report, Report)}

    return run


def of(report: Report, rule: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.rule == rule]


def test_a_comment_at_the_end_of_a_line_speaks_for_that_line_only(judge: Judge) -> None:
    there = judge({"a.yaml": f"{LONG}{NEVER}  # runctl: allow CK101 keeps nothing\n"})["a.yaml"]
    assert [finding.rule for finding, _ in there.waived] == ["CK101"]
    elsewhere = judge({"a.yaml": f"name: x  # runctl: allow CK101 keeps nothing\n{LONG}{NEVER}\n"})["a.yaml"]
    assert of(elsewhere, "CK101")
    (fault,) = of(elsewhere, "WV101")
    assert "CK101 stands on line 3" in fault.message


def test_a_comment_on_a_line_of_its_own_speaks_for_the_file(judge: Judge) -> None:
    report = judge({"a.yaml": f"# runctl: allow CK101 keeps nothing\n{LONG}{NEVER}\n"})["a.yaml"]
    assert not of(report, "CK101")
    assert not of(report, "WV101")
    assert [waiver.reason for _, waiver in report.waived] == ["keeps nothing"]


@pytest.mark.parametrize("text", ['card: "x # runctl: allow CK101 reason"\n', "card: |\n  # runctl: allow CK101 r\n"])
def test_what_looks_like_a_waiver_within_a_text_is_none(judge: Judge, text: str) -> None:
    report = judge({"a.yaml": f"{text}{LONG}{NEVER}\n"})["a.yaml"]
    assert of(report, "CK101")
    assert not of(report, "WV101")


def test_a_waiver_of_a_rule_that_was_not_asked_for_is_left_alone(judge: Judge) -> None:
    text = f"{LONG}{NEVER}  # runctl: allow CK101 keeps nothing\n"
    assert not of(judge({"a.yaml": text}, only=set(rules.known()) - {"CK101"})["a.yaml"], "WV101")


WAIVER = 'waivers:\n  - {rule: CK101, paths: ["configs/smoke/**"], reason: smoke runs keep nothing%s}\n'


def test_runctl_yaml_waives_by_path_and_says_so(judge: Judge) -> None:
    bad = LONG + NEVER
    reports = judge({"runctl.yaml": WAIVER % "", "configs/smoke/deep/a.yaml": bad, "configs/b.yaml": bad})
    smoke = reports["configs/smoke/deep/a.yaml"]
    assert [(finding.rule, waiver.reason, waiver.where) for finding, waiver in smoke.waived] == [
        ("CK101", "smoke runs keep nothing", "project")
    ]
    assert not of(smoke, "CK101")
    assert of(reports["configs/b.yaml"], "CK101")
    assert reports["runctl.yaml"].findings == ()


def test_a_waiver_that_is_over_waives_nothing_and_is_reported(judge: Judge) -> None:
    files = {"runctl.yaml": WAIVER % ", until: 2020-01-31", "configs/smoke/a.yaml": LONG + NEVER}
    reports = judge(files)
    assert of(reports["configs/smoke/a.yaml"], "CK101")
    (fault,) = of(reports["runctl.yaml"], "WV102")
    assert "until 2020-01-31" in fault.message
    assert (fault.file, fault.line) == ("runctl.yaml", 2)
    assert not of(judge({"runctl.yaml": WAIVER % ", until: 2999-01-31"})["configs/smoke/a.yaml"], "CK101")


def test_an_unused_waiver_is_said_only_where_all_its_files_were_checked(judge: Judge) -> None:
    files = {
        "runctl.yaml": WAIVER % "",
        "configs/smoke/a.yaml": LONG,
        "configs/smoke/b.yaml": LONG,
        "configs/c.yaml": LONG,
    }
    assert "finds nothing in configs/smoke/**" in of(judge(files)["runctl.yaml"], "WV102")[0].message
    for given in (["configs/smoke/a.yaml"], ["configs/c.yaml"], ["configs/smoke/a.yaml", "configs/c.yaml"]):
        assert not of(judge({}, given)["runctl.yaml"], "WV102"), given
    assert of(judge({}, ["configs/smoke"])["runctl.yaml"], "WV102")


def test_a_waiver_whose_files_are_all_gone_is_said_once_their_folder_was_checked(judge: Judge) -> None:
    files = {"runctl.yaml": WAIVER % "", "configs/c.yaml": LONG, "other/d.yaml": LONG}
    assert of(judge(files, ["configs"])["runctl.yaml"], "WV102")
    assert not of(judge(files, ["other"])["runctl.yaml"], "WV102")


@pytest.mark.parametrize(
    ("item", "place", "words"),
    [
        ("CK101", "2:5", "a waiver is a mapping"),
        ("{rule: CK101, reason: r}", "2:5", "names the files"),
        ("{rule: CK101, paths: [], reason: r}", "2:19", "names the files"),
        ("{rule: CK101, path: [a], reason: r}", "2:19", "a waiver has no 'path'"),
        ("{rule: CK101, paths: [a], reason: r, until: soon}", "2:42", "not a day"),
        ("{rule: [CK101], paths: [a], reason: r}", "2:6", "names one rule"),
    ],
)
def test_a_waiver_that_is_not_one_is_refused_at_its_place(judge: Judge, item: str, place: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        judge({"runctl.yaml": f"waivers:\n  - {item}\n", "a.yaml": LONG})
    assert str(caught.value).startswith(f"runctl.yaml:{place}:")


def test_a_rule_that_cannot_be_waived_is_not_and_cannot_be_lowered(judge: Judge) -> None:
    policy = "policy: {rules: {CF101: off, CF100: note}}\n"
    waiver = 'waivers: [{rule: CF101, paths: ["**"], reason: r}]\n'
    reports = judge({"runctl.yaml": policy + waiver, "a.yaml": "training: {stepz: 3, lr: fast}\n"})
    assert {finding.rule for finding in reports["a.yaml"].errors} == {"CF100", "CF101"}
    found = reports["runctl.yaml"].findings
    assert [(one.rule, one.line) for one in found] == [("PO101", 1), ("PO101", 1), ("WV102", 2)]


@pytest.mark.parametrize(
    ("policy", "column", "words"),
    [
        ("{rules: {CK999: error}}", 18, "there is no such rule"),
        ("{rules: {ck101: off}}", 18, "there is no such rule"),
        ("{require: [training.sede]}", 20, "which no config has"),
        ("{require: [{key: compute.retries, one_of: [-1]}]}", 20, "can never be -1"),
        ("{require: [{key: budget, one_of: [3]}]}", 20, "a word for several keys"),
        ("{require: [seed], rules: {PO102: off}}", 10, "PO102 is off"),
        ("{require: [{key: task, one_of: [a]}, {key: task, one_of: [command]}]}", 20, "can never be a"),
        ("{allowed_gpus: [L4, B9000]}", 29, "not in the catalogue"),
        ("{allowed_backends: [locel]}", 29, "locel"),
        ("{allowed_gpus: [L4], require: [{key: compute.gpu, one_of: [T4]}]}", 40, "none of which"),
        ("{risk_cost_error: 1}", 10, "below policy.risk_cost"),
    ],
)
def test_a_policy_that_cannot_be_met_is_a_finding_at_its_place(
    judge: Judge, policy: str, column: int, words: str
) -> None:
    report = judge({"runctl.yaml": f"policy: {policy}\n", "a.yaml": LONG})["runctl.yaml"]
    found = of(report, "PO101")
    assert words in found[0].message
    assert (found[0].severity, found[0].file, found[0].line) == ("error", "runctl.yaml", 1)
    assert found[0].column == column
    assert found[0].fix
    assert report.verdict == "fail"


def test_a_policy_that_can_be_met_is_silent_and_shows_no_report_of_its_own(judge: Judge) -> None:
    good = (
        "policy: {rules: {CK103: error}, require: [seed, {key: card, when: paid}], allowed_gpus: [L4], max_gpus: 1}\n"
    )
    assert judge({"runctl.yaml": good, "a.yaml": LONG})["runctl.yaml"].findings == ()


@pytest.mark.parametrize(
    ("require", "config", "words"),
    [
        ("[budget]", LONG, "requires budget (budget.max_cost_usd)"),
        ("[budget]", LONG + "budget: {max_hours: 3}\n", ""),
        ("[seed]", "training: {steps: 3}\n", "training.seed"),
        ("[checkpoint]", LONG + NEVER, "checkpoint.every"),
        ("[checkpoint]", LONG, ""),
        ("[tracking]", LONG, "tracking"),
        ("[tracking]", LONG + "tracking: {wandb: offline}\n", ""),
        ("[training.lr]", LONG, "training.lr"),
        ("[training.lr]", "training: {steps: 9, lr: 1e-3}\n", ""),
        ("[training]", LONG, ""),
        ("[{key: card, when: paid}]", LONG, ""),
        ("[{key: card, when: paid}]", LONG + "compute: {backend: modal, gpu: L4}\n", "card"),
        ("[{key: card, when: long, message: ask Ana}]", LONG, "ask Ana"),
        ("[{key: card, when: long}]", "training: {steps: 9}\n", ""),
        ("[{key: card, paths: [other/*]}]", LONG, ""),
        ("[{key: training.precision, one_of: [bf16]}]", "training: {steps: 9, precision: fp32}\n", "is fp32"),
        ("[{key: training.precision, one_of: [BF16]}]", "training: {steps: 9, precision: bf16}\n", ""),
    ],
)
def test_what_the_project_requires_must_be_said(judge: Judge, require: str, config: str, words: str) -> None:
    found = of(judge({"runctl.yaml": f"policy: {{require: {require}}}\n", "a.yaml": config})["a.yaml"], "PO102")
    assert bool(found) == bool(words), found
    assert all(words in one.message and one.severity == "error" and one.line for one in found)


def test_a_requirement_names_the_key_as_another_trainers_config_writes_it(judge: Judge) -> None:
    facts = "{training.seed: train.rng, training.steps: train.n, training.batch_size: train.bs}"
    adapter = f"adapters:\n  - name: ours\n    match: ['**']\n    facts: {facts}\n"
    files = {"runctl.yaml": f"policy: {{require: [training.seed]}}\n{adapter}", "a.yaml": "train: {n: 10, bs: 3}\n"}
    (found,) = of(judge(files)["a.yaml"], "PO102")
    assert "train.rng" in found.message


def test_a_value_of_the_policy_that_is_unknown_is_refused_at_its_place(judge: Judge) -> None:
    with pytest.raises(UsageError, match=r"^runctl\.yaml:2:3: unknown policy value 'long_rum'"):
        judge({"runctl.yaml": "policy:\n  long_rum: 1h\n", "a.yaml": LONG})


def test_a_launch_says_what_is_wrong_with_the_policy(tmp_path: Path) -> None:
    (tmp_path / "runctl.yaml").write_text("policy: {rules: {CK999: error}}\n")
    (tmp_path / "a.yaml").write_text("data: {simulate: {games: 2, seconds: 2}}\ntraining: {steps: 3, seed: 1}\n")
    (note,) = [note for note in launch.plan(tmp_path / "a.yaml").notes if "CK999" in note]
    assert "there is no such rule" in note
