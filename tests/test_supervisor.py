"""The supervisor with a fake trainer: it ends every attempt whole, and writes down how."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fake_runs
import pytest
from fake_runs import alive, events, in_state, make, pids, supervised, until

from runctl import evidence, record
from runctl.starting import write_start
from runctl.supervisor import supervise
from runctl.supervisor.verdict import Stop, judge, judge_lost

ENDED = ("succeeded", "failed", "stopped", "killed")


def test_a_run_that_finishes_has_all_its_records(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 12)
    with supervised(run):
        found = until(run, in_state(*ENDED))
        until(run, lambda _: run.summary.exists())
    assert (found.state, found.step, found.total_steps) == ("succeeded", 12, 12)
    summary = record.read_json(run.summary)
    assert summary["state"] == "succeeded"
    assert summary["steps"] == 12
    assert summary["metrics"] == {"val/loss": 0.1, "val/pos_mae": 0.5}
    assert summary["baselines"] == {"last_delta/pos_mae": 0.75}
    assert [entry["step"] for entry in summary["checkpoints"]] == [5, 10]
    assert summary["best"] == {
        "metric": "val/loss",
        "mode": "min",
        "value": 0.1,
        "step": 10,
        "checkpoint": "checkpoints/step-000000010",
    }
    assert events(run)[:3] == ["attempt_started", "trainer_started", "first_step"]
    assert events(run)[-1] == "attempt_ended"
    assert record.read_json(run.attempt(1).exit)["exit_code"] == 0
    assert not (run.attempt(1).path / ".reserve").exists()


def test_a_trainer_killed_from_outside_is_failed_by_signal_9(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 10_000)
    with supervised(run):
        until(run, in_state("running"))
        os.kill(pids(run)[1], signal.SIGKILL)
        found = until(run, in_state(*ENDED))
    assert found.state == "failed"
    assert found.reason.startswith("signal 9 (SIGKILL)")
    assert record.read_json(run.attempt(1).exit)["signal"] == 9


def test_sigterm_to_the_supervisor_saves_and_ends_as_stopped(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 10_000, "--checkpoint-every", 1_000_000)
    with supervised(run):
        until(run, in_state("running"))
        supervisor, trainer = pids(run)
        os.kill(supervisor, signal.SIGTERM)
        found = until(run, in_state(*ENDED))
        until(run, lambda _: not alive(supervisor))
        assert not alive(trainer)
    assert found.state == "stopped"
    assert found.checkpoint_step == found.step
    assert "stop_requested" in events(run)


def test_a_trainer_that_ignores_sigterm_is_killed_after_the_grace_period(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 10_000, "--deaf")
    with supervised(run, grace=0.3):
        until(run, in_state("running"))
        supervisor, trainer = pids(run)
        os.kill(supervisor, signal.SIGINT)
        found = until(run, in_state(*ENDED))
        assert not alive(trainer)
    assert found.state == "stopped"
    assert "was killed" in found.reason


@pytest.mark.parametrize("kind", [0, 1])
def test_nothing_that_the_trainer_started_outlives_its_attempt(tmp_path: Path, kind: int) -> None:
    """Neither a child in its process group nor one that made a session of its own."""
    run = make(tmp_path, "--steps", 5, ["--child", "--daemon"][kind])
    with supervised(run):
        assert until(run, in_state(*ENDED)).state == "succeeded"
        assert not alive(int((run.path / f"child-{kind}.pid").read_text()))


def test_the_trainers_own_error_is_the_reason(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 50, "--fail-at", 3)
    with supervised(run):
        found = until(run, in_state(*ENDED))
    assert (found.state, found.reason, found.step) == ("failed", "ValueError: the loss is NaN", 3)


def test_exit_0_without_a_result_is_failed(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 3, "--no-result")
    with supervised(run):
        found = until(run, in_state(*ENDED))
    assert (found.state, found.reason) == ("failed", "exit 0 without a result")


def test_a_program_that_cannot_be_started_is_failed_with_the_reason(tmp_path: Path) -> None:
    run = make(tmp_path)
    data = record.read_json(run.run)
    record.write_json(run.run, data | {"command": ["/no/such/program"]})
    with supervised(run):
        found = until(run, in_state(*ENDED))
    assert found.state == "failed"
    assert "cannot start the trainer" in found.reason
    assert "/no/such/program" in found.reason


def test_the_timeout_ends_an_attempt_as_failed_and_saves_first(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 10_000, compute={"timeout": 0.8})
    with supervised(run):
        found = until(run, in_state(*ENDED))
    assert found.state == "failed"
    assert found.reason.startswith("timed out: compute.timeout")
    assert found.checkpoint_step == found.step


def test_the_hours_of_earlier_attempts_count_against_the_budget(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 10_000, budget={"max_hours": 1.0})
    record.write_json(run.attempt(1).exit, {"state": "failed", "seconds": 3599.5})
    write_start(run.attempt(2).path, from_step=0, checkpoint=None, code=None)
    with supervised(run, attempt=2):
        found = until(run, in_state(*ENDED))
    assert found.state == "killed"
    assert found.reason.startswith("guard budget.max_hours: 100% is used: 1 h of 1 h, all attempts together")
    assert found.checkpoint_step == found.step


def test_a_second_supervisor_leaves_the_run_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runctl.supervisor.supervise._LOCK_WAIT_SECONDS", 0.1)
    from runctl.supervisor.supervise import supervise

    run = make(tmp_path, "--steps", 10_000)
    with supervised(run):
        until(run, in_state("running"))
        assert supervise(run, 2) == 1
        assert events(run).count("attempt_started") == 1
        assert until(run, in_state("running")).attempt == 1


def test_a_program_of_ones_own_succeeds_by_its_exit_code_alone(tmp_path: Path) -> None:
    run = make(tmp_path, task="command", command={"argv": ["true"], "cwd": None, "env": {"GREETING": "hello"}})
    script = "import os; print(os.environ['GREETING'], os.environ['RUNCTL_ATTEMPT'], os.getcwd())"
    data = record.read_json(run.run)
    record.write_json(run.run, data | {"command": [sys.executable, "-c", script]})
    with supervised(run):
        found = until(run, in_state(*ENDED))
    assert found.state == "succeeded"
    assert run.attempt(1).log.read_text() == f"hello 1 {tmp_path}\n"


def test_a_program_behind_a_wrapper_gets_the_grace_period_too(tmp_path: Path) -> None:
    """A shell script dies of SIGTERM at once and passes it on to nobody."""
    saved = tmp_path / "saved"
    program = (
        "import signal, sys, time\n"
        f"def save(*_):\n    time.sleep(0.5)\n    open({str(saved)!r}, 'w').close()\n    sys.exit()\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    run = make(tmp_path, task="command", command={"argv": ["x"]})
    wrapped = ["sh", "-c", '"$0" -c "$1"; true', sys.executable, program]
    record.write_json(run.run, record.read_json(run.run) | {"command": wrapped})
    with supervised(run, grace=20.0) as pid:
        until(run, lambda _: run.attempt(1).log.exists() and b"ready" in run.attempt(1).log.read_bytes())
        os.kill(pid, signal.SIGTERM)
        found = until(run, in_state(*ENDED))
    assert found.state == "stopped"
    assert saved.exists()


def test_a_failed_program_is_explained_by_its_last_line(tmp_path: Path) -> None:
    run = make(tmp_path, task="command", command={"argv": ["x"]})
    script = "import sys; print('loading'); sys.exit('no such dataset')"
    record.write_json(run.run, record.read_json(run.run) | {"command": [sys.executable, "-c", script]})
    with supervised(run):
        found = until(run, in_state(*ENDED))
    assert (found.state, found.reason) == ("failed", "exit 1: no such dataset")


@pytest.mark.parametrize(
    ("program", "cwd", "why"),
    [
        ("no-such-program", None, "no such program in the 2 folders of PATH; install it or name its path"),
        ("./train.sh", None, "there is no {project}/train.sh; correct command.argv or command.cwd"),
        ("true", "gone", "its folder {project}/gone does not exist; correct command.cwd"),
        ("./plain", None, "{project}/plain may not be executed; make it executable: chmod +x {project}/plain"),
        ("./empty", None, "{project}/empty is no program; begin it with a line like #!/bin/sh"),
    ],
)
def test_a_program_of_ones_own_that_cannot_be_started_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, cwd: str | None, why: str
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    (tmp_path / "plain").touch(0o644)
    (tmp_path / "empty").write_text("hello")
    (tmp_path / "empty").chmod(0o755)
    run = make(tmp_path, task="command", command={"argv": [program], "cwd": cwd})
    record.write_json(run.run, record.read_json(run.run) | {"command": [program]})
    with supervised(run):
        found = until(run, in_state(*ENDED))
    assert found.reason.startswith(f"cannot start '{program}': {why.format(project=tmp_path)}")


def test_an_earlier_attempt_without_a_record_gets_one_from_the_next(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 10_000)
    with supervised(run):
        until(run, in_state("running"))
        supervisor, _ = pids(run)
        os.kill(supervisor, signal.SIGKILL)
        until(run, lambda found: found.state == "failed" and not found.leftover)
    write_start(run.attempt(2).path, from_step=0, checkpoint=None, code=None)
    with supervised(run, attempt=2):
        until(run, in_state("running"))
        first = record.read_json(run.attempt(1).exit)
    assert first["state"] == "failed"
    assert "supervisor lost" in first["reason"]
    assert first["seconds"] < 30


@pytest.mark.parametrize("moment", ["yesterday", 1e300, 10**400, None])
def test_an_attempt_whose_events_have_no_possible_time_is_closed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: object
) -> None:
    monkeypatch.setattr(evidence, "life", lambda identity: evidence.Life.DEAD)
    run = make(tmp_path)
    record.append_line(run.events, {"time": moment, "event": "attempt_started", "attempt": 1})
    assert supervise.close(run, 1) == 0
    ended = record.read_json(run.attempt(1).exit)
    assert ended["state"] == "failed"
    assert 0 <= ended["seconds"] < 30
    assert abs(ended["ended"] - time.time()) < 30


def test_the_supervisor_needs_neither_pydantic_nor_rich_nor_torch() -> None:
    code = "import sys, runctl.supervisor.supervise; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", f"import json; {code}"], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert not loaded & {"pydantic", "yaml", "rich", "typer", "torch", "numpy", "wandb", "modal", "lark"}


@pytest.mark.parametrize(
    ("outcome", "code", "stop", "state"),
    [
        ("succeeded", 0, None, "succeeded"),
        ("succeeded", -9, None, "succeeded"),  # killed in its teardown, after its result
        ("succeeded", 0, "asked", "succeeded"),  # it finished while it was asked to stop
        ("stopped", 0, "asked", "stopped"),
        ("stopped", 0, "timeout", "failed"),
        ("stopped", 0, None, "stopped"),
        ("failed", 1, "asked", "failed"),  # it could not save
        (None, -15, "asked", "stopped"),
        (None, -9, None, "failed"),
        (None, 0, None, "failed"),
        (None, 3, None, "failed"),
    ],
)
def test_the_result_is_judged_first_and_the_exit_code_second(
    outcome: str | None, code: int, stop: str | None, state: str
) -> None:
    result = None if outcome is None else {"outcome": outcome, "error": None}
    asked = None if stop is None else Stop(stop, "why")  # type: ignore[arg-type]
    assert judge(result, code, command=False, stop=asked).state == state


def test_a_crash_while_stopping_is_not_called_stopped() -> None:
    found = judge(None, -signal.SIGSEGV, command=False, stop=Stop("asked", "stopped on request"))
    assert found.state == "failed"
    assert "while it was stopping" in found.reason


def test_a_lost_supervisor_means_failed_unless_a_result_says_otherwise() -> None:
    lost = {"outcome": "failed", "error": {"type": "", "message": "supervisor lost"}}
    assert judge_lost(None, stop=None, rebooted=False).reason == "supervisor lost"
    assert judge_lost(lost, stop=None, rebooted=False).reason == "supervisor lost"
    assert "restarted" in judge_lost(None, stop=Stop("asked", "asked"), rebooted=True).reason
    assert judge_lost({"outcome": "succeeded"}, stop=None, rebooted=True).state == "succeeded"
    for kind, state in (("asked", "stopped"), ("preempted", "stopped"), ("guard", "killed"), ("timeout", "failed")):
        done = judge_lost({"outcome": "stopped"}, stop=Stop(kind, "why"), rebooted=False)
        assert (done.state, done.reason) == (state, "why, then its supervisor was lost")
    assert judge_lost({"outcome": "stopped"}, stop=None, rebooted=False).state == "failed"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    room = tmp_path / "small"
    room.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", room]).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    yield room
    subprocess.run(["umount", "--lazy", room], check=True)  # a closer may still write its log


FILL = "file = open('runs/run/fill', 'wb', buffering=0)\nwhile True: file.write(bytes(4096))"


def test_a_full_disk_is_the_reason_that_a_run_failed(small_disk: Path) -> None:
    """The reserve gives its room back: the end is on record although nothing else could be written."""
    run = make(small_disk, task="command", command={"argv": ["x"]})
    record.write_json(run.run, record.read_json(run.run) | {"command": [sys.executable, "-c", FILL]})
    with supervised(run):
        found = until(run, in_state(*ENDED))
        until(run, lambda _: run.summary.exists())
    assert (found.state, found.reason) == ("failed", f"no space left on {run.path} (exit 1)")
    assert record.read_json(run.attempt(1).exit)["exit_code"] == 1
    assert record.read_json(run.summary)["reason"] == found.reason


def test_a_disk_that_is_full_before_the_supervisor_runs_is_named(small_disk: Path) -> None:
    run = make(small_disk, "--steps", 5)
    subprocess.run([sys.executable, "-c", FILL], cwd=small_disk, capture_output=True)
    with supervised(run):
        found = until(run, in_state(*ENDED))
    assert (found.state, found.reason) == ("failed", f"no space left on {run.path}")
    assert not run.attempt(1).log.exists()  # nothing was started that could not be recorded


def test_a_full_disk_is_named_even_where_no_end_could_be_written(small_disk: Path) -> None:
    run = make(small_disk, "--steps", 10_000)
    with supervised(run):
        until(run, in_state("running"))
        subprocess.run([sys.executable, "-c", FILL], cwd=small_disk, capture_output=True)
        for pid in pids(run):
            os.kill(pid, signal.SIGKILL)
        found = until(run, in_state("failed"))
    assert found.reason.endswith(f"no space left on {run.path}")


def test_the_helpers_leave_nothing_running(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 10_000)
    with supervised(run):
        until(run, in_state("running"))
        both = pids(run)
    assert not any(alive(pid) for pid in both)
    assert fake_runs.supervisor_log(run) == ""
