"""The state of a run whose files were cut, flipped, lost, doubled and shuffled: always defined, never a kind lie."""

from __future__ import annotations

import json
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runctl import evidence, record, status
from runctl.evidence import Life
from runctl.status import STATES, Evidence, Records, fold

NOW = 1_700_012_345.5
THEN = 1_700_000_000.0  # when everything was written, unless a heartbeat is to be fresh
FILES = ("events.jsonl", "run.json", "summary.json", "supervisor.lock", "attempts/1/start.json")
FILES = (*FILES, "attempts/1/heartbeat.json", "attempts/1/result.json", "attempts/1/exit.json")


def identity(alive: bool) -> dict[str, Any]:
    """This very process, or one that had its pid before."""
    own = evidence.identify()
    assert own is not None
    return own.to_json() if alive else {**own.to_json(), "start": "1"}


def write(folder: Path, *, alive: bool, at: float, ended: str = "", attempt: int = 1) -> record.RunDir:
    """A run in mid-training, or ended, as all its files say it."""
    run, who = record.RunDir(folder / "runs" / "job"), identity(alive)
    shutil.rmtree(run.path, ignore_errors=True)
    config = {"task": "worldmodel", "training": {"batch_size": 8}}
    write_json(run.run, {"name": "job", "created": at - 300, "backend": "local", "config": config})
    run.lock.write_text(json.dumps(who))
    rows: list[dict[str, Any]] = []
    for number in range(1, attempt + 1):
        files = run.attempt(number)
        rows += [
            {"time": at - 200, "event": "attempt_started", "attempt": number, "supervisor": who, "host": "here"},
            {"time": at - 199, "event": "trainer_started", "attempt": number, "trainer": who, "group": who["pid"]},
            {"time": at - 190, "event": "first_step", "attempt": number, "step": 1},
            {"time": at - 90, "event": "checkpoint", "attempt": number, "step": 40},
        ]
        write_json(files.start, {"time": at - 201, "launcher": identity(False), "from_step": 0})
        beat = {"time": at, "phase": "training", "step": 50, "total_steps": 100, "loss": 0.5, "expect_next_seconds": 2}
        write_json(files.heartbeat, beat)
        if number < attempt:
            write_json(files.exit, {"state": "failed", "reason": "signal 9", "step": 50, "seconds": 100.0, "ended": at})
    if ended:
        write_json(run.attempt(attempt).result, {"outcome": ended, "step": 100, "total_steps": 100, "error": None})
        end = {
            "state": ended,
            "reason": "",
            "result": ended,
            "step": 100,
            "seconds": 200.0,
            "ended": at,
            "exit_code": 0,
        }
        write_json(run.attempt(attempt).exit, end)
        rows.append({"time": at, "event": "attempt_ended", "attempt": attempt, "state": ended, "step": 100})
        write_json(run.summary, {"run": "job", "state": ended, "attempts": attempt, "steps": 100, "ended": at})
    run.events.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


