"""Stop, resume, pull, wait: what they do, and what they refuse with one clear message."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_runs import FAKE, clean, events, in_state, make, pids, supervised, until
from test_launch import runctl

from runctl import config as configs
from runctl import launch, pull, record, resume, status, stop, wait
from runctl.backends import local
from runctl.errors import CheckpointError, Exit, RefusedError, UsageError, WaitTimeout


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "runctl.yaml").write_text("policy: {}\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for run in record.list_runs(tmp_path):
        clean(run)


def launched(project: Path, monkeypatch: pytest.MonkeyPatch, *options: str, more: str = "") -> record.RunDir:
    """A real launch of a world-model config with the fake trainer in the trainer's place."""
    import sys

    monkeypatch.setattr(local, "TRAINER", [sys.executable, FAKE, *options])
    path = project / "q.yaml"
    path.write_text(
        "name: q\ntask: worldmodel\ndata: {simulate: {games: 2}}\n"
        f"training: {{steps: 9, seed: 1}}\ncompute: {{timeout: 9m}}\n{more}"
    )
    run = launch.start(launch.plan(path))
    launch.await_start(run, 30)
    return run


def test_a_stopped_run_resumes_from_its_checkpoint_to_the_same_total(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = launched(project, monkeypatch, "--steps", "100", "--step-seconds", "0.03")
    stopped = stop.stop(run)
    assert stopped.state == "stopped"
    assert stopped.checkpoint_step == stopped.step
    plan = resume.plan(run)
    assert plan.words == (
        f"resuming q as attempt 2 from checkpoints/step-{stopped.step:09d}: "
        f"step {stopped.step} of 100 done, {100 - (stopped.step or 0)} to go"
    )
    resume.start(plan)
    found = launch.await_start(run, 30)
    assert found.attempt == 2
    assert (found.step or 0) > (stopped.step or 0)
    rows = [row["step"] for row in record.read_lines(run.events) if row["event"] == "checkpoint"]
    assert rows.count(stopped.step) == 1  # the second attempt did not save it again
    assert wait.wait(run, 30).state == "succeeded"
    until(run, lambda _: run.summary.exists())
    summary = record.read_json(run.summary)
    assert (summary["attempts"], summary["steps"]) == (2, 100)


def test_resume_refuses_a_finished_a_running_and_an_unknown_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = launched(project, monkeypatch, "--steps", "1000000")
    with pytest.raises(UsageError, match="q is running"):
        resume.plan(run)
    stop.stop(run)
    done = launched(project, monkeypatch, "--steps", "3")
    wait.wait(done, 30)
    with pytest.raises(UsageError, match="q-2 has finished at step 3 of 3"):
        resume.plan(done)
    unknown = runctl("resume", "qq")
    assert unknown.returncode == 2
    assert "no run 'qq'" in unknown.stderr
    assert [attempt.number for attempt in done.attempts()] == [1]


def test_resume_refuses_a_lost_run_unless_forced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path, config_note=None)
    lost = {"boot": "b", "machine": "m", "host": "far", "namespace": "n", "pid": 1, "start": "1"}
    record.append_line(
        run.events, {"event": "attempt_started", "attempt": 1, "time": 1.0, "supervisor": lost, "host": "far"}
    )
    with pytest.raises(RefusedError, match="run is lost: no sign of life from far"):
        resume.plan(run)


