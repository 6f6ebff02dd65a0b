"""The short torture: eight faults over real small runs. The long one is `python tests/torture.py --faults 200`."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torture
from fake_runs import alive, events, in_state, make, pids, supervised, until
from tortured import check
from tortured.faults import KINDS
from tortured.scene import Scene

from runctl import config as configs
from runctl import record, resume, status
from runctl.backends import local
from runctl.light import replace
from runctl.starting import write_start
from runctl.status import reading
from runctl.supervisor import ending


def test_eight_faults_leave_true_statuses_and_the_losses_of_an_unbroken_run(tmp_path: Path) -> None:
    argv = [
        sys.executable,
        torture.__file__,
        "--short",
        "--seed",
        "14",
        "--jobs",
        "4",
        "--folder",
        str(tmp_path / "runs"),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 faults" in done.stdout
    assert "0 did not hold" in done.stdout
    assert not (tmp_path / "runs").exists()  # only what did not hold is kept


def test_every_share_adds_up_to_the_faults_that_are_promised() -> None:
    names = torture.cases(200, 1, None)
    assert len(names) == 200
    assert {kind.name for kind in KINDS.values()} == set(names)
    assert set(torture.SHORT) <= set(KINDS)
    assert torture.cases(200, 1, None) == names
    assert set(torture.cases(20, 1, "disk")) == {"full disk", "read-only disk"}


def test_a_status_that_lies_is_complained_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(tmp_path, "stand-in", random.Random(0))
    run = make(tmp_path, "--steps", 3, name=scene.run.name)
    with supervised(run):
        until(run, in_state("succeeded"))
    honest = status.observe
    monkeypatch.setattr(status, "observe", lambda run: replace(honest(run), state="running"))
    monkeypatch.setattr(check, "PATIENCE_SECONDS", 0.0)
    check.settle(scene, limit=0.5)
    assert any("status says running" in text for text in scene.complaints)


def test_what_outlives_a_run_is_complained_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "LEFT_SECONDS", 0.2)
    scene = Scene(tmp_path, "stand-in", random.Random(0))
    run = make(tmp_path, "--steps", 3, name=scene.run.name)
    with supervised(run):
        until(run, in_state("succeeded"))
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", str(run.path)])
    try:
        check.settle(scene, limit=5)
    finally:
        left.send_signal(signal.SIGKILL)
        left.wait()
    assert any(f"orphans: other {left.pid}" in text for text in scene.complaints)


def test_losses_that_differ_or_lack_are_complained_of(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "stand-in", random.Random(0))
    whole = {"3 train/loss": 0.5, "60 train/loss": 0.25}
    check.complete(scene, whole, dict(whole))
    assert not scene.complaints
    check.complete(scene, whole, {"3 train/loss": 0.5000000001, "60 train/loss": 0.25})
    check.complete(scene, whole, {"3 train/loss": 0.5})
    assert "1 differ, 0 are missing" in scene.complaints[0]
    assert "the last row is of step 3 of 60" in scene.complaints[1]


# What the long torture has found, each as small as it can be.


def supervisor(run: record.RunDir, attempt: int = 1) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "runctl.supervisor", str(run.path), "--attempt", str(attempt)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


def test_an_attempt_that_has_ended_is_not_begun_again(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 3)
    with supervised(run):
        until(run, in_state("succeeded"))
    before = run.events.read_bytes()
    done = supervisor(run)
    assert done.returncode == 1
    assert "attempt 1 of run has ended already" in done.stderr
    assert run.events.read_bytes() == before


def test_a_deleted_lock_lets_no_second_supervisor_in(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 1000)
    with supervised(run) as pid:
        until(run, in_state("running"))
        run.lock.unlink()
        done = supervisor(run)
        assert done.returncode == 1
        assert f"has another supervisor (process {pid})" in done.stderr
        assert events(run).count("trainer_started") == 1


def test_a_stopped_trainer_without_its_supervisor_is_woken_to_end(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 1000)
    with supervised(run) as pid:
        until(run, in_state("running"))
        trainer = pids(run)[1]
        os.kill(trainer, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        began = time.monotonic()
        while alive(trainer):
            status.observe(run)
            assert time.monotonic() - began < 20, "it was given its whole grace period of a minute"
            time.sleep(0.05)
        assert status.observe(run).state == "failed"


def test_a_lost_attempt_that_is_closed_by_the_next_is_not_taken_for_its_end(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 1000)
    with supervised(run) as pid:
        until(run, in_state("running"))
        os.kill(pids(run)[1], signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    write_start(run.attempt(2).path, from_step=0, checkpoint=None, code=None)
    assert ending.close(run, 1, 1.0)
    assert (status.read(run).attempt, status.read(run).state) == (2, "queued")
    assert not run.summary.exists()


def test_a_supervisor_that_dies_before_its_first_event_is_told_at_once(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 3)
    dead = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    local._name(run.attempt(1), dead.pid)
    assert status.read(run).state == "queued"
    dead.communicate(b"\n")
    found = status.read(run)
    assert (found.state, found.reason) == ("failed", "never started: its supervisor ended before it began")


def test_an_end_that_is_written_between_two_looks_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path, "--steps", 1000)
    with supervised(run) as pid:
        until(run, in_state("running"))
        weigh = reading.weigh

        def late(run: record.RunDir, records: Any) -> Any:
            if not run.attempt(1).exit.exists():
                os.kill(pid, signal.SIGTERM)
                os.waitpid(pid, 0)
            return weigh(run, records)

        monkeypatch.setattr(reading, "weigh", late)
        assert status.read(run).state == "stopped"


def test_two_resumes_at_once_claim_one_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path, "--steps", 3)
    observe = status.observe

    def slow(run: record.RunDir) -> status.RunStatus:
        found = observe(run)
        write_start(run.attempt(2).path, from_step=0, checkpoint=None, code=None)  # the other one was faster
        return found

    with supervised(run):
        until(run, in_state("succeeded"))
    run.attempt(1).result.unlink()
    damaged = record.read_object(run.attempt(1).exit) | {"state": "failed"}
    record.write_json(run.attempt(1).exit, damaged)
    monkeypatch.setattr(status, "observe", slow)
    effective = configs.to_effective(configs.RunConfig(name="run"))
    record.write_json(run.run, record.read_object(run.run) | {"config": effective})
    assert resume.plan(run).attempt == 2


def test_a_flipped_bit_in_the_events_makes_no_other_machine_of_this_one(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 1000)
    with supervised(run) as pid:
        local._name(run.attempt(1), pid)
        until(run, in_state("running"))
        os.kill(pids(run)[1], signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        run.lock.unlink()
        rows = list(record.read_lines(run.events))
        rows[0]["supervisor"]["boot"] = "another"
        run.events.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert status.read(run).state == "failed"