def write_json(path: Path, data: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


def strike(run: record.RunDir, name: str, how: str, chance: random.Random) -> None:
    """Damage one file of a run."""
    path = run.path / name
    if not path.is_file():
        return
    data = bytearray(path.read_bytes())
    if how == "delete":
        path.unlink()
        return
    if how == "cut":
        data = data[: chance.randrange(len(data) + 1)]
    elif how == "flip" and data:
        for _ in range(chance.choice((1, 1, 3, 40))):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif how == "noise":
        data = bytearray(chance.randbytes(60))
    elif how == "other":
        data = bytearray(chance.choice((b"[]", b"null", b"1e999", b"{}", b'"' * 9, b"[" * 9000, b'{"state": 1}\n')))
    elif how == "double":
        data = data + data
    elif how == "shuffle":
        lines = bytes(data).splitlines(keepends=True)
        chance.shuffle(lines)
        data = bytearray(b"".join(lines))
    path.write_bytes(bytes(data))


HOW = ("delete", "cut", "flip", "noise", "other", "double", "shuffle")
faults = st.lists(st.tuples(st.sampled_from(FILES), st.sampled_from(HOW)), min_size=1, max_size=4)
relaxed = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def state_of(run: record.RunDir, now: float = NOW) -> status.RunStatus:
    """The status, without the search through all processes for what a lost trainer left."""
    records = status.load(run)
    found = fold(records, status.weigh(run, records), now)
    assert found.state in STATES
    assert (found.ended is None) == found.active
    json.dumps(found.to_json(), allow_nan=False)
    return found


@relaxed
@given(faults=faults, seed=st.integers(0, 2**32), attempt=st.integers(1, 2))
def test_over_a_corpse_nothing_is_ever_active_nor_succeeded(
    tmp_path: Path, faults: list[tuple[str, str]], seed: int, attempt: int
) -> None:
    run = write(tmp_path, alive=False, at=THEN, attempt=attempt)
    for name, how in faults:
        strike(run, name.replace("attempts/1", f"attempts/{attempt}"), how, random.Random(seed))
    found = state_of(run)
    assert found.over, found
    assert found.state != "succeeded"
    assert found.reason


@relaxed
@given(faults=faults, seed=st.integers(0, 2**32), ahead=st.sampled_from([0.0, 1e4, 1e9, -1e9]))
def test_what_lives_is_never_said_to_have_ended_while_either_its_lock_or_its_events_name_it(
    tmp_path: Path, faults: list[tuple[str, str]], seed: int, ahead: float
) -> None:
    """Whatever happens to its other files, and to the clock."""
    run = write(tmp_path, alive=True, at=NOW - 1 + ahead)
    for name, how in faults:
        if name not in ("supervisor.lock", "run.json"):
            strike(run, name, how, random.Random(seed))
    assert state_of(run).active
    run = write(tmp_path, alive=True, at=NOW - 1 + ahead)
    strike(run, "supervisor.lock", faults[0][1], random.Random(seed))
    assert state_of(run).active


@settings(relaxed, max_examples=25)  # each of them looks at a dozen runs
@given(faults=faults, seed=st.integers(0, 2**32))
def test_an_end_on_record_is_told_as_it_was_or_not_at_all(
    tmp_path: Path, faults: list[tuple[str, str]], seed: int
) -> None:
    for ended in ("succeeded", "stopped"):
        run = write(tmp_path, alive=False, at=THEN, ended=ended)
        for name, how in faults:
            strike(run, name, how, random.Random(seed))
        found = state_of(run)
        assert found.state in (ended, "failed", "lost")
        if found.state == "succeeded":
            texts = [
                path.read_text(errors="replace")
                for path in (run.attempt(1).exit, run.attempt(1).result, run.summary)
                if path.exists()
            ]
            assert any('"succeeded"' in text for text in texts)
    for number, name in enumerate(FILES):  # no one file alone turns a success into something else
        run = write(tmp_path, alive=False, at=THEN, ended="succeeded")
        strike(run, name, HOW[(seed + number) % 4], random.Random(seed))
        assert state_of(run).state == "succeeded", name


lives = st.sampled_from(list(Life))
moments = st.floats(0, 2 * NOW) | st.sampled_from([NOW, NOW - 30, NOW - 61, NOW + 59, NOW + 61, -1.0, 1e300, 10**400])


@settings(max_examples=400, deadline=None)
@given(
    events=st.lists(
        st.tuples(st.sampled_from(["attempt_started", "trainer_started", "first_step", "stop_requested"]), moments),
        max_size=5,
    ),
    beat=st.none() | st.tuples(moments, st.integers(0, 10**400) | st.none(), st.sampled_from(["loading", "training"])),
    asked=moments,
    seen=st.builds(Evidence, lives, lives, lives, st.just(""), st.none() | st.floats(0, 2 * NOW)),
    task=st.sampled_from(["worldmodel", "command"]),
)
def test_running_needs_a_supervisor_that_lives_or_a_fresh_sign_from_elsewhere(
    events: list[tuple[str, float]], beat: Any, asked: float, seen: Evidence, task: str
) -> None:
    rows = [{"event": name, "time": at, "step": 1} for name, at in events]
    heartbeat = beat and {"time": beat[0], "step": beat[1], "total_steps": 7, "phase": beat[2]}
    data = {"name": "r", "config": {"task": task}}
    found = fold(Records(data, 1, {"time": asked}, rows, heartbeat), seen, NOW)
    json.dumps(found.to_json(), allow_nan=False)
    if found.state in ("running", "starting", "restarting", "stalled", "stopping"):
        if seen.supervisor is Life.ELSEWHERE:
            signs = [*(at for _, at in events), *([beat[0], seen.written] if beat else [])]
            assert any(sign is not None and NOW - 60 <= sign <= NOW + 60 for sign in signs)
        else:
            assert seen.supervisor is Life.ALIVE or (seen.supervisor is Life.UNKNOWN and seen.trainer is Life.ALIVE)
        if found.state == "running":
            assert seen.trainer not in (Life.DEAD, Life.REBOOTED)
    if found.state == "queued":
        young = NOW - 60 <= asked <= NOW + 60
        assert Life.ALIVE in (seen.launcher, seen.supervisor) or young


@pytest.mark.parametrize(
    ("result", "beat", "state"),
    [
        ({"outcome": "succeeded", "step": 0}, {"time": THEN, "step": 0}, "failed"),
        ({"outcome": "succeeded"}, {}, "failed"),
        ({"outcome": "succeeded", "step": 3}, {}, "succeeded"),
    ],
)
def test_a_run_that_took_no_step_has_failed_whatever_it_says(result: Any, beat: Any, state: str) -> None:
    rows = [{"event": "attempt_started", "time": THEN}]
    gone = Evidence(Life.DEAD, Life.DEAD, Life.DEAD)
    data = {"name": "r", "config": {"task": "worldmodel"}}
    found = fold(Records(data, 1, {}, rows, beat, result), gone, NOW)
    assert (found.state, "took no step" in found.reason) == (state, state == "failed")
    ended = fold(Records(data, 1, {}, rows, beat, result, {"state": "succeeded", "result": "succeeded"}), gone, NOW)
    assert ended.state == state


def test_a_supervisor_whose_events_were_lost_is_known_by_its_lock(tmp_path: Path) -> None:
    run = write(tmp_path, alive=True, at=time.time() - 1)
    run.events.unlink()
    assert (status.read(run).state, status.read(run).step) == ("running", 50)
    run.lock.unlink()
    found = status.read(run)
    assert found.state == "lost"
    assert found.reason.startswith("its records do not say which process watches it; last sign of life")


def test_a_heartbeat_of_the_future_keeps_no_corpse_alive(tmp_path: Path) -> None:
    run = write(tmp_path, alive=True, at=NOW)
    elsewhere = Evidence(Life.ELSEWHERE, Life.ELSEWHERE, Life.ELSEWHERE)
    ahead = fold(status.load(run), elsewhere, NOW - 3600)
    assert (ahead.state, ahead.reason) == ("lost", "no sign of life from here that can be dated")
    assert ahead.ended == NOW - 3600
    written = Evidence(Life.ELSEWHERE, Life.ELSEWHERE, Life.ELSEWHERE, written=NOW - 3605)
    assert fold(status.load(run), written, NOW - 3600).state == "running"  # its clock is ahead, its file is new
    assert fold(status.load(run), written, NOW - 3500).state == "lost"


def test_an_empty_folder_of_an_attempt_counts_for_none(tmp_path: Path) -> None:
    run = write(tmp_path, alive=True, at=time.time() - 1)
    run.attempt(2).path.mkdir()
    (run.path / "attempts" / "²").mkdir()
    assert (status.read(run).state, status.read(run).attempt) == ("running", 1)


def test_the_totals_of_all_attempts_stand_beside_those_of_the_newest(tmp_path: Path) -> None:
    run = write(tmp_path, alive=True, at=NOW - 1, attempt=3)
    write_json(run.attempt(2).exit, {"state": "failed", "seconds": 50.0, "failure": {"kind": "preemption"}})
    found = state_of(run)
    assert (found.seconds, found.total_seconds) == (201.0, 351.0)
    assert (found.failures, found.interruptions) == (1, 1)
    assert found.steps_per_second == pytest.approx(49 / 190)  # since its own first step
