"""Attempts that follow a failure by themselves: which, how often, and what is seen of the run meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from fake_runs import alive, events, in_state, make, pids, supervised, until

from runctl import page, record, status, stop
from runctl.starting import write_start
from runctl.supervisor import ending, restarts
from runctl.supervisor.verdict import Verdict

ENDED = ("succeeded", "failed", "stopped")
ONCE = restarts.Restart(1, 1, 0.0, "attempt 1 failed")


def kinds(run: record.RunDir) -> list[str | None]:
    ends = [record.read_object(attempt.exit) for attempt in run.attempts()]
    return [(end.get("failure") or {}).get("kind") for end in ends]


def test_a_run_that_hung_goes_on_by_itself_from_its_checkpoint_and_was_never_called_failed(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 40, "--hang-at", 12, compute={"retries": 2, "hang_after": 1.0})
    seen: list[str] = []

    def over(found: status.RunStatus) -> bool:
        seen.append(found.state)
        return found.over

    with supervised(run, grace=0.2, backoff=0.5) as supervisor:
        found = until(run, over)
        until(run, lambda _: run.summary.exists() and not alive(supervisor))
    assert (found.state, found.attempt, found.step) == ("succeeded", 2, 40)
    assert "failed" not in seen
    assert "restarting" in seen
    assert kinds(run) == ["hang", None]
    assert record.read_json(run.attempt(2).start)["from_step"] == 10
    summary = record.read_json(run.summary)
    assert (summary["attempts"], summary["failures"], summary["interruptions"]) == (2, 1, 0)
    first, second = (record.read_json(attempt.exit) for attempt in run.attempts())
    assert summary["seconds"] == first["seconds"] + second["seconds"]
    assert second["started"] - first["ended"] >= 0.5  # the pause between them is no part of either


def test_restarts_end_at_their_bound_with_the_last_failure(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 10_000, compute={"retries": 1})
    with supervised(run, backoff=0.1):
        for attempt in (1, 2):
            until(run, lambda found, attempt=attempt: found.attempt == attempt and found.state == "running")  # type: ignore[misc]
            os.kill(pids(run)[1], signal.SIGKILL)
        found = until(run, in_state(*ENDED))
        until(run, lambda _: run.summary.exists())
    assert (found.state, found.attempt, found.failure) == ("failed", 2, "infrastructure")
    summary = record.read_json(run.summary)
    assert (summary["attempts"], summary["failures"], summary["interruptions"]) == (2, 0, 2)
    shown = page.read(run)
    assert [entry["failure"] for entry in shown.attempts] == ["infrastructure", "infrastructure"]
    assert all(entry["steps_per_second"] > 0 for entry in shown.attempts)
    assert shown.attempts[1]["restart"].startswith("attempt 1 failed (infrastructure: killed from outside); restart 1")


def test_a_run_that_goes_on_by_itself_has_no_summary_yet(tmp_path: Path) -> None:
    run = make(tmp_path)
    verdict = Verdict("failed", "signal 9")
    for following, there in ((2, False), (None, True)):
        ending.write(run, 1, verdict, None, -9, None, 1.0, 1.0, following)
        assert run.summary.exists() == there


def test_what_would_fail_again_is_not_tried_again(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 50, "--fail-at", 3, compute={"retries": 5})
    with supervised(run, backoff=0.01) as supervisor:
        found = until(run, in_state(*ENDED))
        until(run, lambda _: not alive(supervisor))
    assert (found.failure, found.attempt) == ("nan", 1)


def test_a_stop_in_the_pause_before_a_restart_ends_the_run(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 10_000, compute={"retries": 3})
    with supervised(run, backoff=60):
        until(run, in_state("running"))
        os.kill(pids(run)[1], signal.SIGKILL)
        found = until(run, lambda found: found.attempt == 2 and "restart" in events(run))
        assert (found.state, found.over) == ("restarting", False)
        assert found.reason == "attempt 1 failed (infrastructure: killed from outside); restart 1 of 3 after 1m00s"
        assert stop.stop(run, 10).state == "stopped"
        until(run, lambda _: run.summary.exists())
    assert [attempt.number for attempt in run.attempts()] == [1, 2]
    assert record.read_json(run.summary)["state"] == "stopped"


def test_of_a_restart_and_a_resume_one_wins(tmp_path: Path) -> None:
    run = make(tmp_path)
    run.attempt(2).path.mkdir(parents=True)
    (run.attempt(2).path / "start.json").write_text("{}")
    assert restarts.claim(run, ONCE, 1) is None
    assert sorted(path.name for path in (run.path / "attempts").iterdir()) == ["1", "2"]
    assert restarts.claim(run, ONCE, 2) == 3
    assert restarts.made(run) == 1


def test_a_resume_by_a_person_begins_the_count_of_restarts_anew(tmp_path: Path) -> None:
    run = make(tmp_path)
    assert [restarts.claim(run, ONCE, after) for after in (1, 2)] == [2, 3]
    assert restarts.made(run) == 2
    record.write_json(run.attempt(4).start, {"from_step": 5})
    assert restarts.made(run) == 0


def test_a_run_with_only_damaged_checkpoints_is_not_started_over(tmp_path: Path) -> None:
    run = make(tmp_path)
    run.checkpoint(10).mkdir(parents=True)
    assert restarts.claim(run, ONCE, 1) is None


def why(run: record.RunDir, *options: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "runctl", "why", run.name, *options]
    return subprocess.run(argv, cwd=run.path.parent.parent, capture_output=True, text=True, check=False, timeout=60)


def test_why_shows_the_error_in_its_context_its_class_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "runctl.yaml").write_text("{}\n")
    run = make(tmp_path, task="command", command={"argv": ["x"]})
    program = "print('loading')\nrow = {}\nprint('epoch 1')\nrow['labels']"
    record.write_json(run.run, record.read_json(run.run) | {"command": [sys.executable, "-c", program]})
    with supervised(run):
        until(run, in_state(*ENDED))
    done = why(run)
    assert done.returncode == 0, done.stderr
    for words in (
        "run failed",
        "user error",
        "the program has a defect",
        "KeyError: 'labels'",
        "epoch 1",
        "what to do",
    ):
        assert words in done.stdout, done.stdout
    data = json.loads(why(run, "--json").stdout)
    assert (data["schema_version"], data["state"], data["failure"]["kind"]) == (1, "failed", "user_error")
    assert data["context"]["lines"][data["context"]["at"]]["text"] == "KeyError: 'labels'"
    assert data["failure"]["again"] is False


def test_why_shows_where_a_hung_trainer_stood(tmp_path: Path) -> None:
    (tmp_path / "runctl.yaml").write_text("{}\n")
    run = make(tmp_path, "--steps", 99, "--hang-at", 3, "--hang", "gil", compute={"hang_after": 0.5})
    with supervised(run, grace=0.1):
        until(run, in_state(*ENDED))
    done = why(run)
    assert "in hang_in_c" in done.stdout
    assert "hang" in done.stdout


def test_why_of_a_run_that_did_not_fail_says_so(tmp_path: Path) -> None:
    (tmp_path / "runctl.yaml").write_text("{}\n")
    run = make(tmp_path, "--steps", 3)
    with supervised(run):
        until(run, in_state("succeeded"))
    done = why(run)
    assert done.returncode == 0
    assert "run succeeded at step 3: nothing to explain" in done.stdout
    unknown = why(run, "--attempt", "7")
    assert unknown.returncode == 2
    assert "run has no attempt 7" in unknown.stderr


def test_why_of_a_damaged_record_judges_from_what_is_left(tmp_path: Path) -> None:
    (tmp_path / "runctl.yaml").write_text("{}\n")
    run = make(tmp_path, "--steps", 3)
    run.attempt(1).log.write_bytes(b"\xff\xfe\nMemoryError\n")
    end = {"state": "failed", "reason": "exit 1", "exit_code": 1, "failure": {"kind": ["x"], "evidence": 3}}
    record.write_json(run.attempt(1).exit, end)
    done = why(run, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["failure"]["kind"] == "out_of_memory"


def test_a_supervisor_lost_in_the_pause_leaves_a_failed_run_that_can_go_on(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 60, compute={"retries": 3})
    with supervised(run, backoff=60) as supervisor:
        until(run, in_state("running"))
        os.kill(pids(run)[1], signal.SIGKILL)
        until(run, lambda _: "restart" in events(run))
        os.kill(supervisor, signal.SIGKILL)
        found = until(run, in_state(*ENDED))
    assert (found.state, found.reason) == ("failed", "supervisor lost")
    write_start(run.attempt(3).path, from_step=0, checkpoint=None, code=None)
    with supervised(run, attempt=3):
        assert until(run, in_state(*ENDED)).state == "succeeded"
    assert kinds(run) == ["infrastructure", "infrastructure", None]
    assert restarts.made(run) == 0
