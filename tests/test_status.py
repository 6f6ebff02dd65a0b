"""The state of a run under kill -9, reboot, other machines and damaged files: always one state, and a true one."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_runs import alive, in_state, make, pids, supervised, until
from hypothesis import given, settings
from hypothesis import strategies as st

from runctl import evidence, record, status, stop
from runctl.evidence import Life
from runctl.status import Evidence, Records, fold

NOW = 1_000_000.0
EVENTS = ("attempt_started", "trainer_started", "first_step", "checkpoint", "stop_requested", "signal", "attempt_ended")


def records(**changes: Any) -> Records:
    """A run in mid-training, as its files say it."""
    rows = [{"event": name, "time": NOW - 100, "step": 1} for name in EVENTS[:3]]
    beat = {
        "time": NOW - 1,
        "step": 50,
        "total_steps": 100,
        "phase": "training",
        "checkpoint": {"step": 40, "time": NOW - 20},
    }
    start = {"time": NOW - 101, "from_step": 0}
    found = Records({"name": "r", "created": NOW - 101}, 1, start, tuple(rows), beat)
    return replace(found, **changes)


ALIVE = Evidence(Life.DEAD, Life.ALIVE, Life.ALIVE)
BEGUN = ({"event": "attempt_started", "time": NOW},)
GONE = Evidence(Life.DEAD, Life.DEAD, Life.DEAD)


def test_a_living_run_says_where_it_is_and_when_it_ends() -> None:
    found = fold(records(), ALIVE, NOW)
    assert (found.state, found.step, found.total_steps, found.progress) == ("running", 50, 100, 0.5)
    assert (found.checkpoint_age_seconds, found.heartbeat_age_seconds) == (20, 1)
    assert found.eta_seconds == pytest.approx(50 / (49 / 99))


def test_what_stalls_or_stops_has_no_eta() -> None:
    asked = [*records().events, {"event": "stop_requested", "time": NOW}]
    for change in ({"events": asked}, {"heartbeat": {**records().heartbeat, "time": NOW - 61}}):
        found = fold(records(**change), ALIVE, NOW)
        assert (found.state in ("stalled", "stopping"), found.eta_seconds) == (True, None)


def test_the_eta_of_a_resumed_run_counts_this_attempt_alone() -> None:
    rows = [{"event": "attempt_started", "time": NOW - 20}, {"event": "first_step", "time": NOW - 11, "step": 41}]
    found = fold(records(attempt=2, events=rows), ALIVE, NOW)
    assert found.steps_per_second == pytest.approx(9 / 10)


def test_a_program_of_ones_own_runs_by_its_heartbeat_where_all_events_were_lost() -> None:
    own = {"run": {"name": "run", "config": {"task": "command"}}, "resumed": {"step": 100}}
    assert fold(records(events=(), **own), ALIVE, NOW).state == "running"
    assert fold(records(events=BEGUN, **own), ALIVE, NOW).state == "starting"


def test_where_a_program_of_ones_own_stands_is_its_own_word_and_no_earlier_checkpoint() -> None:
    saved = {"step": 100, "time": NOW - 50, "attempt": 1}
    own = {"run": {"name": "run", "config": {"task": "command"}}, "checkpoint": saved}
    assert fold(records(attempt=2, **own), ALIVE, NOW).step == 50
    assert fold(records(attempt=1, **own), ALIVE, NOW).step == 100


@pytest.mark.parametrize(
    ("change", "seen", "state"),
    [
        ({"events": (), "heartbeat": None}, Evidence(Life.ALIVE), "queued"),
        ({"events": (), "heartbeat": None}, Evidence(Life.DEAD), "failed"),
        ({"events": (), "start": {"time": NOW - 2}, "heartbeat": None}, Evidence(Life.DEAD), "queued"),
        ({"events": (), "start": {"time": NOW - 2}, "heartbeat": None}, Evidence(Life.REBOOTED), "failed"),
        ({"events": (), "heartbeat": None}, Evidence(Life.ELSEWHERE), "lost"),
        ({"events": BEGUN, "heartbeat": None}, ALIVE, "starting"),
        ({"events": BEGUN, "heartbeat": None, "attempt": 2}, ALIVE, "restarting"),
        ({"events": BEGUN}, ALIVE, "running"),  # the event of its first step was lost, its heartbeat is there
        ({}, ALIVE, "running"),
        ({}, replace(ALIVE, trainer=Life.DEAD), "stopping"),
        ({"heartbeat": {"time": NOW - 61, "step": 3}}, ALIVE, "stalled"),
        ({"heartbeat": {"time": NOW - 170, "step": 3, "expect_next_seconds": 90}}, ALIVE, "running"),
        ({"heartbeat": {"time": NOW - 190, "step": 3, "expect_next_seconds": 90}}, ALIVE, "stalled"),
        ({}, replace(ALIVE, supervisor=Life.DEAD), "failed"),
        ({}, GONE, "failed"),
        ({}, Evidence(Life.REBOOTED, Life.REBOOTED, Life.REBOOTED), "failed"),
        ({}, Evidence(Life.ELSEWHERE, Life.ELSEWHERE, Life.ELSEWHERE), "running"),
        ({"heartbeat": {"time": NOW - 90}}, Evidence(Life.ELSEWHERE, Life.ELSEWHERE, Life.ELSEWHERE), "lost"),
        ({"result": {"outcome": "succeeded"}}, GONE, "succeeded"),
        ({"exit": {"state": "killed", "reason": "guard: nan"}}, GONE, "killed"),
        ({"exit": {"state": "succeeded"}}, GONE, "failed"),
        ({"exit": {"state": "succeeded"}, "result": {"outcome": "succeeded"}}, GONE, "succeeded"),
    ],
)
def test_records_and_evidence_give_the_state(change: dict[str, Any], seen: Evidence, state: str) -> None:
    assert fold(records(**change), seen, NOW).state == state


def test_a_failed_run_says_since_when_and_why() -> None:
    found = fold(records(), GONE, NOW)
    assert (found.reason, found.ended) == ("supervisor lost", NOW - 1)
    rebooted = fold(records(), Evidence(Life.REBOOTED, Life.REBOOTED, Life.REBOOTED), NOW)
    assert rebooted.reason == "supervisor lost: the machine restarted"


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
word = st.sampled_from(["succeeded", "failed", "stopped", "killed", "running", ""])
moment = st.floats(0, 2 * NOW) | junk
row = st.fixed_dictionaries(
    {"event": st.sampled_from(EVENTS)},
    optional={
        "time": moment,
        "step": st.integers(0, 200) | junk,
        "state": word | junk,
        "exit_code": st.integers(0, 2) | junk,
    },
)
beat = (
    st.none()
    | junk
    | st.fixed_dictionaries(
        {}, optional={"time": moment, "step": junk, "total_steps": junk, "phase": junk, "checkpoint": junk}
    )
)
end = (
    st.none()
    | junk
    | st.fixed_dictionaries({}, optional={"state": word, "exit_code": junk, "time": moment, "ended": moment})
)
result = st.none() | junk | st.fixed_dictionaries({}, optional={"outcome": word, "error": junk, "step": junk})
lives = st.sampled_from(list(Life))


@settings(max_examples=300, deadline=None)
@given(
    task=st.sampled_from(["worldmodel", "command"]),
    attempt=st.integers(0, 3),
    start=beat,
    rows=st.lists(row, max_size=8),
    beat=beat,
    result=result,
    end=end,
    seen=st.builds(Evidence, lives, lives, lives),
)
def test_anything_gives_exactly_one_state_and_no_success_without_a_result(
    task: str, attempt: int, start: Any, rows: list[Any], beat: Any, result: Any, end: Any, seen: Evidence
) -> None:
    data = {"name": "r", "config": {"task": task}}
    found = fold(Records(data, attempt, start, rows, beat, result, end), seen, NOW)
    assert found.state in status.STATES
    assert found.active != found.over
    json.dumps(found.to_json(), allow_nan=False)
    if found.state == "succeeded":
        shown = isinstance(result, dict) and result.get("outcome") == "succeeded"
        ended = [entry for entry in (end, *rows) if isinstance(entry, dict) and entry.get("state") == "succeeded"]
        assert shown or (task == "command" and any(entry.get("exit_code") == 0 for entry in ended))


def test_a_torn_last_line_and_damaged_files_are_tolerated(tmp_path: Path) -> None:
    run = make(tmp_path)
    own = evidence.identify()
    assert own is not None
    record.append_line(
        run.events, {"event": "attempt_started", "attempt": 1, "time": time.time(), "supervisor": own.to_json()}
    )
    with run.events.open("a") as file:
        file.write('{"event":"attempt_ended","attempt":1,"state":"succ')
    run.attempt(1).heartbeat.write_text('{"step": 1')
    run.attempt(1).exit.write_text("")
    assert status.read(run).state == "starting"


def test_kill_9_of_the_supervisor_is_seen_and_ends_the_trainer(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 100_000)
    with supervised(run):
        until(run, in_state("running"))
        supervisor, trainer = pids(run)
        os.kill(supervisor, signal.SIGKILL)
        begun = time.monotonic()
        found = until(run, lambda found: found.state == "failed" and not found.leftover)
        assert time.monotonic() - begun < 5
        assert not alive(trainer)
    assert "supervisor lost" in found.reason
    assert found.checkpoint_step == found.step


def test_what_a_lost_supervisor_left_is_ended_by_status(tmp_path: Path) -> None:
    """A deaf trainer survives its supervisor's death; status kills its whole group and writes the record."""
    run = make(tmp_path, "--steps", 100_000, "--deaf", "--child")
    with supervised(run):
        until(run, in_state("running"))
        supervisor, trainer = pids(run)
        child = int((run.path / "child-0.pid").read_text())
        os.kill(supervisor, signal.SIGKILL)
        while not (found := status.read(run)).leftover:
            assert found.state == "running"
        assert (found.state, found.reason) == ("failed", "supervisor lost; what it left is being ended")
        until(run, lambda _: run.summary.exists())
        assert not alive(trainer)
        assert not alive(child)
    assert record.read_json(run.summary)["reason"] == "supervisor lost"
    assert record.read_json(run.attempt(1).exit)["state"] == "failed"


