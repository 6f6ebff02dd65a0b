"""`runctl status`, as it is typed: the table, one run's page, JSON, JSON lines, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_runs import in_state, make, supervised, until
from test_launch import runctl

from runctl import record


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "runctl.yaml").write_text("policy: {}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    return tmp_path


def ended(project: Path, name: str, state: str, reason: str = "") -> None:
    run = make(project, name=name)
    record.write_json(run.attempt(1).exit, {"state": state, "reason": reason, "step": 5, "total_steps": 9})


def test_the_table_has_every_column_and_never_cuts_a_name(project: Path) -> None:
    ended(
        project,
        "a-rather-long-name-of-a-run-that-somebody-gave-it-one-evening",
        "failed",
        "ValueError: the loss is NaN",
    )
    lines = runctl("status").stdout.splitlines()
    heads = "run state step ETA loss rate memory checkpoint heartbeat cost reason"
    assert lines[0].split() == heads.split()
    assert lines[2].split()[:4] == [
        "a-rather-long-name-of-a-run-that-somebody-gave-it-one-evening",
        "failed",
        "5/9",
        "56%",
    ]
    assert lines[2].rstrip().endswith("ValueError: the loss is NaN")


def test_by_default_the_active_and_the_last_that_ended_are_shown(project: Path) -> None:
    for number in range(4):
        ended(project, f"old-{number}", "stopped")
    ended(project, "bad", "failed")
    make(project, name="waiting")

    def shown(*words: str) -> list[str]:
        return [entry["run"] for entry in json.loads(runctl("status", "--json", *words).stdout)["runs"]]

    assert shown("-n", "2") == ["old-3", "bad", "waiting"]
    assert shown("-n", "0") == ["waiting"]
    assert shown("--all", "-n", "0") == ["old-0", "old-1", "old-2", "old-3", "bad", "waiting"]
    assert shown("--state", "failed,queued") == ["bad", "waiting"]


def test_an_unknown_state_or_run_is_named(project: Path) -> None:
    wrong = runctl("status", "--state", "runing")
    assert wrong.returncode == 2
    assert "did you mean 'running'?" in wrong.stderr
    ended(project, "job", "stopped")
    wrong = runctl("status", "jobb")
    assert wrong.returncode == 2
    assert "did you mean 'job'?" in wrong.stderr


def test_no_runs_is_no_error(project: Path) -> None:
    done = runctl("status")
    assert (done.returncode, done.stdout) == (0, "")
    assert "runctl launch CONFIG" in done.stderr
    assert json.loads(runctl("status", "--json").stdout) == {"schema_version": 1, "runs": []}


def test_a_runs_page_shows_metrics_beside_the_baselines(project: Path) -> None:
    run = make(project, "--steps", 12)
    with supervised(run):
        until(run, in_state("succeeded"))
    text = runctl("status", "run").stdout
    assert text.startswith("run  succeeded")
    assert [line.split() for line in text.splitlines() if line.startswith("pos_mae")] == [["pos_mae", "0.5", "0.75"]]
    assert "checkpoints/step-000000010" in text
    assert "runctl pull run results" in text
    data = json.loads(runctl("status", "run", "--json").stdout)
    assert data["status"]["state"] == "succeeded"
    assert data["baselines"] == {"last_delta/pos_mae": 0.75}


def test_watching_one_run_ends_with_it_and_its_exit_code(project: Path) -> None:
    run = make(project, "--steps", 60, "--fail-at", 50)
    with supervised(run):
        done = runctl("status", "run", "--watch", "--json")
    assert done.returncode == 6
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[-1]["state"] == "failed"
    assert all(line["schema_version"] == 1 for line in lines)
