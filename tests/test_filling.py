"""A disk that will be full: foreseen in time, told once, taken back, and silent where there is room."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_runs import in_state, make, supervised, until
from test_launch import runctl

from runctl import record
from runctl.supervisor import filling
from runctl.supervisor.events import Events
from runctl.supervisor.filling import Filling, Sample, Saves, full_in, pace
from runctl.supervisor.watchers import Scene

MIB, GIB = 1 << 20, 1 << 30


class Disk(Filling):
    """The watcher on a disk, a clock and a trainer that a test sets."""

    free, inodes, beat = 100 * GIB, 10**6, {"step": 0, "total_steps": 1000}

    def disk(self) -> tuple[int, int | None]:
        return self.free, self.inodes

    def heartbeat(self) -> dict[str, Any]:
        return self.beat


def watch(tmp_path: Path, **config: Any) -> Disk:
    run = make(tmp_path, **config)
    return Disk(Scene(run, 1, record.read_object(run.run), Events(run, 1)))


def told(disk: Disk) -> list[tuple[str, str]]:
    rows = record.read_lines(disk.scene.run.events)
    return [(row["event"], row["reason"]) for row in rows if row["event"].startswith("disk")]


def pass_time(disk: Disk, seconds: float, *, bytes_per_second: float, steps_per_second: float, start: float) -> float:
    """Let time pass, tick by tick."""
    at = start
    while at < start + seconds:
        at += filling.EVERY_SECONDS
        disk.free = int(disk.free - bytes_per_second * filling.EVERY_SECONDS)
        disk.beat = {**disk.beat, "step": int(disk.beat["step"] + steps_per_second * filling.EVERY_SECONDS)}
        disk.look(at)
    return at


def test_what_fills_before_the_end_is_told_once_and_what_fills_after_it_is_not(tmp_path: Path) -> None:
    disk = watch(tmp_path)
    disk.free, disk.beat = 10 * GIB, {"step": 0, "total_steps": 36_000}  # ten hours at one step a second
    pass_time(disk, 600, bytes_per_second=MIB, steps_per_second=1, start=0)  # full in under three hours
    ((event, words),) = told(disk)
    assert event == "disk_filling"
    assert "3.5 GiB an hour of other files" in words
    assert "full in about 2h" in words
    assert "the run ends in about 9h" in words
    (row,) = [row for row in record.read_lines(disk.scene.run.events) if row["event"] == "disk_filling"]
    assert 8_000 < row["full_in_seconds"] < 10_300
    other = watch(tmp_path / "b")
    other.free, other.beat = 10 * GIB, {"step": 0, "total_steps": 3_600}
    pass_time(other, 600, bytes_per_second=MIB, steps_per_second=1, start=0)
    assert told(other) == []


def test_it_is_told_again_when_it_comes_much_sooner_and_taken_back_when_there_is_room(tmp_path: Path) -> None:
    disk = watch(tmp_path)
    disk.free, disk.beat = 10 * GIB, {"step": 0, "total_steps": 36_000}
    at = pass_time(disk, 600, bytes_per_second=MIB, steps_per_second=1, start=0)
    at = pass_time(disk, 5400, bytes_per_second=MIB, steps_per_second=1, start=at)
    events = [event for event, _ in told(disk)]
    assert events == ["disk_filling", "disk_filling"]  # at 2h30m, and below half of that
    disk.free = 900 * GIB
    pass_time(disk, 60, bytes_per_second=0, steps_per_second=1, start=at)
    assert [event for event, _ in told(disk)] == [*events, "disk_eased"]


def test_something_large_that_is_written_once_is_no_pace() -> None:
    steady = [Sample(at * 15.0, 100 * GIB - at * 15 * MIB, 0, 0) for at in range(20)]
    assert pace(steady) == pytest.approx(MIB)
    once = [Sample(at * 15.0, (100 if at < 5 else 80) * GIB, 0, 0) for at in range(20)]
    assert pace(once) == 0.0
    saving = [Sample(at * 15.0, 100 * GIB - at * GIB, at * GIB, 0) for at in range(20)]
    assert pace(saving) == 0.0  # its own checkpoints are reckoned apart
    assert pace(steady[:3]) == 0.0  # too short a time to tell


def test_checkpoints_are_reckoned_up_to_those_that_are_kept() -> None:
    hourly = Saves(10 * GIB, missing=4, next_in=600.0, cadence=3600.0)
    assert full_in(50 * GIB, 0.0, hourly) is None
    assert full_in(25 * GIB, 0.0, hourly) == 600 + 2 * 3600
    assert full_in(5 * GIB, 0.0, hourly) == 0.0
    assert full_in(50 * GIB, MIB, hourly) == 600 + 3 * 3600
    assert full_in(12 * GIB, 100 * MIB, hourly) == pytest.approx(0.0, abs=300)
    assert full_in(GIB, MIB, None) == 1024.0
    assert full_in(GIB, 0.0, None) is None


def test_files_that_run_out_are_told_as_well(tmp_path: Path) -> None:
    disk = watch(tmp_path)
    disk.inodes = 7
    disk.look(1.0)
    assert told(disk)[0][1].startswith(f"the disk of {disk.scene.run.path}: only 7 inodes left")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MiB."""
    room = tmp_path / "small"
    room.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", room]).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    yield room
    subprocess.run(["umount", "--lazy", room], check=True)


SAVER = """
import os, pathlib, sys, time
from runctl import record
run = record.RunDir(pathlib.Path(sys.argv[1]))
beat = {"schema_version": 1, "pid": os.getpid(), "phase": "training", "total_steps": 1000, "checkpoint": None}
for step in range(1, 1000):
    time.sleep(0.05)
    now = time.time()
    if step == 3:
        folder = run.checkpoint(step)
        folder.mkdir(parents=True)
        (folder / "weights").write_bytes(bytes(1 << 20))
        manifest = {"kind": "checkpoint", "step": step, "created": now, "files": {"weights": {"bytes": 1 << 20}}}
        record.write_json(folder / "manifest.json", manifest)
        beat["checkpoint"] = {"step": step, "time": now}
    record.write_json(run.attempt(1).heartbeat, {**beat, "step": step, "time": now})
"""


def test_a_real_run_on_a_small_disk_says_so_in_its_status_before_it_fails(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3 MiB, checkpoints of 1 MiB, of which four are to be kept: seen after the first."""
    (small_disk / "runctl.yaml").write_text("{}\n")
    monkeypatch.chdir(small_disk)
    section = {"metric": "val/loss", "mode": "min", "keep_last": 4, "keep_best": 0, "every": "600s"}
    run = make(small_disk, checkpoint=section)
    record.write_json(run.run, record.read_json(run.run) | {"command": [sys.executable, "-c", SAVER]})
    with supervised(run):
        until(run, in_state("running"))
        found = until(run, lambda found: bool(found.disk))
        assert "left, full in about" in found.disk
        assert "4 checkpoints of 1.0 MiB to come" in found.disk
        page = runctl("status", "run")
        assert "make room: runctl prune" in " ".join(page.stdout.split())
        assert json.loads(runctl("status", "--json").stdout)["runs"][0]["disk"] == found.disk
