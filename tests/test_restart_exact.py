"""The real trainer, frozen in the middle: it is ended, started again by itself, and nothing of the result differs."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import tiny_job
from fake_runs import in_state, pids, supervised, until

from runctl import record
from runctl.starting import write_start


def trained(project: Path, *, freeze: bool) -> record.RunDir:
    """A run of the tiny job under the supervisor; `freeze`: stopped once it has trained some steps."""
    config = tiny_job.config(compute={"retries": 1, "hang_after": 1.5 if freeze else 60.0})
    run = tiny_job.make_run(project / "runs" / "tiny", config)
    record.write_json(run.run, record.read_json(run.run) | {"command": [sys.executable, tiny_job.__file__]})
    write_start(run.attempt(1).path, from_step=0, checkpoint=None, code=None)
    with supervised(run, grace=0.0 if freeze else 20.0, backoff=0.1):
        if freeze:
            until(run, lambda found: (found.checkpoint_step or 0) >= 8)
            os.kill(pids(run)[1], signal.SIGSTOP)
        until(run, in_state("succeeded", "failed", "stopped"))
        until(run, lambda _: run.summary.exists())
    return run


def losses(run: record.RunDir) -> dict[tuple[int, str], float]:
    rows = record.read_lines(run.metrics)  # of a step that was run again, the last attempt's row counts
    return {(row["step"], key): value for row in rows for key, value in row.items() if "loss" in key}


def test_a_run_that_was_frozen_ends_as_one_that_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unbroken = trained(tmp_path / "unbroken", freeze=False)
    monkeypatch.setenv("PACE", "0.05")
    frozen = trained(tmp_path / "frozen", freeze=True)
    summary = record.read_json(frozen.summary)
    assert (summary["state"], summary["attempts"], summary["failures"]) == ("succeeded", 2, 1)
    first = record.read_json(frozen.attempt(1).exit)
    assert first["failure"]["kind"] == "hang"
    assert record.read_json(frozen.attempt(2).resumed)["step"] >= 8
    assert losses(frozen) == losses(unbroken)
