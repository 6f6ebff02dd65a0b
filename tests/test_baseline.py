"""The baseline: what was known is counted, what is new fails, what is gone is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runctl import preflight, surveys
from runctl.cli import build
from runctl.facts import Finding
from runctl.preflight import Options, Report
from runctl.team import baseline

BAD = "training: {steps: 50000, seed: 1}\ncheckpoint: {every: never}\n"
GOOD = "training: {steps: 50000, seed: 1}\ncheckpoint: {every: 10m}\n"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("runctl.yaml").write_text("policy: {}\n")
    Path("configs").mkdir()
    return tmp_path


def runctl(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(build(["preflight"]), ["preflight", *arguments])
    return done.exit_code, done.stdout, done.stderr


def reports(*paths: str, known: str | None = None) -> dict[str, Report]:
    found = surveys.survey(preflight.expand([Path(path) for path in paths]), Options(known=known))
    return {one.path: one for one in found if isinstance(one, Report)}


def adopt() -> None:
    """Two old configs, one of them bad, and a baseline of what is found in them."""
    Path("configs/old.yaml").write_text(BAD)
    Path("configs/good.yaml").write_text(GOOD)
    code, _, told = runctl("configs", "--create-baseline")
    assert code == 0
    assert "baseline: runctl-baseline.json" in told
    Path("runctl.yaml").write_text("baseline: runctl-baseline.json\n")


def test_known_findings_are_counted_and_new_ones_fail() -> None:
    Path("configs/old.yaml").write_text(BAD)
    assert runctl("configs")[0] == 1
    adopt()
    code, told, _ = runctl("configs")
    assert code == 0
    assert "CK101" in told
    assert "known: in runctl-baseline.json" in told
    Path("configs/new.yaml").write_text(BAD)
    code, told, _ = runctl("configs")
    assert code == 1
    assert "CK101" in {one.rule for one in reports("configs")["configs/new.yaml"].errors}


def test_a_known_finding_stays_known_when_lines_move_and_from_any_folder(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopt()
    Path("configs/old.yaml").write_text("# a comment\n\nname: other\n" + BAD)
    assert reports("configs")["configs/old.yaml"].errors == []
    monkeypatch.chdir(project / "configs")
    assert reports("old.yaml")["old.yaml"].errors == []
    (held,) = [one for _, one in reports("old.yaml")["old.yaml"].waived if one.rule == "CK101"]
    assert held.where == "baseline"


def test_the_baseline_may_be_named_on_the_command_line_instead() -> None:
    Path("configs/old.yaml").write_text(BAD)
    runctl("configs", "--create-baseline", "--baseline", "known.json")
    assert Path("known.json").exists()
    assert runctl("configs")[0] == 1
    assert runctl("configs", "--baseline", "known.json")[0] == 0
    code, _, told = runctl("configs", "--baseline", "missing.json")
    assert code == 2
    assert "missing.json" in told


def test_a_second_finding_of_a_kind_in_one_place_is_new() -> None:
    first = Finding("m", rule="CF104", file="a.yaml", key="x", line=1)
    second = Finding("m", rule="CF104", file="a.yaml", key="x", line=9)
    marks = [mark for _, mark in baseline.fingerprints([second, first])]
    assert marks == [baseline.fingerprint(first, 0), baseline.fingerprint(second, 1)]
    assert len(set(marks)) == 2


def test_what_is_mended_or_deleted_is_said_and_dropped_when_it_is_made_anew() -> None:
    adopt()
    Path("configs/gone.yaml").write_text(BAD)
    runctl("configs", "--create-baseline")
    count = len(baseline.rows(Path("runctl-baseline.json")))
    Path("configs/old.yaml").write_text(GOOD)
    Path("configs/gone.yaml").unlink()
    stale = reports("configs")["runctl.yaml"].findings
    assert {one.rule for one in stale} == {"WV103"}
    assert any("there is no configs/gone.yaml any more" in one.message for one in stale)
    assert any("configs/old.yaml no longer has" in one.message for one in stale)
    assert {one.file for one in stale} == {"runctl-baseline.json"}
    assert "runctl.yaml" not in reports("configs/good.yaml") or not reports("configs/good.yaml")["runctl.yaml"].findings
    assert "dropped" in runctl("configs", "--create-baseline")[2]
    assert len(baseline.rows(Path("runctl-baseline.json"))) < count
    assert reports("configs")["runctl.yaml"].findings == ()


def test_making_it_for_one_file_keeps_what_is_known_of_the_others() -> None:
    adopt()
    Path("configs/other.yaml").write_text(BAD)
    before = baseline.rows(Path("runctl-baseline.json"))
    runctl("configs/other.yaml", "--create-baseline")
    after = baseline.rows(Path("runctl-baseline.json"))
    assert {row["path"] for row in after} == {row["path"] for row in before} | {"configs/other.yaml"}
    assert runctl("configs")[0] == 0


def test_a_config_that_cannot_be_read_is_never_hidden() -> None:
    Path("configs/old.yaml").write_text("training: {stepz: 3, lr: fast}\nname: a\nname: b\n")
    _, _, told = runctl("configs", "--create-baseline")
    assert "no baseline hides them" in told
    Path("runctl.yaml").write_text("baseline: runctl-baseline.json\n")
    assert {one.rule for one in reports("configs")["configs/old.yaml"].errors} >= {"CF100", "CF101", "CF103"}
    mark = {"fingerprint": "", "rule": "CF101", "path": "configs/old.yaml"}
    (found,) = [one for one in reports("configs")["configs/old.yaml"].errors if one.rule == "CF101"]
    forged = {"schema_version": 1, "findings": [{**mark, "fingerprint": baseline.fingerprint(found)}]}
    Path("runctl-baseline.json").write_text(json.dumps(forged))
    assert "CF101" in {one.rule for one in reports("configs")["configs/old.yaml"].errors}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema_version": 9, "findings": []}', '{"findings": [{}]}', "[" * 9999]
)
def test_a_file_that_is_no_baseline_is_refused_in_words(text: str) -> None:
    Path("configs/good.yaml").write_text(GOOD)
    Path("runctl.yaml").write_text("baseline: known.json\n")
    Path("known.json").write_text(text)
    code, _, told = runctl("configs")
    assert code == 2
    assert "known.json is no baseline of runctl" in told


def test_two_findings_stand_on_two_lines_so_that_git_merges_them() -> None:
    adopt()
    text = Path("runctl-baseline.json").read_text()
    rows = [line for line in text.splitlines() if "fingerprint" in line]
    assert len(rows) == len(json.loads(text)["findings"])
    assert rows == sorted(rows, key=lambda line: json.loads(line.strip().rstrip(","))["path"])


def test_what_is_allowed_and_known_is_counted_over_many_configs() -> None:
    for number in range(150):
        Path(f"configs/c{number}.yaml").write_text(BAD if number in (3, 77, 140) else GOOD)
    runctl("configs/c3.yaml", "configs/c140.yaml", "--create-baseline")
    waiver = "".join(f"  - {{rule: CK101, paths: [configs/{name}.yaml], reason: r}}\n" for name in ("c77", "c78"))
    Path("runctl.yaml").write_text(f"baseline: runctl-baseline.json\nwaivers:\n{waiver}")
    found = reports("configs")
    waived = {path: {one.where for _, one in report.waived if one.rule == "CK101"} for path, report in found.items()}
    assert {path: where for path, where in waived.items() if where} == {
        "configs/c3.yaml": {"baseline"}, "configs/c140.yaml": {"baseline"}, "configs/c77.yaml": {"project"},
    }  # fmt: skip
    (idle,) = found["runctl.yaml"].findings
    assert (idle.rule, idle.line) == ("WV102", 4)
