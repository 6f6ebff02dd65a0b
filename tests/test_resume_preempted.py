"""The machine is taken back: what is saved, how that is counted, and how a run goes on after it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fake_runs import alive, events, in_state, make, pids, supervised, until

from runctl import backends, record, status, stop, why
from runctl import config as configs
from runctl.starting import write_start
from runctl.supervisor import failures

ENDED = ("succeeded", "failed", "stopped", "killed")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_preempted_supervisor_saves_and_is_counted_as_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    run = make(tmp_path, "--steps", 10_000, "--checkpoint-every", 1_000_000, compute={"retries": 3})
    with supervised(run):
        until(run, in_state("running"))
        os.kill(pids(run)[0], number)
        found = until(run, lambda found: found.over and run.summary.exists())
    assert (found.state, found.failure) == ("stopped", "preemption")
    assert found.reason == f"preempted: {number.name} from outside, not by runctl stop"
    assert found.checkpoint_step == found.step
    summary = record.read_json(run.summary)
    assert (summary["interruptions"], summary["failures"], summary["attempts"]) == (1, 0, 1)


def test_a_run_that_runctl_stop_ended_was_not_preempted(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 10_000)
    with supervised(run):
        until(run, in_state("running"))
        found = stop.stop(run, 20)
        until(run, lambda _: run.summary.exists())
    assert (found.state, found.failure) == ("stopped", None)
    assert found.reason == "stopped on request (SIGTERM)"
    assert record.read_json(run.summary)["interruptions"] == 0
    assert record.read_json(run.attempt(1).asked)["by"]


def test_a_trainer_that_is_ended_from_outside_goes_on_by_itself(tmp_path: Path) -> None:
    """The real trainer's word for it, which the fake one has not: `signal` in result.json."""
    run = make(tmp_path, "--steps", 200, compute={"retries": 1})
    with supervised(run, backoff=0.1):
        until(run, in_state("running"))
        os.kill(pids(run)[1], signal.SIGTERM)
        found = until(run, lambda found: found.over and run.summary.exists())
    assert (found.state, found.attempt, found.step) == ("succeeded", 2, 200)
    summary = record.read_json(run.summary)
    assert (summary["interruptions"], summary["failures"]) == (1, 0)
    words = record.read_json(run.attempt(2).start)["restart"]["words"]
    assert words.startswith("attempt 1 was interrupted (preemption: ended from outside); restart 1 of 1")


def test_a_trainer_that_a_person_interrupts_is_not_started_again() -> None:
    def again(reason: str, stopped_for: str | None = None) -> bool | None:
        found = failures.classify("stopped", returncode=0, reason=reason, stopped_for=stopped_for)
        return found and found.again

    assert again("preempted: the trainer was asked to stop from outside (SIGTERM)") is True
    assert again("preempted: the trainer was asked to stop from outside (SIGINT)") is False
    assert again("preempted: SIGTERM from outside, not by runctl stop", "preempted") is False
    assert again("stopped on request (SIGTERM)", "asked") is None


def test_what_cannot_save_within_the_grace_keeps_its_last_checkpoint(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 10_000, "--deaf")
    with supervised(run, grace=0.3):
        until(run, lambda found: found.checkpoint_step is not None)
        os.kill(pids(run)[0], signal.SIGTERM)
        found = until(run, in_state(*ENDED))
    assert (found.state, found.failure) == ("stopped", "preemption")
    assert "it did not end in time and was killed" in found.reason
    assert found.checkpoint_step is not None
    assert found.checkpoint_step % 5 == 0


def test_the_grace_is_the_config_s_or_what_the_provider_gives() -> None:
    def grace(**compute: object) -> float:
        return backends.grace(configs.RunConfig.model_validate({"name": "a", "compute": compute}))

    assert [grace(), grace(backend="modal"), grace(grace="2m"), grace(backend="modal", grace="10s")] == [
        60,
        30,
        120,
        10,
    ]


@pytest.mark.parametrize("fails", [False, True])
def test_the_backend_commits_after_checkpoints_and_once_all_is_written(tmp_path: Path, fails: bool) -> None:
    run = make(tmp_path, "--steps", 190, "--checkpoint-every", 100)
    script = str(Path(__file__).parent / "fake_backend.py")
    done = subprocess.run([sys.executable, script, str(run.path), "fail" if fails else ""], timeout=60, check=False)
    assert done.returncode == 0
    rows = list(record.read_lines(run.path.parent / "commits.jsonl"))
    assert rows[-1] == {"checkpoints": ["step-000000100"], "exit": True, "summary": True}
    assert ("commit_failed" in events(run)) == fails
    if fails:
        (row,) = [row for row in record.read_lines(run.events) if row["event"] == "commit_failed"]
        assert "OSError: the volume is busy" in row["reason"]
    else:
        assert not rows[0]["exit"]  # the first one came while it ran


def test_a_machine_that_restarted_ended_the_run_which_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(tmp_path, "--steps", 100, compute={"retries": 3})
    with supervised(run) as supervisor:
        until(run, lambda found: found.checkpoint_step is not None)
        trainer = pids(run)[1]
        os.kill(supervisor, signal.SIGKILL)
        os.kill(trainer, signal.SIGKILL)
        until(run, lambda _: not alive(supervisor) and not alive(trainer))
    monkeypatch.setenv("RUNCTL_TEST_BOOT_ID", "the next boot")
    run.attempt(1).exit.unlink(missing_ok=True)  # nobody looked before the machine was up again
    run.summary.unlink(missing_ok=True)
    found = status.read(run)
    assert (found.state, found.reason) == ("failed", "supervisor lost: the machine restarted")
    saved = found.checkpoint_step or 0
    write_start(run.attempt(2).path, from_step=saved, checkpoint=None, code=None)
    with supervised(run, attempt=2):
        assert until(run, in_state(*ENDED)).state == "succeeded"
    end = record.read_json(run.attempt(1).exit)
    assert end["failure"]["kind"] == "infrastructure"
    assert end["failure"]["again"] is False  # nobody is left to do it, and nobody says that somebody will
    assert "without its supervisor nobody restarts it" in end["failure"]["advice"]


def test_a_lost_supervisor_takes_its_trainer_along_which_saves_first(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 10_000, "--checkpoint-every", 1_000_000, compute={"retries": 3})
    with supervised(run) as supervisor:
        until(run, in_state("running"))
        os.kill(supervisor, signal.SIGKILL)
        found = until(run, in_state(*ENDED))
        until(run, lambda _: not alive(pids(run)[1]))
        found = status.read(run)
    assert (found.state, found.reason) == ("failed", "supervisor lost")
    assert (found.checkpoint_step or 0) > 0
    told = why.explain(run).failure
    assert told is not None
    assert "nobody restarts it" in told.advice