def test_kill_9_of_both_is_failed(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 100_000)
    with supervised(run):
        until(run, in_state("running"))
        supervisor, trainer = pids(run)
        os.kill(supervisor, signal.SIGSTOP)  # so that it cannot record what happens next
        os.kill(trainer, signal.SIGKILL)
        os.kill(supervisor, signal.SIGKILL)
        found = until(run, lambda found: found.over and not found.leftover)
    assert (found.state, found.reason) == ("failed", "supervisor lost")


def test_a_restart_of_the_machine_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path, "--steps", 100_000)
    with supervised(run):
        until(run, in_state("running"))
        monkeypatch.setenv("RUNCTL_TEST_BOOT_ID", "another boot")
        found = status.read(run)
        monkeypatch.delenv("RUNCTL_TEST_BOOT_ID")
    assert (found.state, found.reason) == ("failed", "supervisor lost: the machine restarted")


def test_a_run_of_another_machine_is_believed_while_its_heartbeat_is_fresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(tmp_path, "--steps", 100_000)
    with supervised(run):
        until(run, in_state("running"))
        monkeypatch.setenv("RUNCTL_TEST_BOOT_ID", "its boot")
        monkeypatch.setenv("RUNCTL_TEST_MACHINE_ID", "its machine")
        assert status.read(run).state == "running"
        later = status.read(run, now=time.time() + 300)
        monkeypatch.undo()
    assert later.state == "lost"
    assert "no sign of life from" in later.reason


