"""Logs: the last lines of any size of file, and following to the end of a run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from fake_runs import in_state, make, supervised, until
from hypothesis import given
from hypothesis import strategies as st
from test_launch import runctl

from runctl import logs, record
from runctl.errors import UsageError


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "runctl.yaml").write_text("policy: {}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=9), max_size=9),
    st.integers(0, 12),
    st.booleans(),
)
def test_tail_gives_the_last_lines(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], number: int, whole: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "log.txt"
    data = "\n".join(lines).encode() + (b"\n" if whole and lines else b"")
    path.write_bytes(data)
    parts = data.split(b"\n")
    kept = [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
    assert logs.tail(path, number)[0] == b"".join(kept[-number:] if number else [])
    assert logs.tail(path, None) == (data, len(data))


def test_tail_reads_backwards_over_many_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_BLOCK", 7)
    path = tmp_path / "log.txt"
    path.write_text("".join(f"line {number}\n" for number in range(100)))
    assert logs.last_lines(path, 3) == ["line 97", "line 98", "line 99"]
    assert len(logs.last_lines(path, 1000)) == 100


def test_following_ends_with_the_run_and_misses_nothing(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 30)
    with supervised(run):
        until(run, in_state("running", "succeeded"))
        text, position = logs.tail(logs.find(run), None)
        text += b"".join(logs.follow(run, logs.find(run), position))
    assert text.decode().splitlines() == ["fake trainer 1", *(f"step {step}" for step in range(1, 31))]


def test_an_unknown_attempt_is_named(tmp_path: Path) -> None:
    run = make(tmp_path)
    assert logs.find(run, 1) == run.attempt(1).log
    assert logs.find(run, supervisor=True) == run.supervisor_log
    assert logs.tail(logs.find(run), 5) == (b"", 0)
    with pytest.raises(UsageError, match="run has no attempt 7: it has 1"):
        logs.find(run, 7)


def test_the_story_of_a_run_has_its_progress_and_its_end(project: Path) -> None:
    run = make(project, "--steps", 12, "--fail-at", 11)
    with supervised(run):
        followed = runctl("logs", "-f", "run").stdout.splitlines()
    lines = runctl("logs", "run").stdout.splitlines()
    assert sorted(lines) == sorted(followed)
    told = [line[9:] for line in lines if line[2:3] == ":"]
    assert [line for line in told if not line.startswith("checkpoint")] == [  # of those, the supervisor may miss one
        "attempt 1 started",
        "step 5/12  held-out  loss 0.2  pos_mae 0.5",
        "step 10/12  held-out  loss 0.1  pos_mae 0.5",
        "failed at step 11: ValueError: the loss is NaN",
    ]
    assert runctl("logs", "run", "--tail", "1").stdout.splitlines() == lines[-1:]
    assert runctl("logs", "run", "--raw").stdout == run.attempt(1).log.read_text()
    rows = [json.loads(line) for line in runctl("logs", "run", "--json").stdout.splitlines()]
    assert [row["line"] for row in rows if row["kind"] == "log"] == run.attempt(1).log.read_text().splitlines()
    assert [row["val/loss"] for row in rows if row["kind"] == "metrics"] == [0.2, 0.1]
    assert {row["schema_version"] for row in rows} == {1}


def test_an_event_at_an_impossible_time_is_told(project: Path) -> None:
    run = make(project)
    record.append_line(run.events, {"time": 1e300, "event": "attempt_started", "attempt": 1})
    done = runctl("logs", "run")
    assert (done.returncode, done.stdout) == (0, "(no such time) attempt 1 started\n"), done.stderr


def test_the_story_of_a_foreign_program_has_what_it_wrote(project: Path) -> None:
    run = make(project, task="command", command={"argv": ["x"]})
    script = "import sys; sys.stdout.write('10%\\r50%\\rdone\\nno newline')"
    record.write_json(run.run, record.read_json(run.run) | {"command": [sys.executable, "-c", script]})
    with supervised(run):
        until(run, in_state("succeeded"))
    lines = runctl("logs", "run").stdout.splitlines()
    assert [line if line[2:3] != ":" else line[9:] for line in lines] == [
        "attempt 1 started",
        "done",
        "no newline",
        "succeeded",
    ]
