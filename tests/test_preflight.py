"""Preflight: verdicts, exit codes, coverage, waivers, formats, and what it must not import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runctl import preflight, reporting, rules
from runctl.errors import UsageError
from runctl.facts import Facts
from runctl.preflight import Report
from runctl.project import Project
from runctl.rules import Rule
from runctl.team import policy
from runctl.yamldoc import Document

ROOT = Path(__file__).parents[1]
LONG = "training: {steps: 50000}\ncheckpoint: {every: never}"


def judge(folder: Path, text: str, *overrides: str, **given: object) -> Report:
    path = folder / "config.yaml"
    path.write_text(text)
    return preflight.preflight(path, preflight.Options(overrides), Project(folder, policy=dict(given)))


def runctl(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "runctl", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=60, check=False)


def test_a_smoke_passes_untouched(tmp_path: Path) -> None:
    report = judge(
        tmp_path, "training: {steps: 200, precision: fp32}\ncheckpoint: {every: never}\ncompute: {gpu: A100}\n"
    )
    assert report.verdict == "ok"
    assert report.findings == ()
    assert {"CK101", "CK102", "PR101", "PR102", "ME101", "MO101", "MO102", "TM101"} <= set(report.coverage.checked)


def test_every_rule_is_checked_not_checked_or_off(tmp_path: Path) -> None:
    report = judge(tmp_path, LONG, rules={"CK102": "off"})
    accounted = {*report.coverage.checked, *report.coverage.not_checked, *report.coverage.off}
    assert accounted == {rule.id for rule in rules.known().values() if not rule.project}
    assert report.coverage.off == ("CK102",)
    assert all(report.coverage.not_checked.values())


def test_a_finding_names_its_place_and_both_values(tmp_path: Path) -> None:
    (finding,) = judge(tmp_path, "training:\n  steps: 20000\ncheckpoint:\n  every: 50000 steps\n").findings
    assert (finding.rule, finding.severity, finding.line, finding.column) == ("CK102", "error", 4, 3)
    assert "50000 steps" in finding.message
    assert "20,000 steps" in finding.message


def test_an_invalid_config_is_findings_and_the_rest_is_not_checked(tmp_path: Path) -> None:
    report = judge(tmp_path, "training: {batch_sise: 3, seed: 1, seed: 2, lr: fast}\n")
    assert {finding.rule for finding in report.findings} == {"CF100", "CF101", "CF103"}
    assert set(report.coverage.not_checked.values()) == {"the config is not valid"}
    assert all(not hasattr(found, "value") for found in report.estimates.values())


def test_a_rule_that_crashes_is_an_error_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(facts: Facts) -> list[object]:
        raise ZeroDivisionError("boom")

    broken = {**rules.known(), "CK101": Rule("CK101", "note", "CK101: x", (), crash)}  # type: ignore[arg-type]
    monkeypatch.setattr(rules, "concerning", lambda kind, foreign: tuple(broken.values()))
    report = judge(tmp_path, "training: {steps: 1}\n")
    assert [(finding.rule, finding.severity) for finding in report.findings] == [("CK101", "error")]
    assert "ZeroDivisionError: boom" in report.findings[0].message


def test_a_waiver_with_a_reason_is_counted_not_hidden(tmp_path: Path) -> None:
    report = judge(tmp_path, LONG + "  # runctl: allow CK101 throughput test\n")
    assert report.verdict == "ok"
    assert [(finding.rule, waiver.reason) for finding, waiver in report.waived] == [("CK101", "throughput test")]
    text = reporting.load("text")([report])
    assert "1 waived" in text
    assert "throughput test" in text


@pytest.mark.parametrize(
    ("comment", "fault"),
    [
        ("allow CK101", "gives no reason"),
        ("allow CK999 because", "names no rule"),
        ("allow MO101 because", "finds nothing here"),
        ("allow CF101 because", "cannot allow"),
    ],
)
def test_a_waiver_that_does_not_hold_is_a_finding(tmp_path: Path, comment: str, fault: str) -> None:
    report = judge(tmp_path, f"{LONG}  # runctl: {comment}\n")
    (found,) = [finding for finding in report.findings if finding.rule == "WV101"]
    assert fault in found.message
    assert found.line == 2
    assert report.verdict == "fail"


def test_a_waiver_of_a_rule_that_could_not_judge_is_left_alone(tmp_path: Path) -> None:
    report = judge(tmp_path, "training: {steps: 1}  # runctl: allow DA101 old encoding on purpose\n")
    assert report.findings == ()


def test_the_project_can_raise_lower_and_switch_off(tmp_path: Path) -> None:
    assert judge(tmp_path, LONG, rules={"CK101": "warning"}).verdict == "warn"
    assert judge(tmp_path, LONG, rules={"CK101": False}).verdict == "ok"
    missing = "data: {encoded: data/later}\ntraining: {steps: 1}\n"
    assert judge(tmp_path, missing, rules={"DA102": "error"}).verdict == "fail"


@pytest.mark.parametrize(
    "given",
    [
        {"long_rum": "1h"},
        {"long_run": "soon"},
        {"long_run_steps": -1},
        {"rules": {"CK101": "loud"}},
        {"rules": ["CK101"]},
    ],
)
def test_a_policy_that_cannot_be_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"runctl\.yaml"):
        policy.read(given)


def test_findings_are_sorted_worst_first(tmp_path: Path) -> None:
    text = "data: {encoded: data/later}\ntraining: {steps: 50000}\nmodel: {d_model: 300}\ncheckpoint: {every: never}\n"
    assert [finding.severity for finding in judge(tmp_path, text).findings] == ["error", "error", "warning"]


def test_the_json_report_has_the_documented_shape(tmp_path: Path) -> None:
    data = json.loads(reporting.load("json")([judge(tmp_path, LONG)]))
    assert data["schema_version"] == 1
    (report,) = data["reports"]
    assert {"path", "kind", "verdict", "findings", "estimates", "coverage"} <= set(report)
    assert {"rule", "severity", "message", "file", "line", "column", "fix"} <= set(report["findings"][0])
    assert {"checked", "not_checked"} <= set(report["coverage"])
    assert report["verdict"] == "fail"


def test_annotations_are_escaped_and_worst_first(tmp_path: Path) -> None:
    folder = tmp_path / "a,b:c%"
    folder.mkdir()
    lines = reporting.load("github")([judge(folder, "data: {encoded: data/later}\n" + LONG)]).splitlines()
    assert lines[0].startswith("::error file=")
    assert "a%2Cb%3Ac%25" in lines[0]
    assert "title=CK101::" in lines[0]
    assert lines[1].startswith("::warning ")


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(UsageError, match="no report format"):
        reporting.load("sarfi")


def test_the_text_report_shows_the_line_with_a_caret_under_the_value(tmp_path: Path) -> None:
    lines = reporting.load("text")(
        [judge(tmp_path, "training: {steps: 50000}\ncheckpoint: {every: never}\n")]
    ).splitlines()
    row = next(number for number, line in enumerate(lines) if line.endswith("checkpoint: {every: never}"))
    assert lines[row + 1].index("^") == lines[row].index("every")
    assert lines[0].startswith("refused")


def test_a_report_needs_no_document() -> None:
    assert preflight.check(Facts("x"), Document("x", "")).verdict == "ok"


def test_folders_are_searched_and_runctl_yaml_is_no_config(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "runctl.yaml", "sub/c.yaml", "runs/r/config.yaml", ".hidden/d.yaml", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / ".hidden" / "none").mkdir()
    found = preflight.expand([tmp_path, tmp_path / "b.yaml"])
    assert [str(path.relative_to(tmp_path)) for path in found] == ["a.yml", "b.yaml", "sub/c.yaml"]
    with pytest.raises(UsageError, match="no YAML files"):
        preflight.expand([tmp_path / ".hidden" / "none"])


@pytest.mark.parametrize(
    ("text", "arguments", "code"),
    [
        ("training: {steps: 10}\n", [], 0),
        (LONG, [], 1),
        (LONG, ["--fail-on", "never"], 0),
        ("data: {encoded: data/later}\ntraining: {steps: 10}\n", [], 0),
        ("data: {encoded: data/later}\ntraining: {steps: 10}\n", ["--fail-on", "warning"], 1),
        ("training: {stepz: 10}\n", [], 1),
        ("training: [\n", [], 2),
        (None, [], 2),
        ("training: {steps: 10}\n", ["--fail-on", "sometimes"], 2),
        ("training: {steps: 10}\n", ["--set", "training"], 2),
    ],
)
def test_exit_codes(tmp_path: Path, text: str | None, arguments: list[str], code: int) -> None:
    if text is not None:
        (tmp_path / "c.yaml").write_text(text)
    done = runctl("preflight", "c.yaml", *arguments, cwd=tmp_path)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_one_unreadable_file_does_not_hide_the_others(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("a: [\n")
    (tmp_path / "good.yaml").write_text("training: {steps: 10}\n")
    done = runctl("preflight", "bad.yaml", "good.yaml", "--json", cwd=tmp_path)
    assert done.returncode == 2
    assert [report["path"] for report in json.loads(done.stdout)["reports"]] == ["good.yaml"]
    assert "bad.yaml:2:1" in done.stderr


def test_preflight_and_estimate_import_neither_torch_nor_numpy_nor_modal_nor_wandb() -> None:
    code = (
        "import sys; from runctl import preflight, reporting; from runctl.reporting import text, json_, github;"
        "reports = [preflight.preflight(path) for path in sys.argv[1:]]; json_.render(reports); text.render(reports);"
        "print([name for name in ('torch', 'numpy', 'modal', 'wandb', 'rich', 'typer') if name in sys.modules])"
    )
    files = [str(path) for path in sorted((ROOT / "configs").glob("*.yaml"))]
    done = subprocess.run(
        [sys.executable, "-c", code, *files], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_the_configs_of_this_repository_may_launch() -> None:
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        report = preflight.preflight(path)
        assert report.errors == [], path
