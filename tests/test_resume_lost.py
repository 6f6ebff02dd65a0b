"""`runctl resume --lost`: every run that went away with its machine or its supervisor, and no other."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_runs import alive, clean, in_state, make, pids, supervised, until
from test_launch import runctl

from runctl import config as configs
from runctl import lost, record, status, stop


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "runctl.yaml").write_text("policy: {}\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for run in record.list_runs(tmp_path):
        clean(run)


def prepared(project: Path, name: str, *options: object) -> record.RunDir:
    """A run whose config can be read again, not started."""
    effective = configs.to_effective(configs.RunConfig(name=name))
    run = make(project, *options, name=name)
    record.write_json(run.run, record.read_object(run.run) | {"config": effective, "code": {}})
    return run


def ended(project: Path, name: str, *options: object, kill: str = "") -> record.RunDir:
    """A run that has ended by itself, or as `kill` says: `power` takes supervisor and trainer between two checkpoints,
    `supervisor`, `SIGTERM` and `SIGINT` are sent to the supervisor alone."""
    slow = ("--steps", 10_000, "--step-seconds", 0.05) if kill else ()
    run = prepared(project, name, *slow, *options)
    with supervised(run):
        if kill:
            until(run, lambda found: (found.step or 0) > 5 and (found.step or 0) % 5 in (2, 3))
            supervisor, trainer = pids(run)
            os.kill(supervisor, signal.SIGKILL if kill in ("power", "supervisor") else signal.Signals[kill])
            if kill == "power":
                os.kill(trainer, signal.SIGKILL)
                while alive(supervisor) or alive(trainer):  # nobody looks in between, and ends what is left
                    time.sleep(0.01)
        until(run, lambda found: found.over and not found.leftover)
    return run


def resumed(*words: str) -> tuple[int, dict[str, dict[str, Any]]]:
    done = runctl("resume", "--lost", "--json", *words)
    return done.returncode, {row["run"]: row for row in json.loads(done.stdout)["runs"]}


def attempts(project: Path) -> dict[str, int]:
    return {run.name: len(run.attempts()) for run in record.list_runs(project)}


def test_after_a_reboot_all_that_was_lost_goes_on_and_nothing_else(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(project, "big", kill="power")
    ended(project, "done", "--steps", 3)
    ended(project, "own-fault", "--fail-at", 2)
    prepared(project, "waiting", "--steps", 10_000, "--step-seconds", 0.05)  # its launch was cut off
    monkeypatch.setenv("RUNCTL_TEST_BOOT_ID", "the next one")
    shown = runctl("resume", "--lost")
    assert (shown.returncode, shown.stdout) == (1, ""), shown.stderr
    assert "big failed " in shown.stderr
    assert "ago: supervisor lost: the machine restarted" in shown.stderr
    assert "resuming big as attempt 2 from checkpoints/step-00000" in shown.stderr
    assert " of work" in shown.stderr
    assert "waiting failed " in shown.stderr
    assert "nothing was started: add --yes to resume these 2" in shown.stderr
    assert set(attempts(project).values()) == {1}
    code, rows = resumed("--yes")
    assert (code, list(rows)) == (0, ["big", "waiting"])
    big = rows["big"]
    assert 1 <= big["steps_lost"] <= 4
    assert big["seconds_lost"] > 0
    assert big["from_step"] == big["step"] - big["steps_lost"] >= 5
    assert (big["likely_usd"], big["resumed"], big["error"]) == (0.0, True, None)
    assert (big["status"]["state"], big["status"]["attempt"]) == ("running", 2)
    assert attempts(project) == {"big": 2, "done": 1, "own-fault": 1, "waiting": 2}
    assert resumed("--yes") == (0, {})


def test_what_a_resume_refuses_is_refused_one_by_one_and_the_rest_goes_on(project: Path) -> None:
    ended(project, "good", kill="supervisor")
    late = ended(project, "no-time", kill="power")
    content = record.read_object(late.run)
    content["config"]["budget"]["max_hours"] = 1e-6
    record.write_json(late.run, content)
    far = prepared(project, "far")
    there = {"boot": "b", "machine": "m", "host": "far", "namespace": "n", "pid": 1, "start": "1"}
    begun = {"event": "attempt_started", "attempt": 1, "time": 1.0, "supervisor": there, "host": "far"}
    record.append_line(far.events, begun)
    code, rows = resumed("--yes", "--no-wait")
    assert (code, sorted(rows)) == (4, ["far", "good", "no-time"])
    assert (rows["good"]["resumed"], rows["good"]["steps_lost"]) == (True, 0)  # its trainer has saved
    assert "of its budget.max_hours" in rows["no-time"]["error"]["message"]
    assert "far is lost: no sign of life from far" in rows["far"]["error"]["message"]
    assert attempts(project) == {"far": 1, "good": 2, "no-time": 1}
    (forced,) = (one for one in lost.find(project, force=True) if one.run.name == "far")
    assert forced.plan is not None
    told = runctl("resume", "--lost", "--yes")
    assert told.returncode == 4
    assert "hint: end it there first, or if that machine is gone: runctl resume far --force" in told.stderr


def test_lost_is_what_nobody_has_asked_to_end(project: Path) -> None:
    ended(project, "going-down", kill="SIGTERM")
    ended(project, "by-hand", kill="SIGINT")
    asked = prepared(project, "asked", "--steps", 10_000)
    with supervised(asked):
        until(asked, in_state("running"))
        assert stop.stop(asked).state == "stopped"
    cut = prepared(project, "asked-too", "--steps", 10_000)
    with supervised(cut):
        until(cut, in_state("running"))
        record.write_json(cut.attempt(1).asked, {"time": 1.0})  # and all went away before it could be done
        for pid in pids(cut):
            os.kill(pid, signal.SIGKILL)
        assert until(cut, lambda found: found.over and not found.leftover).state == "failed"
    guarded = ended(project, "guarded", kill="power")
    stopping = {"event": "stop_requested", "attempt": 1, "kind": "guard", "reason": "guard nan"}
    record.append_line(guarded.events, stopping)
    assert [one.run.name for one in lost.find(project)] == ["going-down"]
    assert lost.find(project, since=status.read(guarded).ended or 0.0) == []


@pytest.mark.parametrize(("answer", "number"), [("n", 1), ("y", 2)])
def test_a_terminal_is_asked(project: Path, answer: str, number: int) -> None:
    ended(project, "big", kill="power")
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "runctl", "resume", "--lost", "--no-wait"]
    asking = subprocess.Popen(argv, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE)
    os.close(theirs)
    said = b""
    while b"resume it? [y/N]" not in said:
        said += os.read(ours, 1000)
    os.write(ours, f"{answer}\n".encode())
    stdout = asking.communicate(timeout=30)[0]
    os.close(ours)
    assert (asking.returncode, stdout.strip()) == ((0, b"big") if number == 2 else (1, b""))
    assert attempts(project) == {"big": number}


@pytest.mark.parametrize(
    "words", [[], ["big", "--lost"], ["--lost", "--set", "training.lr=1"], ["big", "--since", "1h"]]
)
def test_lost_runs_are_resumed_as_they_were_and_one_run_by_its_name(project: Path, words: list[str]) -> None:
    assert runctl("resume", *words).returncode == 2
