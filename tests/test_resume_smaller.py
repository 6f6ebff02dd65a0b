"""After out of memory: half the batch, twice the accumulation, the same windows in every step; only where asked for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_job
from fake_runs import in_state, make, supervised, until

from runctl import config as configs
from runctl import page, record
from runctl.supervisor import changing, failures
from runctl.train import schedule

TINY = str(Path(__file__).parent / "tiny_job.py")
ENDED = ("succeeded", "failed", "stopped", "killed")
FULL = failures.classify("failed", returncode=1, error={"type": "MemoryError", "message": "MemoryError"})


def made(folder: Path, **sections: Any) -> record.RunDir:
    run = make(folder)
    config = tiny_job.config(**sections)
    entry = {"command": [sys.executable, TINY], "config": configs.to_effective(config), "digest": "launched"}
    record.write_json(run.run, record.read_json(run.run) | entry)
    return run


def read(path: Path) -> list[int]:
    """The windows that were trained on, in the order of the parts in which they were read."""
    return [int(number) for number in path.read_text().split()]


def test_a_run_out_of_memory_goes_on_with_half_the_batch_and_the_same_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 12th batch and all after it fit only with 16 windows: twice halved, at first within the run."""
    sections: dict[str, Any] = {"training": {"steps": 14, "batch_size": 64}, "checkpoint": {"every": "4 steps"}}
    compute = {"after_out_of_memory": "halve_batch"}
    monkeypatch.setenv("READ", str(tmp_path / "whole.txt"))
    whole = made(tmp_path / "whole", **sections)
    with supervised(whole):
        until(whole, in_state(*ENDED), 90)
    monkeypatch.setenv("READ", str(tmp_path / "broken.txt"))
    monkeypatch.setenv("ROOM", "16")
    monkeypatch.setenv("ROOM_FROM", "12")  # the first batches of an attempt are those of its rehearsal
    run = made(tmp_path / "broken", **sections, compute=compute)
    with supervised(run, backoff=60):
        found = until(run, lambda found: found.over and run.summary.exists(), 90)
    assert (found.state, found.step, found.attempt) == ("succeeded", 14, 3)
    sizes = [record.content(run, number)["config"]["training"] for number in (1, 2, 3)]
    assert [(one["batch_size"], one["accumulation"]) for one in sizes] == [(64, 1), (32, 2), (16, 4)]
    went_on = [record.read_json(run.attempt(number).resumed)["step"] for number in (2, 3)]
    assert went_on[0] > 0
    epoch, offset = schedule.plan(tiny_job.config(**sections).training, 492).position(went_on[1])
    order, tried = read(tmp_path / "whole.txt"), read(tmp_path / "broken.txt")
    rest = order[492 * epoch + offset :]
    assert len(rest) >= 64
    assert tried[-len(rest) :] == rest
    told = [row for row in record.read_lines(run.events) if row["event"] == "changed"]
    assert [row["by"] for row in told] == ["out of memory", "out of memory"]
    assert told[0]["reason"] == "training.batch_size 64 → 32; training.accumulation 1 → 2"
    assert (told[0]["digest_before"], told[0]["digest_after"]) == ("launched", told[1]["digest_before"])
    assert found.changed == "training.batch_size 64 → 16; training.accumulation 1 → 4"
    attempts = page.read(run).attempts
    assert [one["failure"] for one in attempts] == ["out_of_memory", "out_of_memory", None]
    assert "again with a smaller batch: training.batch_size 64 → 32" in attempts[1]["restart"]


def test_it_is_not_done_unasked_nor_for_another_failure_nor_below_one_window() -> None:
    config = configs.to_effective(tiny_job.config())
    asked = configs.to_effective(tiny_job.config(compute={"after_out_of_memory": "halve_batch"}))
    nan = failures.classify("failed", returncode=1, error={"type": "NonFinite", "message": "non-finite loss"})
    assert FULL is not None
    assert changing.smaller(FULL, config, 1) is None
    assert changing.smaller(nan, asked, 1) is None
    assert changing.smaller(None, asked, 1) is None
    assert changing.smaller(FULL, asked, 1) is not None
    assert changing.smaller(FULL, asked | {"task": "command"}, 1) is None
    one = asked | {"training": asked["training"] | {"batch_size": 1}}
    assert changing.smaller(FULL, one, 1) is None
