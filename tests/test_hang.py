"""Trainers that hang, for real: seen from outside, asked where they stand, and ended with all that they started."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from fake_runs import alive, events, in_state, make, pids, supervised, until

from runctl import evidence, record, status
from runctl.supervisor import hang

ENDED = ("succeeded", "failed", "stopped")
SOON = {"hang_after": 1.0, "start_within": 1.0}


@pytest.mark.parametrize(("how", "place"), [("loop", "in hang_in_python"), ("gil", "in hang_in_c")])
def test_a_trainer_that_hangs_tells_where_it_stood_and_is_ended_with_its_group(
    tmp_path: Path, how: str, place: str
) -> None:
    """Neither can act on SIGTERM: one runs no other Python, the other never gives up the GIL."""
    run = make(tmp_path, "--steps", 10_000, "--hang-at", 7, "--hang", how, "--child", "--daemon", compute=SOON)
    with supervised(run, grace=0.3):
        until(run, in_state("running"))
        _, trainer = pids(run)
        found = until(run, in_state(*ENDED))
        until(run, lambda _: run.summary.exists())
        assert not alive(trainer)
        assert evidence.members(trainer) == []
        for kind in (0, 1):
            assert not alive(int((run.path / f"child-{kind}.pid").read_text()))
    assert (found.state, found.failure, found.step) == ("failed", "hang", 7)
    assert found.reason.startswith("hung: no heartbeat for ")
    assert "while training at step" in found.reason
    assert "its stacks are in hang.txt; it did not end in time and was killed" in found.reason
    written = run.attempt(1).hang.read_text()
    assert place in written
    assert "in train" in written  # who called it
    assert record.read_json(run.summary)["failure"]["kind"] == "hang"


def test_a_stopped_trainer_is_called_stopped_and_saves_when_it_is_woken_to_end(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 10_000, "--checkpoint-every", 1_000_000, compute=SOON)
    with supervised(run, grace=10):
        until(run, in_state("running"))
        _, trainer = pids(run)
        os.kill(trainer, signal.SIGSTOP)
        found = until(run, in_state(*ENDED))
        assert not alive(trainer)
    assert (found.state, found.failure) == ("failed", "hang")
    assert found.reason.endswith(f"process {trainer} is stopped (SIGSTOP)")
    assert "was killed" not in found.reason
    assert found.checkpoint_step == found.step  # awake again, it took the SIGTERM that waited for it
    assert f"stopped by a signal (SIGSTOP) or a debugger: {trainer}" in run.attempt(1).hang.read_text()
    assert "in train" in run.attempt(1).stacks.read_text()


def test_a_trainer_without_a_first_heartbeat_is_hung_after_the_deadline_for_its_start(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 10_000, "--silent-at", 0, compute={"start_within": 0.6})
    with supervised(run):
        found = until(run, in_state(*ENDED))
    assert (found.state, found.failure) == ("failed", "hang")
    assert found.reason.startswith("hung: no heartbeat within ")


def command(project: Path, program: str, **compute: float) -> record.RunDir:
    run = make(project, task="command", command={"argv": ["x"]}, compute=compute)
    record.write_json(run.run, record.read_json(run.run) | {"command": [sys.executable, "-c", program]})
    return run


def test_a_program_that_never_reports_is_never_hung(tmp_path: Path) -> None:
    run = command(tmp_path, "import time; time.sleep(2)", hang_after=0.2, start_within=0.2)
    with supervised(run):
        assert until(run, in_state(*ENDED)).state == "succeeded"


def test_a_program_that_has_reported_is_watched_and_shows_its_stacks(tmp_path: Path) -> None:
    program = (
        "import time\nfrom runctl.report import report\n"
        "def stuck():\n    time.sleep(60)\n"
        "report(step=1)\ntime.sleep(0.4)\nreport(step=2)\nstuck()"
    )
    run = command(tmp_path, program, hang_after=1.0, start_within=1.0)
    with supervised(run):
        found = until(run, in_state(*ENDED))
    assert (found.state, found.failure) == ("failed", "hang")
    assert "in stuck" in run.attempt(1).hang.read_text()


def test_a_program_that_announced_a_long_step_is_left_alone(tmp_path: Path) -> None:
    program = "import time\nfrom runctl.report import report\nreport(step=1, expect_next_seconds=20)\ntime.sleep(2.5)\n"
    run = command(tmp_path, program, hang_after=0.2, start_within=0.2)
    with supervised(run):
        assert until(run, in_state(*ENDED)).state == "succeeded"


def test_only_silence_that_the_supervisor_lived_through_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a suspend, or a frozen container, the trainer gets its whole time again."""
    now = [0.0]
    monkeypatch.setattr(hang.time, "monotonic", lambda: now[0])
    silence = hang.Silence(hang.Limits(100.0, 50.0), command=False)
    for _ in range(30):
        now[0] += 1.0
        silence.look(new=True, stepped=True)
    now[0] += 100_000.0
    silence.look(new=False, stepped=True)
    assert silence.hung({}, stepped=True) == ""
    for _ in range(50):
        now[0] += 1.0
        silence.look(new=False, stepped=True)
    assert silence.hung({}, stepped=True) != ""
    assert silence.hung({}, stepped=False) == ""  # before its first step it has longer
    assert silence.hung({"expect_next_seconds": 40.0}, stepped=True) == ""
    assert silence.limit({"expect_next_seconds": 40.0}, stepped=True) == 80.0


def test_a_usual_silence_of_minutes_is_none_but_that_of_the_start_is_not_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(hang.time, "monotonic", lambda: now[0])
    silence = hang.Silence(hang.Limits(100.0, 50.0), command=True)
    assert silence.limit({}, stepped=True) is None
    silence.look(new=True, stepped=False)
    for seconds, stepped, limit in ((90, True, 50.0), (60, True, 300.0), (5, True, 300.0)):
        for _ in range(seconds):
            now[0] += 1.0
            silence.look(new=False, stepped=stepped)
        silence.look(new=True, stepped=stepped)
        assert silence.limit({}, stepped=True) == pytest.approx(limit)  # five times 60 s


def test_a_stop_reaches_a_trainer_that_is_stopped(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 10_000)
    with supervised(run, grace=20) as supervisor:
        until(run, in_state("running"))
        os.kill(pids(run)[1], signal.SIGSTOP)
        os.kill(supervisor, signal.SIGTERM)
        found = until(run, in_state(*ENDED))
    assert (found.state, found.failure) == ("stopped", "preemption")
    assert "was killed" not in found.reason


def test_an_attempt_that_did_not_hang_leaves_no_empty_files(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 3)
    with supervised(run):
        until(run, in_state("succeeded"))
    assert not run.attempt(1).stacks.exists()
    assert not run.attempt(1).hang.exists()
    assert status.read(run).failure is None
    assert "restart" not in events(run)