def test_resume_refuses_when_the_hours_are_used_up(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = launched(project, monkeypatch, "--steps", "1000000", more="budget: {max_hours: 1}\n")
    stop.stop(run)
    end = record.read_json(run.attempt(1).exit)
    record.write_json(run.attempt(1).exit, end | {"seconds": 4000.0})
    with pytest.raises(RefusedError, match=r"1\.11 h of its budget\.max_hours of 1"):
        resume.plan(run)


def test_of_two_resumes_at_once_one_wins(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = launched(project, monkeypatch, "--steps", "1000000")
    stop.stop(run)
    first, second = resume.plan(run), resume.plan(run)
    resume.start(first)
    with pytest.raises(UsageError, match="being resumed already"):
        resume.start(second)
    launch.await_start(run, 30)
    assert events(run).count("attempt_started") == 2


def test_resume_without_a_checkpoint_says_that_it_starts_over(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = launched(project, monkeypatch, "--steps", "1000000", "--checkpoint-every", "1000000")
    os.kill(pids(run)[1], signal.SIGKILL)
    until(run, in_state("failed"))
    assert "no checkpoint was written, so it starts at step 0" in resume.plan(run).words


def test_resume_refuses_to_start_over_where_only_damaged_checkpoints_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "_check_life", lambda *state: None)
    (tmp_path / "q.yaml").write_text("data: {simulate: {games: 2}}\ntraining: {steps: 9}\n")
    config = configs.load(tmp_path / "q.yaml").config
    run = make(tmp_path)
    record.write_json(run.run, record.read_json(run.run) | {"config": configs.to_effective(config)})
    (run.checkpoints / "step-000000010").mkdir(parents=True)
    (run.checkpoints / "damaged-step-000000020").mkdir()
    with pytest.raises(UsageError, match=r"no whole checkpoint is left .*damaged-step-000000020, step-000000010$"):
        resume.plan(run)
    for path in run.checkpoints.iterdir():
        path.rmdir()
    assert "no checkpoint was written" in resume.plan(run).words


def test_stop_says_what_is_at_stake_and_is_idempotent(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = launched(project, monkeypatch, "--steps", "1000000")
    until(run, lambda found: found.checkpoint_step is not None)
    first = runctl("stop", "q")
    assert first.returncode == 0
    assert "q is running at step" in first.stderr
    assert "last checkpoint at step" in first.stderr
    assert "q has stopped: checkpoint at step" in first.stderr
    second = runctl("stop", "q", "--json")
    assert second.returncode == 0
    assert "has ended already: stopped" in second.stderr
    assert json.loads(second.stdout)["status"]["state"] == "stopped"


def test_stop_of_what_a_lost_supervisor_left_says_that_the_run_has_ended(project: Path) -> None:
    run = make(project, "--steps", 100_000, "--deaf")
    with supervised(run):
        until(run, in_state("running"))
        supervisor, trainer = pids(run)
        os.kill(supervisor, signal.SIGKILL)
        while not status.read(run).leftover:
            pass
        record.write_json(run.attempt(1).heartbeat, {"time": 1.0})
        assert stop.at_stake(status.read(run)) == (
            "run has ended: failed: supervisor lost; what it left is being ended"
        )
        os.kill(trainer, signal.SIGKILL)


@pytest.mark.parametrize(
    ("state", "facts", "words"),
    [
        ("stalled", {"step": 5, "total_steps": 9}, "r has stalled at step 5 of 9; no checkpoint yet: all of it"),
        ("starting", {}, "r is starting, before its first step; no checkpoint yet"),
        (
            "running",
            {"step": 6, "checkpoint_step": 5},
            "r is running at step 6; last checkpoint at step 5 (1 step back)",
        ),
        ("running", {"task": "command", "seconds": 90.0}, "r is running, 1m30s after its start"),
    ],
)
def test_what_is_at_stake_is_said_for_every_state(state: str, facts: dict[str, Any], words: str) -> None:
    found = status.fold(status.Records({"name": "r", "config": {"task": "worldmodel"}}), status.Evidence(), 2.0)
    assert stop.at_stake(replace(found, **{"state": state, "leftover": False, **facts})).startswith(words)


def test_stop_leaves_a_run_of_another_machine_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path, "--steps", 100_000)
    with supervised(run):
        until(run, in_state("running"))
        monkeypatch.setenv("RUNCTL_TEST_BOOT_ID", "b")
        monkeypatch.setenv("RUNCTL_TEST_MACHINE_ID", "m")
        with pytest.raises(UsageError, match="runs on"):
            stop.stop(run, 5)
        monkeypatch.undo()
        assert status.read(run).state == "running"


def test_wait_ends_with_the_run_or_with_its_timeout(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 10_000)
    with supervised(run):
        with pytest.raises(WaitTimeout, match="is still"):
            wait.wait(run, 0.2)
        assert status.read(run).active
    codes = {
        state: wait.exit_code(status.fold(_ended(state), status.Evidence(), 2.0))
        for state in ("stopped", "failed", "killed")
    }
    assert codes == {"stopped": Exit.RUN_FAILED, "failed": Exit.RUN_FAILED, "killed": Exit.RUN_KILLED}


def _ended(state: str) -> status.Records:
    return status.Records({"name": "r"}, 1, exit={"state": state})


def test_pull_copies_records_and_the_best_checkpoint(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 12)
    with supervised(run):
        until(run, in_state("succeeded"))
        until(run, lambda _: run.summary.exists())
    done = pull.pull(run, tmp_path / "results")
    assert done.checkpoints == ("step-000000010",)
    assert done.path == tmp_path / "results" / "run"
    copy = record.RunDir(done.path)
    assert copy.summary.read_bytes() == run.summary.read_bytes()
    assert copy.attempt(1).log.read_bytes() == run.attempt(1).log.read_bytes()
    assert (copy.checkpoint(10) / "model.safetensors").read_text() == "weights at 10"
    assert copy.latest.read_text() == "step-000000010\n"
    with pytest.raises(UsageError, match="exists already"):
        pull.pull(run, tmp_path / "results")
    assert pull.pull(run, tmp_path / "more", "all").checkpoints == ("step-000000005", "step-000000010")
    assert pull.pull(run, tmp_path / "five", "5").checkpoints == ("step-000000005",)
    with pytest.raises(UsageError, match="no checkpoint '7'; its steps: 5, 10"):
        pull.pull(run, tmp_path / "seven", "7")


def test_pull_refuses_a_damaged_checkpoint_and_leaves_nothing(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 5)
    with supervised(run):
        until(run, in_state("succeeded"))
    (run.checkpoint(5) / "model.safetensors").write_text("weights at 6")
    with pytest.raises(CheckpointError, match=r"model\.safetensors differs from its sha256"):
        pull.pull(run, tmp_path / "results")
    assert list((tmp_path / "results").iterdir()) == []


def test_pull_writes_nothing_outside_of_its_folder(tmp_path: Path) -> None:
    run = make(tmp_path, "run")
    outside = tmp_path / "runs" / "evil.txt"
    outside.write_text("evil")
    files = {"../../../evil.txt": {"sha256": hashlib.sha256(b"evil").hexdigest()}}
    manifest = {"kind": "checkpoint", "step": 5, "files": files}
    record.write_json(run.checkpoint(5) / "manifest.json", manifest)
    with pytest.raises(CheckpointError, match="nothing was copied"):
        pull.pull(run, tmp_path / "results", "latest")
    assert list((tmp_path / "results").iterdir()) == []


def test_a_run_that_has_spent_its_money_is_not_resumed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = launched(project, monkeypatch, "--steps", "1000000")
    stop.stop(run)
    test = {"kind": "cost", "value": 1.0, "usd_per_hour": 3.0}
    record.write_json(run.run, record.read_json(run.run) | {"guards": [{"name": "cost", "on": True, "test": test}]})
    record.write_json(run.attempt(1).exit, record.read_json(run.attempt(1).exit) | {"seconds": 1200.0})
    with pytest.raises(RefusedError, match=r"has spent its budget\.max_cost_usd of \$1\.00, all attempts together"):
        resume.plan(run)
