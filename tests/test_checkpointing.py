"""A checkpoint on demand: asked for on record, saved, verified; refused where it cannot be."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from fake_runs import in_state, make, pids, supervised, until
from test_launch import runctl

from runctl import checkpointing, record, status
from runctl.errors import CheckpointError, RunFailed, WaitTimeout

TAKES = """
import pathlib, time, runctl
for step in range(1, 100_000):
    time.sleep(0.02)
    runctl.report(step=step, total_steps=100_000)
    if runctl.should_checkpoint():
        pathlib.Path('mine.pt').write_text(str(step))
        runctl.checkpoint('mine.pt')
"""
REPORTS = TAKES.replace("runctl.should_checkpoint()", "False")
SILENT = "import time; time.sleep(60)"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "runctl.yaml").write_text("policy: {}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def program(project: Path, script: str) -> record.RunDir:
    run = make(project, task="command", command={"argv": ["x"]})
    record.write_json(run.run, record.read_json(run.run) | {"command": [sys.executable, "-c", script]})
    return run


def test_a_running_run_saves_when_it_is_asked_and_goes_on(project: Path) -> None:
    run = make(project, "--steps", 100_000, "--checkpoint-every", 1_000_000)
    with supervised(run):
        until(run, in_state("running"))
        done = runctl("checkpoint", "run", "--wait", "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert until(run, lambda _: True).state == "running"
    folder = Path(found["checkpoint"]["path"])
    assert folder == run.checkpoint(found["checkpoint"]["step"])
    assert found["checkpoint"]["verified"] == "sha256 of every file"
    assert found["checkpoint"]["step"] >= found["asked"]["step"]
    (row,) = [row for row in record.read_lines(run.events) if row["event"] == "checkpoint_asked"]
    assert row["by"] == found["asked"]["by"]
    assert "@" in row["by"]
    assert not run.attempt(1).save.exists()


def test_without_wait_it_returns_once_it_was_asked(project: Path) -> None:
    run = make(project, "--steps", 100_000, "--checkpoint-every", 1_000_000)
    with supervised(run):
        until(run, in_state("running"))
        done = runctl("checkpoint", "run")
        assert (done.returncode, done.stdout) == (0, "")
        assert "run was asked for a checkpoint at step" in done.stderr
        until(run, lambda found: found.checkpoint_step is not None)


def test_a_run_that_is_over_says_why_it_cannot(project: Path) -> None:
    run = make(project, "--steps", 5)
    with supervised(run):
        until(run, in_state("succeeded"))
    done = runctl("checkpoint", "run", "--wait")
    assert done.returncode == 2
    assert "run is not running: succeeded" in done.stderr
    assert "its newest checkpoint is that of step 5" in done.stderr


def test_a_program_of_ones_own_is_only_asked_if_it_takes_requests(project: Path) -> None:
    for script, why in ((REPORTS, "it never called runctl.should_checkpoint()"), (SILENT, "never called")):
        run = program(project, script)
        with supervised(run):
            until(run, in_state("running"))
            done = runctl("checkpoint", "run", "--wait")
            assert done.returncode == 4, done.stderr
            assert why in " ".join(done.stderr.split())
            assert until(run, lambda _: True).state == "running"  # the signal would have ended it
        (row,) = [row for row in record.read_lines(run.events) if row["event"] == "checkpoint_refused"]
        assert why in row["reason"]
        for path in (run.events, run.attempt(1).exit, run.attempt(1).heartbeat, run.summary):
            path.unlink(missing_ok=True)


def test_a_program_that_takes_requests_saves_and_its_path_is_told(project: Path) -> None:
    run = program(project, TAKES)
    with supervised(run):
        until(run, lambda _: "checkpoint" in record.read_object(run.attempt(1).heartbeat).get("handles", []))
        done = runctl("checkpoint", "run", "--wait")
        assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(project / "mine.pt")
    assert "verified: it is there" in done.stderr


def test_a_trainer_that_does_not_save_is_waited_for_no_longer_than_asked(project: Path) -> None:
    run = make(project, "--steps", 100_000)
    with supervised(run):
        until(run, in_state("running"))
        os.kill(pids(run)[1], signal.SIGSTOP)
        asked = checkpointing.ask(run)
        with pytest.raises(WaitTimeout, match="has not saved within"):
            checkpointing.wait(run, asked, 0.3)
        os.kill(pids(run)[1], signal.SIGKILL)
        with pytest.raises(RunFailed, match="ended without that checkpoint: failed: signal 9"):
            checkpointing.wait(run, asked)


def test_a_request_before_the_first_step_is_kept_for_it_and_taken_back_after_the_timeout(project: Path) -> None:
    run = make(project, "--steps", 100_000, "--step-seconds", 2.0)
    with supervised(run):
        until(run, in_state("starting"))
        with pytest.raises(WaitTimeout, match="has made no step within"):
            checkpointing.ask(run, 0.3)
        assert not run.attempt(1).save.exists()
        asked = checkpointing.ask(run)
        assert asked.step is not None
        assert checkpointing.wait(run, asked).step >= asked.step


def test_a_supervisor_that_does_not_answer_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpointing, "ANSWER_SECONDS", 0.3)
    run = make(project, "--steps", 100_000)
    with supervised(run):
        until(run, in_state("running"))
        os.kill(pids(run)[0], signal.SIGSTOP)
        try:
            with pytest.raises(WaitTimeout, match="the supervisor of run does not answer"):
                checkpointing.ask(run)
        finally:
            os.kill(pids(run)[0], signal.SIGCONT)
        assert not run.attempt(1).save.exists()


def test_a_damaged_checkpoint_is_not_called_verified(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 5)
    with supervised(run):
        until(run, in_state("succeeded"))
    assert checkpointing.verify(run.checkpoint(5)) > 0
    weights = run.checkpoint(5) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(CheckpointError, match="differs from its sha256"):
        checkpointing.verify(run.checkpoint(5))


def test_a_checkpoint_from_before_the_request_is_no_answer_to_it(tmp_path: Path) -> None:
    run = make(tmp_path)
    folder = run.checkpoint(50)
    folder.mkdir(parents=True)
    record.write_json(folder / "manifest.json", {"kind": "checkpoint", "step": 50, "created": 1000.0, "files": {}})
    found = status.read(run)
    for asked, answered in ((999.0, True), (1001.0, False)):
        request = checkpointing.Request("run", 1, "x", "me", asked, 50)
        assert (checkpointing._saved(run, request, found) is not None) is answered
    assert checkpointing._saved(run, checkpointing.Request("run", 1, "x", "me", 999.0, 51), found) is None


def test_a_hostile_request_does_nothing(project: Path) -> None:
    run = make(project, "--steps", 100_000, "--checkpoint-every", 1_000_000)
    with supervised(run):
        until(run, in_state("running"))
        for text in ("{", "[]", json.dumps({"id": 7}), json.dumps({"id": "x" * 10_000})):
            run.attempt(1).save.write_text(text)
            until(run, lambda _: not run.attempt(1).save.exists())
        assert until(run, lambda _: True).state == "running"
    assert not [row for row in record.read_lines(run.events) if row["event"].startswith("checkpoint")]


def test_the_real_trainer_saves_when_it_is_asked(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tiny_job

    monkeypatch.setenv("PACE", "0.01")
    config = tiny_job.config(training={"steps": 2000}, checkpoint={"every": "never"})
    run = tiny_job.make_run(project / "runs" / "run", config)
    entry = record.read_json(run.run)
    command = [sys.executable, str(Path(tiny_job.__file__))]
    record.write_json(run.run, entry | {"name": "run", "created": time.time(), "command": command})
    with supervised(run):
        until(run, in_state("running"))
        saved = checkpointing.wait(run, checkpointing.ask(run), 30)
        assert saved.path == run.checkpoint(saved.step)
        assert saved.bytes is not None
        assert saved.bytes > 1000
