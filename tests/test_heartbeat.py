from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from runctl import record
from runctl.train.beside import beside
from runctl.train.control import Control, Stopped
from runctl.train.heartbeat import Heartbeat


@pytest.fixture
def attempt(tmp_path: Path) -> record.Attempt:
    files = record.RunDir(tmp_path / "run").attempt(1)
    files.path.mkdir(parents=True)
    return files


def test_it_beats_once_a_second_and_a_phase_at_once(attempt: record.Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    heartbeat = Heartbeat(attempt)
    seen = []
    for now in (100.0, 100.5, 101.0, 101.9, 102.5):
        clock[0] = now
        heartbeat.update(step=int(now * 10))
        heartbeat.beat()
        seen.append(record.read_json(attempt.heartbeat)["step"])
    assert seen == [1000, 1000, 1010, 1010, 1025]
    heartbeat.phase("validating", "on 7 windows")
    told = record.read_json(attempt.heartbeat)
    assert (told["phase"], told["message"], told["pid"]) == ("validating", "on 7 windows", os.getpid())
    assert told["memory_bytes"] > 1 << 20


def test_it_announces_the_slowest_recent_step_of_its_phase_and_forgets_a_hiccup(
    attempt: record.Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    heartbeat = Heartbeat(attempt)

    def announced(seconds: float, beats: int = 1) -> float:
        for _ in range(beats):
            clock[0] += seconds
            heartbeat.beat()
        return float(record.read_json(attempt.heartbeat)["expect_next_seconds"])

    announced(9.0)
    heartbeat.phase("training")
    assert record.read_json(attempt.heartbeat)["expect_next_seconds"] > 8.9, "no step yet: as slow as the rehearsal"
    assert announced(70.0) == 70.0
    assert announced(2.0) == pytest.approx(69.3)
    assert announced(2.0, beats=500) == 2.0
    heartbeat.phase("validating")
    assert announced(5.0) == 5.0


def test_a_heartbeat_that_cannot_be_written_ends_nothing_and_leaves_no_half(
    attempt: record.Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    heartbeat = Heartbeat(attempt)
    heartbeat.now()
    whole = attempt.heartbeat.read_text()

    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    heartbeat.update(step=5)
    heartbeat.now()
    assert [path.name for path in attempt.path.iterdir()] == ["heartbeat.json"]
    assert attempt.heartbeat.read_text() == whole


def test_a_fact_that_a_heartbeat_does_not_have_is_a_mistake(attempt: record.Attempt) -> None:
    with pytest.raises(KeyError, match="stepp"):
        Heartbeat(attempt).update(stepp=5)


def test_work_beside_returns_and_raises_as_if_it_were_called() -> None:
    beaten = threading.Event()
    assert beside(lambda: beaten.wait(20) and 7, beaten.set) == 7

    def fail() -> None:
        raise ZeroDivisionError("in the work")

    with pytest.raises(ZeroDivisionError, match="in the work"):
        beside(fail, lambda: None)


def test_a_stop_does_not_wait_for_the_work_beside() -> None:
    def stop() -> None:
        raise Stopped("SIGTERM")

    began = time.monotonic()
    with pytest.raises(Stopped):
        beside(lambda: time.sleep(20), stop)
    assert time.monotonic() - began < 5


def test_control_tells_a_stop_from_a_lost_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    control = Control()
    control.check()
    control._on_stop(15, None)
    assert (control.stopping, control.parent_lost, control.reason) == (True, False, "SIGTERM")
    monkeypatch.setattr(os, "getppid", lambda: 1_000_000)
    assert (control.parent_lost, control.reason) == (True, "supervisor lost")
    with pytest.raises(Stopped, match="supervisor lost"):
        control.check()


def test_facts_of_the_loop_are_asked_for_when_they_are_written_and_not_at_every_beat(
    attempt: record.Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, asked = [50.0], []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    heartbeat = Heartbeat(attempt)
    heartbeat.look = lambda: asked.append(clock[0]) or {"step": len(asked)}
    for _ in range(100):
        heartbeat.beat()
        clock[0] += 0.03125
    assert asked == [50.0, 51.0, 52.0, 53.0]
    assert record.read_json(attempt.heartbeat)["step"] == 4
