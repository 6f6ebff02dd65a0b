"""Many runs: which are shown, in which order and columns, what of them is read, and names for a shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fake_runs import in_state, make, supervised, until
from test_launch import runctl

from runctl import record, status
from runctl.status import listing
from runctl.status.finished import finished

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
import list_runs  # noqa: E402


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "runctl.yaml").write_text("policy: {}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    return tmp_path


def ended(project: Path, name: str, state: str = "succeeded", *, ago: float = 100.0, **facts: Any) -> record.RunDir:
    """A run that ended so many seconds ago, with its summary alone beside run.json."""
    now = time.time()
    config = {"task": "worldmodel", "training": {"lr": facts.pop("lr", 1e-4)}}
    run = make(project, name=name, **config)
    entry = {
        "state": state,
        "reason": "",
        "attempts": 1,
        "steps": 9,
        "total_steps": 9,
        "seconds": 60.0,
        "cost_usd": 0.0,
    }
    entry |= {"created": now - ago - 60, "started": now - ago - 60, "ended": now - ago, "checkpoints": [], **facts}
    record.write_json(run.summary, entry)
    return run


def names(*words: str) -> list[str]:
    done = runctl("ls", "-q", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_run_that_has_ended_reads_the_same_from_its_summary_alone(project: Path) -> None:
    for number, options in enumerate((["--steps", 12], ["--steps", 60, "--fail-at", 30])):
        run = make(project, *options, name=f"run-{number}")
        with supervised(run):
            until(run, in_state("succeeded", "failed"))
            until(run, lambda _, run=run: run.summary.exists())
        now = time.time()
        brief, whole = finished(run, now), status.read(run, now)
        assert brief is not None
        only_while_it_runs = {"phase", "message", "heartbeat_age_seconds", "data_source", "tracking", "host"}
        for key, value in whole.to_json().items():
            if key not in only_while_it_runs:
                told = getattr(brief, key)
                assert told == (pytest.approx(value, abs=0.1) if isinstance(value, float) else value), key


def test_of_a_summary_only_the_beginning_is_looked_at_and_a_torn_one_is_not_believed(project: Path) -> None:
    run = make(project, "--steps", 12)
    with supervised(run):
        until(run, lambda _: run.summary.exists())
    now, data = time.time(), run.summary.read_bytes()
    found = finished(run, now)
    assert found is not None
    assert (found.checkpoint_step, found.loss) == (10, pytest.approx(1 / 13))
    rest = data.index(b'"metrics"') + 20
    run.summary.write_bytes(data[:rest] + b"\xff" * 50 + data[rest + 50 :])
    assert finished(run, now) == found
    run.summary.write_bytes(data[:-20])
    assert finished(run, now) is None
    assert status.observe(run).state == "succeeded"


def test_a_pipe_in_the_place_of_a_config_holds_no_list_up(project: Path) -> None:
    ended(project, "good")
    os.mkfifo(project / "pipe")
    hostile = ended(project, "hostile")
    (project / "pipe").rename(hostile.run)
    assert names("--where", "task=worldmodel") == ["good"]


def test_what_ended_last_is_shown_and_the_rest_is_counted_unread(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        ended(project, f"old-{number:02}", ago=1000 - number)
        moment = time.time() - 1000 + number
        os.utime(project / "runs" / f"old-{number:02}" / "summary.json", (moment, moment))
        os.utime(project / "runs" / f"old-{number:02}" / "attempts", (moment - 60, moment - 60))
    read: list[str] = []
    look = listing.look
    monkeypatch.setattr(listing, "look", lambda entry, now: read.append(entry.run.name) or look(entry, now))
    found = listing.select(project, status.Query(limit=3))
    assert [entry.run for entry in found.shown] == ["old-27", "old-28", "old-29"]
    assert (found.hidden, sorted(read)) == (27, ["old-27", "old-28", "old-29"])


def test_a_summary_is_not_believed_once_another_attempt_was_claimed(project: Path) -> None:
    run = ended(project, "again", "failed")
    assert names("--state", "failed") == ["again"]
    again = run.attempt(2)
    record.write_json(again.start, record.read_object(run.attempt(1).start) | {"time": time.time()})
    assert names("--state", "failed") == []
    assert names("--state", "queued") == ["again"]
    os.utime(run.path / "attempts", (1.0, 1.0))  # a copy of the tree, or a clock that jumped
    os.utime(run.summary, (2.0, 2.0))
    again.start.unlink()
    again.path.rmdir()
    assert names("--state", "failed") == ["again"]


def test_runs_are_found_by_state_name_age_and_setting(project: Path) -> None:
    ended(project, "big-1", "failed", ago=10, lr=3e-4)
    ended(project, "big-2", ago=5000, lr=0.0003)
    ended(project, "small-1", ago=90_000)
    make(project, name="big-3")
    assert names("--state", "failed,queued") == ["big-1", "big-3"]
    assert names("--name", "big-*", "--name", "nothing") == ["big-2", "big-1", "big-3"]
    assert names("--since", "2h") == ["big-2", "big-1", "big-3"]
    assert names("--where", "training.lr=3e-4") == names("--where", "training.lr=0.0003") == ["big-2", "big-1"]
    assert names("--where", "training.lr=1e-4", "--where", "task=worldmodel") == ["small-1"]
    assert names("--where", "training.nothing=1") == []
    assert "no run is as asked for" in runctl("status", "--where", "training.nothing=1").stderr
    assert runctl("status", "--where", "training.lr").returncode == 2


def test_runs_are_sorted_by_a_key_and_what_lacks_it_comes_last(project: Path) -> None:
    ended(project, "a", cost_usd=3.0, loss=0.5)
    ended(project, "b", cost_usd=None, loss=None)
    ended(project, "c", cost_usd=7.5, loss=0.25)
    assert names("--sort", "-cost") == ["c", "a", "b"]
    assert names("--sort", "loss", "--limit", "2") == ["c", "a"]
    assert "1 more: give a larger --limit" in runctl("ls", "--sort", "loss", "-n", "2").stderr
    wrong = runctl("ls", "--sort", "costs")
    assert (wrong.returncode, "did you mean 'cost'?" in wrong.stderr) == (2, True)


def test_columns_are_shown_as_they_are_asked_for_settings_among_them(project: Path) -> None:
    ended(project, "a", cost_usd=3.0, lr=3e-4)
    lines = runctl("ps", "--columns", "run,training.lr,cost,state,no.such").stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["run", "training.lr", "cost", "state", "no.such"],
        ["a", "0.0003", "$3.00", "succeeded", "–"],
    ]
    wrong = runctl("ps", "--columns", "run,losss")
    assert (wrong.returncode, "did you mean 'loss'?" in wrong.stderr) == (2, True)


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_it_may_be_and_no_name_is_cut(project: Path, width: int) -> None:
    for number in range(5):
        words = "ValueError: the loss is NaN after a long story of many words that nobody reads to its end " * 2
        ended(project, f"a-name-of-thirty-letters-or-so-{number}", "failed", reason=words, loss=0.123456, cost_usd=12.5)
    argv = [sys.executable, "-m", "runctl", "status"]
    env = {**os.environ, "COLUMNS": str(width), "NO_COLOR": "1"}
    done = subprocess.run(argv, capture_output=True, text=True, env=env, check=True)
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= width
    assert all(line.startswith("a-name-of-thirty-letters-or-so-") for line in lines[1:])
    assert "ValueError: the" in lines[1]
    assert "\x1b" not in done.stdout
    forced = subprocess.run(
        argv, capture_output=True, text=True, env={**env, "NO_COLOR": "", "FORCE_COLOR": "1"}, check=True
    )
    assert "\x1b[1;31mfailed" in forced.stdout


def test_a_tree_of_many_runs_with_damaged_ones_among_them_is_listed_whole(project: Path) -> None:
    list_runs.write(project, 600)
    begun = time.monotonic()
    found = listing.select(project, status.Query(limit=10))
    assert time.monotonic() - begun < 1.0
    assert (len(found.shown), found.hidden) == (10, 590)
    everything = json.loads(runctl("status", "--all", "--json").stdout)
    assert (len(everything["runs"]), everything["hidden"]) == (600, 0)
    assert {entry["state"] for entry in everything["runs"]} <= {"succeeded", "failed", "stopped", "killed", "lost"}
    assert len(runctl("status", "--all").stdout.splitlines()) == 601


def complete(line: str, **env: str) -> list[str]:
    """What bash is offered for a line, by the way it asks."""
    asked = {"_RUNCTL_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    argv = [sys.executable, "-c", "from runctl.cli import main; main()"]
    done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, **asked, **env}, check=False)
    return done.stdout.splitlines()


def test_a_shell_is_offered_names_of_runs_what_goes_on_first_then_the_newest(project: Path) -> None:
    ended(project, "big-1", ago=500)
    ended(project, "big-2", "failed", ago=50, reason="ValueError: no")
    ended(project, "small", ago=5)
    for number, name in enumerate(("big-1", "big-2", "small")):
        os.utime(project / "runs" / name / "summary.json", (time.time() + number, time.time() + number))
    make(project, name="big-3")
    for command in ("stop", "resume", "logs", "status", "wait", "events", "why", "pull", "checkpoint"):
        assert complete(f"runctl {command} ") == ["big-3", "small", "big-2", "big-1"], command
    assert complete("runctl stop big-") == ["big-3", "big-2", "big-1"]
    assert complete("runctl wait big-1 sm") == ["small"]
    told = complete("", _RUNCTL_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS="runctl resume big-2")
    assert '"big-2":"failed, 100%\\\\: ValueError\\\\: no"' in "".join(told)
    assert "wait" in complete("runctl wa")
