"""When the lines of a log were written, parts of it by time or text, and following it over restarts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_runs import in_state, make, supervised, until
from hypothesis import given
from hypothesis import strategies as st
from test_launch import runctl

from runctl import journal, logs, marks, record
from runctl.cli._loglines import Lines
from runctl.cli._moments import moment
from runctl.errors import UsageError

SLOW = "import time; print('early', flush=True); time.sleep(1.4); print('late', flush=True)"
DIES_ONCE = (
    "import os, time; n = os.environ['RUNCTL_ATTEMPT']; print('this is', n, flush=True)\n"
    "if n == '1': time.sleep(3); os.kill(os.getpid(), 9)"  # time enough to begin to follow it
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "runctl.yaml").write_text("policy: {}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def program(project: Path, script: str, **config: object) -> record.RunDir:
    run = make(project, task="command", command={"argv": ["x"]}, **config)
    record.write_json(run.run, record.read_json(run.run) | {"command": [sys.executable, "-c", script]})
    return run


def ended(project: Path, lines: list[str], every: float = 10.0, begin: float | None = None) -> record.RunDir:
    """A run that has ended, with a log of these lines, one each `every` seconds, and their marks."""
    run = make(project)
    files = run.attempt(1)
    begin = time.time() - every * len(lines) if begin is None else begin
    writer = marks.Writer(files.log_times)
    with files.log.open("w") as log:
        for number, line in enumerate(lines):
            log.write(line + "\n")
            log.flush()
            writer.add(log.tell(), begin + number * every)
    end = {"state": "succeeded", "reason": "", "ended": begin + len(lines) * every, "exit_code": 0}
    record.write_json(files.result, {"outcome": "succeeded", "step": 1, "total_steps": 1})
    record.write_json(files.exit, end)
    return run


def test_lines_have_the_second_in_which_they_were_written(project: Path) -> None:
    run = program(project, SLOW)
    with supervised(run):
        until(run, in_state("succeeded"))
    rows = [json.loads(line) for line in runctl("logs", "run", "--json").stdout.splitlines()]
    at = {row["line"]: row["time"] for row in rows if row["kind"] == "log"}
    assert 1.0 < at["late"] - at["early"] < 2.4
    shown = runctl("logs", "run", "--raw", "--timestamps").stdout.splitlines()
    assert [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in shown] == ["early", "late"]
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in shown)
    between = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at["late"]))
    assert runctl("logs", "run", "--raw", "--since", between).stdout == "late\n"
    between = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at["early"] + 1))
    assert runctl("logs", "run", "--raw", "--until", between).stdout == "early\n"
    assert run.attempt(1).log.read_text() == "early\nlate\n"  # the stream itself is as it was written


def test_a_part_of_a_log_is_chosen_by_time_text_and_number(project: Path) -> None:
    ended(project, [f"step {n} {'ERROR bad' if n % 10 == 3 else 'ok'}" for n in range(60)], every=10.0)

    def lines(*options: str) -> list[int]:
        done = runctl("logs", "run", "--raw", *options)
        assert done.returncode == 0, done.stderr
        return [int(line.split()[1]) for line in done.stdout.splitlines()]

    assert lines("--since", "95s") == list(range(51, 60))
    assert lines("--until", "95s") == list(range(51))
    assert lines("--since", "200s", "--until", "100s") == list(range(41, 51))
    assert lines("--since", "200s", "--tail", "2") == [58, 59]
    assert lines("--search", "error") == [3, 13, 23, 33, 43, 53]
    assert lines("--search", "/^step 5[0-3]/") == [50, 51, 52, 53]
    assert lines("--search", "error", "--since", "200s", "--tail", "1") == [53]
    assert lines("--search", "nothing like it") == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--search", "/(/"), "is no regular expression"),
        (("--since", "soon"), "--since: 'soon' is no moment"),
        (("--since", "1m", "--until", "2m"), "--since is later than --until"),
        (("--attempt", "7"), "run has no attempt 7"),
        (("--attempt", "last"), "is no number of an attempt"),
        (("-f", "--until", "1m"), "--until does not go with --follow"),
        (("--supervisor", "--since", "1m"), "--supervisor goes with"),
    ],
)
def test_what_cannot_be_asked_of_a_log_is_said(project: Path, options: tuple[str, ...], words: str) -> None:
    ended(project, ["x"])
    done = runctl("logs", "run", *options)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.split())


def test_moments_are_read_as_people_write_them() -> None:
    now = time.mktime((2026, 11, 21, 14, 0, 0, 0, 0, -1))
    assert moment("10m", "--since", now) == now - 600
    assert moment("13:30", "--since", now) == now - 1800
    assert moment("14:30", "--since", now) == pytest.approx(now - 23.5 * 3600, abs=3600.1)  # yesterday's
    assert moment("2026-11-21", "--since", now) == time.mktime((2026, 11, 21, 0, 0, 0, 0, 0, -1))
    assert moment("2026-11-21T10:00:00Z", "--since", now) == 1795255200.0
    with pytest.raises(UsageError, match="--until: '25:00' is no moment"):
        moment("25:00", "--until", now)


def test_following_goes_on_over_a_restart_and_ends_with_the_state(project: Path) -> None:
    run = program(project, DIES_ONCE, compute={"retries": 1})
    with supervised(run, backoff=0.5):
        done = runctl("logs", "-f", "run")
        raw = runctl("logs", "-f", "run", "--attempt", "1", "--raw")
    lines = done.stdout.splitlines()
    first, second = lines.index("this is 1"), lines.index("this is 2")
    divider = next(index for index, line in enumerate(lines) if line.startswith("──── attempt 2: "))
    assert first < divider < second
    assert "restart 1 of 1" in lines[divider]
    assert lines[-1].endswith(" succeeded")
    assert raw.stdout == "this is 1\n"  # the one attempt that was asked for
    both = runctl("logs", "run", "--attempt", "all", "--search", "this is").stdout.splitlines()
    assert [line for line in both if not line.startswith("────")] == ["this is 1", "this is 2"]
    assert runctl("logs", "run", "--attempt", "all", "--raw").stdout == "this is 1\nthis is 2\n"


def test_a_log_that_was_cut_is_followed_from_its_start(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 10_000)
    path = run.attempt(1).log
    with supervised(run):
        until(run, in_state("running"))
        found = logs.follow(run, path, logs.size(path))
        next(found)
        os.truncate(path, 0)
        step = b""
        while b"step" not in step:
            step = next(found)
        until(run, lambda _: all(entry.timed for entry in journal.Journal(run, 1).read() if entry.kind == "log"))
    assert marks.Marks(run.attempt(1).log_times)[0][0] <= logs.size(path) + 100


def test_the_end_of_a_log_of_a_gigabyte_comes_at_once(project: Path) -> None:
    run = ended(project, ["x"])
    with run.attempt(1).log.open("ab") as log:
        log.truncate(1 << 30)
        log.seek(0, os.SEEK_END)
        log.write(b"\n" + b"".join(b"line %d\n" % number for number in range(100_000)))
    began = time.monotonic()
    found = [entry.data.get("line") for entry in journal.Journal(run, 1).read(journal.Span(last=50))]
    seconds = time.monotonic() - began
    assert found[-2] == "line 99999"
    assert len(found) == 51  # and how it ended
    assert seconds < 0.5


def test_a_progress_bar_is_a_line_now_and_then_where_there_is_no_terminal(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = Lines(make(project), as_json=False, timestamps=False, raw=False, wanted=None)
    for second in range(0, 61, 2):
        data = {"attempt": 1, "line": f"epoch 1: {second}%"}
        lines.show(journal.Entry(float(second), "unfinished", data))
    lines.show(journal.Entry(62.0, "log", {"attempt": 1, "line": "epoch 1: done"}))
    told = capsys.readouterr().out.splitlines()
    assert told == [*(f"epoch 1: {second}%" for second in range(10, 61, 10)), "epoch 1: done"]


def test_what_a_bar_shows_is_found_in_a_log_without_a_newline(project: Path) -> None:
    run = make(project)
    with run.attempt(1).log.open("wb") as log:
        for number in range(60_000):
            log.write(b"\r%6d/60000 [=====>    ]" % number)
    assert [line for _, line in logs.lines(run.attempt(1).log)][-1].endswith(b"59999/60000 [=====>    ]")
    story = journal.Journal(run, 1)
    assert [entry.data for entry in story.read(following=True)] == []
    assert story.unfinished() == " 59999/60000 [=====>    ]"


def test_control_sequences_of_a_log_do_nothing_to_a_terminal() -> None:
    assert logs.shown(b"\x1b[2J\x1b]0;owned\x07\x1b[31mred\x1b[0m\x08\x9b1m") == "\x1b[31mred\x1b[0m\ufffd1m"


def test_marks_stay_small_and_forget_the_oldest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "MOST_BYTES", 40 * marks.WIDTH)
    writer = marks.Writer(tmp_path / "log.times")
    for number in range(1, 1001):
        writer.add(number * 100, 1000.0 + number)
    found = marks.Marks(tmp_path / "log.times")
    assert len(found) <= 40
    assert found.reaching(100_000) == (100_000, 2000.0)
    assert found.reaching(99_950) == (100_000, 2000.0)
    late = [found.reaching(number * 100)[1] - (1000.0 + number) for number in range(1, 1001)]  # type: ignore[index]
    assert min(late) == 0.0  # never too early
    assert max(late[-15:]) <= 1.0
    assert found.reaching(100_001) is None


@given(st.binary(max_size=400))
def test_damaged_marks_harm_nobody(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "log.times"
    path.write_bytes(data)
    found = marks.Marks(path)
    for offset in (0, 1, 10**9):
        assert found.reaching(offset) is None or found.reaching(offset)[1] >= 0  # type: ignore[index]
    assert found.since(5.0) >= 0
    assert found.until(5.0) >= 0
    marks.Writer(path).add(7, 8.0)
    assert path.read_bytes().endswith(b"         8.00\n")


def test_where_no_times_were_kept_that_is_said(project: Path) -> None:
    run = ended(project, ["one", "two"])
    run.attempt(1).log_times.unlink()
    done = runctl("logs", "run", "--raw", "-t", "--since", "1h")
    assert done.stdout == "--:--:-- one\n--:--:-- two\n"
    assert "is not known: all of them count, or none" in " ".join(done.stderr.split())
    row = json.loads(runctl("logs", "run", "--json").stdout.splitlines()[0])
    assert (row["line"], row["time"]) == ("one", None)


def test_logs_of_a_pipe_that_closes_end_quietly(project: Path) -> None:
    ended(project, [f"line {number}" for number in range(20_000)])
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m runctl logs run --raw -t | head -1"], capture_output=True, text=True
    )
    assert done.stdout.endswith("line 0\n")
    assert done.stderr == ""
