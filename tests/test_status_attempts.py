"""A run that was started several times, on its page: each attempt with its own rate, what came from outside apart."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from fake_runs import events, in_state, make, pids, supervised, until
from test_launch import runctl

from runctl import page, record
from runctl.starting import write_start
from runctl.status import fold, load
from runctl.status.reading import weigh


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "runctl.yaml").write_text("{}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path


def test_a_run_of_three_attempts_counts_interruptions_apart_from_failures(project: Path) -> None:
    run = make(project, "--steps", 100_000)
    ends = (("preemption", "stopped", 400, 50.0), ("out_of_memory", "failed", 600, 25.0))
    for number, (kind, state, step, seconds) in enumerate(ends, start=1):
        write_start(run.attempt(number).path, from_step=400 * (number - 1), checkpoint=None, code=None)
        end = {"state": state, "reason": "it was so", "step": step, "seconds": seconds, "failure": {"kind": kind}}
        record.write_json(run.attempt(number).exit, end | {"ended": time.time()})
    write_start(run.attempt(3).path, from_step=600, checkpoint=None, code=None)
    record.write_json(run.checkpoint(600) / "manifest.json", {"step": 600, "created": 1.0, "files": {}})
    with supervised(run, attempt=3):
        until(run, lambda found: found.state == "running" and found.steps_per_second is not None)
        found = page.read(run)
        text = runctl("status", "run").stdout
        listed = runctl("status").stdout
    assert "3 attempts: 1 interrupted (preemption), 1 failed (out of memory), 1 running; 1m" in text
    assert "1  stopped    steps 0 to 400, 50s, 8 steps/s" in text
    assert "2  failed     steps 400 to 600, 25s, 8 steps/s" in text
    third = next(line for line in text.splitlines() if line.startswith("  3  running    steps 600 to "))
    assert "steps/s" in third
    assert " in all 3, cost " in text
    assert "3: 1 failure, 1 interruption" in listed
    newest = found.attempts[2]
    assert (newest["state"], newest["from_step"]) == ("running", 600)
    assert newest["steps_per_second"] == found.status.steps_per_second
    assert found.status.total_seconds == pytest.approx(75.0 + (found.status.seconds or 0))


def test_rate_and_eta_of_an_attempt_count_from_its_own_first_step(project: Path) -> None:
    """All steps ÷ the time since the restart would say ten times as fast."""
    run = make(project, "--steps", 5000)
    record.write_json(run.checkpoint(4000) / "manifest.json", {"step": 4000, "created": 1.0, "files": {}})
    write_start(run.attempt(1).path, from_step=4000, checkpoint={"step": 4000, "time": 1.0}, code=None)
    with supervised(run):
        until(run, lambda _: "first_step" in events(run))
        os.kill(pids(run)[1], signal.SIGSTOP)
        records = load(run)
        first = next(row for row in records.events if row["event"] == "first_step")
        later = {**records.heartbeat, "time": first["heartbeat_time"] + 10, "step": first["step"] + 50}
        record.write_json(run.attempt(1).heartbeat, later)
        records = load(run)
        found = fold(records, weigh(run, records), later["time"])
    assert found.steps_per_second == pytest.approx(5.0)
    assert found.eta_seconds == pytest.approx((5000 - later["step"]) / 5.0)


def test_the_summary_of_a_restarted_run_tells_the_same_totals(project: Path) -> None:
    run = make(project, "--steps", 300, compute={"retries": 1})
    with supervised(run, backoff=0.1):
        until(run, in_state("running"))
        os.kill(pids(run)[1], signal.SIGKILL)
        until(run, lambda found: found.attempt == 2 and found.state == "succeeded")
        until(run, lambda _: run.summary.exists())
    entry = json.loads(runctl("status", "--json").stdout)["runs"][0]
    assert (entry["attempt"], entry["interruptions"], entry["failures"]) == (2, 1, 0)
    assert entry["total_seconds"] == pytest.approx(record.read_object(run.summary)["seconds"])
    assert "2 attempts: 1 interrupted (infrastructure), 1 succeeded" in runctl("status", "run").stdout
