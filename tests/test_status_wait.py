"""`runctl wait` for a step, a checkpoint or the end of several runs, and `runctl events`, as they are typed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from fake_runs import in_state, make, pids, supervised, until
from test_launch import runctl

from runctl import record


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "runctl.yaml").write_text("{}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_wait_returns_at_a_step_and_at_a_checkpoint_while_the_run_goes_on(project: Path) -> None:
    run = make(project, "--steps", 100_000)
    with supervised(run):
        done = runctl("wait", "run", "--until", "step:20", "--timeout", "20s")
        assert (done.returncode, done.stdout.split(",")[0]) == (0, "running")
        assert int(done.stdout.split()[-1]) >= 20
        done = runctl("wait", "run", "--until", "checkpoint", "--json")
        told = json.loads(done.stdout)
        assert (done.returncode, told["run"], told["reached"], told["exit_code"]) == (0, "run", True, 0)
        assert told["status"]["checkpoint_step"] >= 5
        late = runctl("wait", "run", "--until", "step:99999", "--timeout", "300ms")
        assert (late.returncode, "run is still running after 300ms" in late.stderr) == (8, True)


def test_a_run_that_ends_before_it_got_so_far_is_told_with_its_own_exit_code(project: Path) -> None:
    for name, options, state in (("good", ["--steps", 12], "succeeded"), ("bad", ["--fail-at", 8], "failed")):
        run = make(project, *options, name=name)
        with supervised(run):
            until(run, in_state(state))
    done = runctl("wait", "good", "--until", "step:500")
    assert (done.returncode, done.stdout, done.stderr) == (6, "succeeded\n", "it ended before step 500\n")
    assert runctl("wait", "good", "--until", "step:12").returncode == 0
    done = runctl("wait", "bad", "--until", "step:500")
    assert done.returncode == 6
    assert done.stderr.startswith("it ended before step 500: ")
    killed = record.read_object(record.find(project, "bad").attempt(1).exit) | {"state": "killed"}
    record.write_json(record.find(project, "bad").attempt(1).exit, killed)
    assert runctl("wait", "bad", "--until", "step:500").returncode == 7


def test_several_runs_are_waited_for_and_the_largest_exit_code_counts(project: Path) -> None:
    good, bad, long = (
        make(project, *options, name=name)
        for name, options in (("good", ["--steps", 12]), ("bad", ["--fail-at", 8]), ("long", ["--steps", 100_000]))
    )
    with supervised(good), supervised(bad), supervised(long):
        done = runctl("wait", "good", "bad", "good")
        assert done.returncode == 6
        assert sorted(done.stdout.splitlines()) == ["bad failed", "good succeeded"]
        assert "bad: " in done.stderr
        first = runctl("wait", "long", "good", "--any", "--json")
        assert (first.returncode, [one["run"] for one in json.loads(first.stdout)["runs"]]) == (0, ["good"])
        late = runctl("wait", "good", "long", "--timeout", "300ms")
        assert (late.returncode, late.stdout) == (8, "good succeeded\n")
        assert "long is still running" in late.stderr


@pytest.mark.parametrize("what", ["step:0", "step:x", "step", "checkpoint:3", "done", "step:²"])
def test_what_cannot_be_waited_for_is_refused(project: Path, what: str) -> None:
    make(project)
    wrong = runctl("wait", "run", "--until", what)
    assert wrong.returncode == 2
    assert "write finished, checkpoint, or step:500" in wrong.stderr


def test_events_tell_all_attempts_in_words_or_as_they_were_written(project: Path) -> None:
    run = make(project, "--steps", 12, compute={"retries": 1})
    with supervised(run, backoff=0.1):
        until(run, in_state("running"))
        os.kill(pids(run)[1], signal.SIGKILL)
        until(run, lambda found: found.attempt == 2 and found.over)
    lines = [line.split("  ", 1)[1] for line in runctl("events", "run").stdout.splitlines()]
    assert lines[0] == "attempt 1 started"
    assert "attempt 1  the trainer was started" in lines
    assert any(line.startswith("attempt 1  failed at step") for line in lines)
    assert "attempt 2 started" in lines
    assert lines[-1].startswith("attempt 2  succeeded at step 12")
    rows = [
        json.loads(line) for line in runctl("events", "run", "--json", "--event", "attempt_started").stdout.splitlines()
    ]
    assert [(row["schema_version"], row["event"], row["attempt"]) for row in rows] == [
        (1, "attempt_started", 1),
        (1, "attempt_started", 2),
    ]
    assert len(runctl("events", "run", "--attempt", "2").stdout.splitlines()) < len(lines)
    assert runctl("events", "run", "--since", "2020-01-01").stdout.count("\n") == len(lines)
    none = runctl("events", "run", "--event", "guard_triped")
    assert (none.stdout, "it has attempt_ended, attempt_started" in none.stderr) == ("", True)


def test_events_are_followed_to_the_end_and_damaged_lines_are_counted(project: Path) -> None:
    run = make(project, "--steps", 200)
    with supervised(run):
        until(run, in_state("running"))
        with run.events.open("a") as file:
            file.write('{"event": "\x00\n[1]\n')
        done = runctl("events", "run", "--follow", "--event", "checkpoint,attempt_ended")
    assert done.stdout.splitlines()[-1].endswith("attempt 1  succeeded at step 200")
    assert "checkpoint at step" in done.stdout
    assert "2 lines of" in done.stderr


def test_all_that_a_list_names_is_stopped_at_once(project: Path) -> None:
    one, two = make(project, "--steps", 100_000, name="big-1"), make(project, "--steps", 100_000, name="big-2")
    with supervised(one), supervised(two):
        until(one, in_state("running"))
        until(two, in_state("running"))
        names = runctl("ls", "-q", "--name", "big-*", "--state", "running").stdout.split()
        assert names == ["big-1", "big-2"]
        done = runctl("stop", *names, "--json")
        assert done.returncode == 0, done.stderr
        assert [(row["run"], row["status"]["state"]) for row in json.loads(done.stdout)["runs"]] == [
            ("big-1", "stopped"),
            ("big-2", "stopped"),
        ]
        assert done.stderr.count(" has stopped: checkpoint at step ") == 2
    assert "big-1 has ended already" in runctl("stop", "big-1", "big-2").stderr
