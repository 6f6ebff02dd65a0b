"""Guards on real small runs: every kind fires on one that is built to trip it, none on ten healthy ones, and what
counts over all attempts does so."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from fake_runs import in_state, make, pids, supervised, until
from guard_trials import TRIALS, every, guards_of, healthy, program, result, trip

from runctl import record
from runctl.guards import grammar, listing, watch
from runctl.guards.defaults import Known


@pytest.mark.parametrize("name", list(TRIALS))
def test_each_guard_fires_on_a_run_that_is_built_to_trip_it(name: str, tmp_path: Path) -> None:
    trial = TRIALS[name]
    found = trip(trial, tmp_path)
    own = [row for row in found.trips if row["guard"] == trial.guard]
    assert own, found
    assert found.state == trial.state, found.reason
    assert trial.says in own[-1 if trial.budget else 0]["reason"]
    assert own[-1]["do"] == trial.do
    assert found.faults == []
    if trial.state == "killed":
        assert found.reason.startswith(f"guard {trial.guard}: ")


@pytest.mark.parametrize("answer", ["checkpoint_asked", "checkpoint_refused"])
def test_a_guard_asks_a_program_for_a_checkpoint_as_a_person_does(answer: str, tmp_path: Path) -> None:
    """One that takes no such requests would be ended by the signal: it gets none, and that is on record."""
    trial = TRIALS["of its best"]
    deaf = "\nsignal.signal(signal.SIGUSR1, signal.SIG_DFL); handles = []" if answer == "checkpoint_refused" else ""
    run = program(tmp_path, guards_of(trial), change=trial.change + deaf)
    with supervised(run):
        found = result(run)
    (row,) = [row for row in record.read_lines(run.events) if row["event"].startswith("checkpoint_")]
    assert (row["event"], row["by"]) == (answer, f"guard {trial.guard}")
    assert found.state == "succeeded"


def test_no_guard_fires_on_ten_healthy_runs(tmp_path: Path) -> None:
    assert all(guard["on"] for guard in every() if guard["origin"] != "default")
    for found in healthy(tmp_path):
        assert (found.state, found.trips, found.faults) == ("succeeded", [], []), found.reason


def test_the_trials_hold_every_kind_of_guard_and_every_action() -> None:
    tried = [guard for trial in TRIALS.values() for guard in guards_of(trial) if guard["origin"] != "default"]
    kinds = {guard["test"]["kind"] for guard in tried}
    assert kinds == {*watch.KINDS}
    assert {guard["test"]["kind"] for guard in every()} == kinds
    assert {guard["do"] for guard in tried} == {"note", "notify", "checkpoint", "stop", "kill"}
    assert {grammar.condition(text)["test"]["kind"] for text in grammar.ACCEPTED} <= kinds


@pytest.mark.parametrize(
    ("name", "budget", "known"),
    [
        ("budget.max_hours", {"max_hours": 2.5 / 3600}, Known()),
        ("budget.max_cost_usd", {"max_cost_usd": 2.5}, Known(usd_per_hour=3600.0)),
    ],
)
def test_a_ceiling_over_restarted_attempts_stops_with_a_checkpoint_and_tells_each_mark_once(
    name: str, budget: dict[str, Any], known: Known, tmp_path: Path
) -> None:
    """The trainer is killed from outside in two attempts, each time before the next mark; the third reaches the end."""
    config = {"task": "worldmodel", "budget": budget, "compute": {"retries": 5}}
    run = make(tmp_path, "--steps", 10_000, "--checkpoint-every", 20, **config)
    record.write_json(run.run, record.read_json(run.run) | {"guards": listing.made(config, known)})
    with supervised(run, backoff=0.05):
        for attempt, mark in ((1, 0.5), (2, 0.8)):
            until(run, lambda found, mark=mark: mark in marks(run, name) and found.state == "running")
            assert until(run, in_state("running")).attempt == attempt
            os.kill(pids(run)[1], signal.SIGKILL)
            until(run, lambda found, attempt=attempt: found.attempt == attempt + 1)
        found = result(run)
    assert found.state == "killed"
    assert found.reason.startswith(f"guard {name}: 100% is used")
    assert marks(run, name) == [0.5, 0.8, 1.0]
    assert [row["attempt"] for row in found.trips if row["guard"] == name] == [1, 2, 3]
    summary = record.read_object(run.summary)
    assert summary["attempts"] == 3
    assert summary["checkpoints"][-1]["step"] == summary["steps"]  # saved when it was stopped
    assert 2.5 <= summary["seconds"] < 4.5


def marks(run: record.RunDir, guard: str) -> list[float]:
    rows = (row for row in record.read_lines(run.events) if row["event"] == "guard_tripped" and row["guard"] == guard)
    return [row["values"]["mark"] for row in rows]


def test_a_mark_that_a_lost_attempt_did_not_tell_is_told_by_the_next(tmp_path: Path) -> None:
    run = record.RunDir(tmp_path)
    guards = listing.made({"task": "worldmodel", "budget": {"max_hours": 1.0}})
    record.append_line(run.events, row(1, 0.5))
    watching = watch.Watch(run, 2, {"guards": guards}, 0.9 * 3600)
    assert [trip.values["mark"] for trip in watching.look({}, 0.0, True)] == [0.8]
    record.append_line(run.events, row(2, 0.8))
    assert watch.Watch(run, 3, {"guards": guards}, 0.9 * 3600).look({}, 1.0, True) == []
    raised = listing.made({"task": "worldmodel", "budget": {"max_hours": 1.5}})  # by a resume
    assert [trip.values["mark"] for trip in watch.Watch(run, 3, {"guards": raised}, 3600.0).look({}, 1.0, True)] == [
        0.5
    ]


def row(attempt: int, mark: float) -> dict[str, Any]:
    facts = {"event": "guard_tripped", "attempt": attempt, "guard": "budget.max_hours", "do": "notify"}
    return {**facts, "values": {"mark": mark, "of": 1.0}}
