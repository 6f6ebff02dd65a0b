"""`runctl status`, as it is typed: the table, one run's page, JSON, JSON lines, and what it refuses."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_runs import in_state, make, pids, supervised, until
from rich.console import Console
from test_launch import runctl

from runctl import page, record
from runctl.starting import write_start
from runctl.view import runs


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "runctl.yaml").write_text("policy: {}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    return tmp_path


def ended(project: Path, name: str, state: str, reason: str = "") -> None:
    run = make(project, name=name)
    record.write_json(run.attempt(1).exit, {"state": state, "reason": reason, "step": 5, "total_steps": 9})


def test_without_a_terminal_a_line_has_120_columns_and_never_cuts_a_name(project: Path) -> None:
    name = "a-rather-long-name-of-a-run-that-somebody-gave-it-one-evening"
    ended(project, name, "failed", "ValueError: the loss is NaN, and this is a long story with many words in it")
    ended(project, "short", "stopped")
    lines = runctl("status").stdout.splitlines()
    assert lines[0].split() == ["run", "state", "step", "time", "ended", "reason"]  # what fits and has something to say
    assert lines[1].split()[:4] == [name, "failed", "5/9", "56%"]
    assert lines[1].endswith("…")
    assert max(map(len, lines)) <= 120


def test_by_default_the_active_and_the_last_that_ended_are_shown(project: Path) -> None:
    for number in range(4):
        ended(project, f"old-{number}", "stopped")
    ended(project, "bad", "failed")
    make(project, name="waiting")

    def shown(*words: str) -> list[str]:
        return [entry["run"] for entry in json.loads(runctl("status", "--json", *words).stdout)["runs"]]

    assert shown("-n", "2") == ["old-3", "bad", "waiting"]
    assert shown("-n", "0") == ["waiting"]
    assert shown("--all") == ["old-0", "old-1", "old-2", "old-3", "bad", "waiting"]
    assert shown("--state", "failed,queued") == ["bad", "waiting"]
    assert "3 more that ended earlier: give a larger --limit" in runctl("status", "-n", "2").stderr
    assert "more" not in runctl("status").stderr


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "run.json is damaged: it is empty"),
        (b'{"name": "run",', "run.json is damaged: Expecting property name enclosed in double quotes at line 1"),
        (b"\x80\x00\xff", "run.json is damaged: its 3 bytes are not text"),
        (b"[1]", "run.json is damaged: it holds no JSON object"),
        (None, "run.json is missing"),
    ],
)
def test_a_run_without_a_readable_run_json_says_so_keeps_the_end_on_record_and_is_not_resumed(
    project: Path, content: bytes | None, why: str
) -> None:
    ended(project, "run", "stopped", "stopped on request")
    run = record.find(project, "run")
    run.run.unlink() if content is None else run.run.write_bytes(content)
    (project / "runs" / "notes").mkdir()  # no run at all
    listed = json.loads(runctl("status", "--json").stdout)["runs"]
    assert [(entry["run"], entry["state"], entry["reason"]) for entry in listed] == [
        ("run", "stopped", f"stopped on request; {why}")
    ]
    page = runctl("status", "run").stdout
    assert f"run  stopped  stopped on request; {why}" in page
    assert "step 5/9 56%" in page
    assert "runctl resume" not in page
    assert "resume" not in runctl("stop", "run", "--yes").stdout + runctl("why", "run").stdout
    refused = runctl("resume", "run", "--force")
    assert refused.returncode == 2
    assert f"run cannot be resumed: {why}" in refused.stderr


def test_a_damaged_run_json_without_an_end_on_record_is_lost_with_all_that_is_known(project: Path) -> None:
    run = make(project, "--steps", 100_000)
    with supervised(run):
        until(run, lambda found: found.checkpoint_step is not None)
        run.run.write_text("{")
        entry = json.loads(runctl("status", "--json").stdout)["runs"][0]
        assert (entry["state"], entry["reason"][:19]) == ("running", "run.json is damaged")
        for pid in pids(run):
            os.kill(pid, signal.SIGKILL)
        until(run, lambda found: found.over and not found.leftover)
        run.attempt(1).exit.unlink(missing_ok=True)
        text = runctl("status", "run").stdout
    assert "run  lost  run.json is damaged: " in text
    assert "; attempt 1 failed: supervisor lost" in text.replace("\n", " ")
    assert "checkpoint at step" in text


def test_a_resume_past_a_damaged_checkpoint_is_told_as_it_was(project: Path) -> None:
    """The launcher meant to go on from step 95; the trainer found that checkpoint damaged and went on from 90."""
    ended(project, "run", "failed")
    run = record.find(project, "run")
    record.write_json(run.checkpoint(90) / "manifest.json", {"step": 90, "created": 1.0, "files": {}})
    second = run.attempt(2)
    write_start(second.path, from_step=95, checkpoint={"step": 95, "time": 1.0}, code=None)
    why = "checkpoint step-000000095 is damaged: model.safetensors differs from its sha256"
    passed = [{"checkpoint": "step-000000095", "why": why}]
    record.write_json(second.resumed, {"step": 90, "checkpoint": "step-000000090", "passed_over": passed})
    record.write_json(second.exit, {"state": "stopped", "reason": "", "step": 92, "total_steps": 150, "seconds": 3.0})
    text = runctl("status", "run").stdout
    assert f"2  stopped    steps 90 to 92, 3s, 0.667 steps/s\n     resumed at step 90: {why}" in text
    assert "checkpoint at step 90," in text
    assert f" resumed at step 90; {why}" in runctl("logs", "run").stdout


def test_a_checkpoint_with_a_short_file_is_not_offered(project: Path) -> None:
    run = make(project, "--steps", 12, "--no-result")
    with supervised(run):
        until(run, in_state("failed"))
    (run.checkpoint(10) / "model.safetensors").write_text("wei")
    assert "checkpoint at step 5," in runctl("status", "run").stdout


def test_a_checkpoint_saved_after_the_last_heartbeat_counts(project: Path) -> None:
    run = make(project, "--steps", 100_000)
    with supervised(run):
        until(run, lambda found: found.checkpoint_step is not None)
        os.kill(pids(run)[1], signal.SIGKILL)
        until(run, in_state("failed"))
        until(run, lambda _: run.summary.exists())
    beat = record.read_json(run.attempt(1).heartbeat)
    record.write_json(run.attempt(1).heartbeat, beat | {"step": 1, "checkpoint": None})
    run.attempt(1).exit.unlink()
    newest = page.read(run).checkpoints[-1]["step"]
    text = runctl("status", "run").stdout
    assert f"checkpoint at step {newest:,}," in text
    assert f"  step {newest:,}/" in text


def test_a_rate_is_shown_once_it_was_measured_and_while_it_matters(project: Path) -> None:
    run = make(project, "--steps", 100_000)
    with supervised(run):
        until(run, in_state("running"))
        os.kill(pids(run)[1], signal.SIGSTOP)
        beat = record.read_json(run.attempt(1).heartbeat)
        shown = []
        for step in (1, 2, 100_000):
            record.write_json(run.attempt(1).heartbeat, beat | {"step": step, "checkpoint": None})
            shutil.rmtree(run.checkpoints, ignore_errors=True)
            shown.append(runctl("status", "run").stdout)
    assert "ex/s" not in shown[0]
    assert "1k ex/s" in shown[1]
    assert "ETA" not in shown[2]  # no step is left
    assert "ex/s" not in runctl("status", "run").stdout  # it is over


def test_the_page_of_a_foreign_program_speaks_of_what_it_has(project: Path) -> None:
    run = make(project, task="command", command={"argv": ["x"]})
    script = "import sys; print('all done'); sys.exit(0)"
    record.write_json(run.run, record.read_json(run.run) | {"command": [sys.executable, "-c", script]})
    with supervised(run):
        until(run, in_state("succeeded"))
    text = runctl("status", "run").stdout
    assert "  exit 0\n  last line: all done\n" in text
    assert not any(word in text for word in ("step", "checkpoint", "metrics"))


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
    empty = {"schema_version": 1, "hidden": 0, "purse": None, "runs": []}
    assert json.loads(runctl("status", "--json").stdout) == empty


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


def test_a_live_display_starts_anew_where_the_terminal_has_another_size() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=20)

    def snapshots() -> Iterator[int]:
        yield 1
        yield 2
        assert console.file.getvalue() == ""
        console.width = 60
        yield 3

    assert list(runs._cleared(console, snapshots())) == [1, 2, 3]
    assert "\x1b[2J" in console.file.getvalue()