def test_a_pid_that_was_used_again_does_not_pass_for_the_supervisor(tmp_path: Path) -> None:
    run = make(tmp_path)
    own = evidence.identify()
    assert own is not None
    reused = replace(own, start=str(int(own.start) - 1)).to_json()
    record.append_line(
        run.events, {"event": "attempt_started", "attempt": 1, "time": time.time(), "supervisor": reused}
    )
    assert status.read(run).state == "failed"
    assert not evidence.send(replace(own, start="0"), signal.SIGTERM)


def test_a_zombie_is_dead() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    deadline = time.monotonic() + 10
    while alive(pid):
        assert time.monotonic() < deadline
    os.waitpid(pid, 0)


def test_a_stopped_process_lets_its_run_stall(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 100_000)
    with supervised(run):
        until(run, in_state("running"))
        os.kill(pids(run)[1], signal.SIGSTOP)
        found = status.read(run, now=time.time() + 65)
    assert found.state == "stalled"
    assert found.reason.startswith("no heartbeat for 1m")


def test_a_trainer_with_slow_steps_stalls_when_twice_what_it_announced_is_over(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 100_000, "--expect-next", 120)
    with supervised(run):
        until(run, in_state("running"))
        os.kill(pids(run)[1], signal.SIGSTOP)
        states = [status.read(run, now=time.time() + seconds).state for seconds in (65, 230, 245)]
    assert states == ["running", "running", "stalled"]


def test_a_launch_that_died_before_its_supervisor_never_started(tmp_path: Path) -> None:
    run = make(tmp_path)
    assert status.read(run).state == "queued"
    start = record.read_json(run.attempt(1).start)
    dead = start["launcher"] | {"start": "1"}
    record.write_json(run.attempt(1).start, start | {"launcher": dead})
    later = status.read(run, now=time.time() + 11)
    assert (later.state, later.reason[:13]) == ("failed", "never started")


def test_the_supervisor_names_itself_in_the_lock_and_is_stopped_by_it_once_its_events_are_gone(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 100_000)
    with supervised(run):
        until(run, in_state("running"))
        supervisor, _ = pids(run)
        run.events.unlink()
        assert record.read_object(run.lock)["pid"] == supervisor
        assert status.read(run).state == "running"
        assert stop.stop(run, 20).state == "stopped"
