"""Whether a resume really went on is looked at afterwards, and said."""

from __future__ import annotations

import math
import os
import random
import signal
import sys
from pathlib import Path

import pytest
from fake_runs import in_state, make, pids, supervised, until

from runctl import config as configs
from runctl import page, record, status
from runctl.starting import write_start
from runctl.supervisor import verifying

TINY = str(Path(__file__).parent / "tiny_job.py")
ENDED = ("succeeded", "failed", "stopped", "killed")


def told(run: record.RunDir) -> list[tuple[str, str]]:
    rows = [row for row in record.read_lines(run.events) if row["event"].startswith("resume_")]
    return [(row["event"], row["reason"]) for row in rows]


def curve(rows: int, seed: int, noise: float) -> list[float]:
    chance = random.Random(seed)
    return [1.0 + math.exp(-row / 15) + chance.gauss(0, noise) for row in range(rows)]


def test_no_healthy_resume_is_doubted_and_one_that_lost_its_weights_is() -> None:
    doubts = 0
    for seed in range(300):
        noise = (0.002, 0.02, 0.1)[seed % 3]
        losses = curve(43, seed, noise)
        doubts += verifying.judge(losses[20:40], losses[40:], []).doubt
        assert verifying.judge(losses[20:40], [2.0 + losses[0]] * 3, []).doubt
    assert doubts == 0


def test_losses_that_come_out_the_same_are_proof_and_what_is_not_finite_is_doubt() -> None:
    assert verifying.judge([], [0.5], [(0.5, 0.5)]).words == "1 row measured before came out the same to the last digit"
    assert verifying.judge([1.0] * 9, [math.nan], []).doubt
    few = verifying.judge([1.0, 1.0], [9.0], [])
    assert (few.doubt, few.words) == (False, "too few rows lie before it to judge the loss")
    assert "came out otherwise" in verifying.judge([1.0] * 9, [1.01], [(1.0, 1.01)]).words


def test_a_resume_after_kill_9_is_verified_by_the_rows_that_it_repeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tiny_job

    config = tiny_job.config(training={"steps": 90, "log_every": 1}, checkpoint={"every": "25 steps"})
    run = make(tmp_path)
    entry = record.read_json(run.run) | {"command": [sys.executable, TINY], "config": configs.to_effective(config)}
    record.write_json(run.run, entry)
    monkeypatch.setenv("PACE", "0.01")
    with supervised(run):
        until(run, lambda found: (found.step or 0) >= 33)
        os.kill(pids(run)[1], signal.SIGKILL)
        until(run, in_state(*ENDED))
    write_start(run.attempt(2).path, from_step=25, checkpoint=None, code=None)
    with supervised(run, attempt=2):
        until(run, lambda found: found.resume is not None)
        found = status.read(run)
        until(run, in_state(*ENDED))
    assert found.resume is not None
    assert found.resume["verified"]
    assert "3 rows measured before came out the same to the last digit" in found.resume["words"]
    assert page.read(run).attempts[1]["resume"] == found.resume


WRITER = """
import os, time
from pathlib import Path
from runctl import record
from runctl.report import report
run = record.RunDir(Path(os.environ["RUNCTL_RUN_DIR"]))
attempt = int(os.environ["RUNCTL_ATTEMPT"])
begin, loss = {place}
for step in range(begin + 1, begin + 31):
    report(step=step)
    record.append_line(run.metrics, {{"step": step, "attempt": attempt, "loss": loss + step % 3 / 100}})
    time.sleep(0.01)
time.sleep(1)
"""


@pytest.mark.parametrize(
    ("place", "event", "words"),
    [
        ("(0, 2.0) if attempt == 1 else (30, 2.0)", "resume_verified", "resumed at step 30: the loss is 2.01, within "),
        ("(0, 2.0) if attempt == 1 else (30, 9.0)", "resume_doubtful", "the loss is 9.01 after it and was 2.01 before"),
        ("(0, 2.0)", "resume_doubtful", "it went on at step 1, but its last checkpoint is of step 30"),
    ],
)
def test_any_program_s_resume_is_looked_at(tmp_path: Path, place: str, event: str, words: str) -> None:
    run = make(tmp_path, task="command", command={"argv": ["x"]})
    entry = record.read_json(run.run) | {"command": [sys.executable, "-c", WRITER.format(place=place)]}
    record.write_json(run.run, entry)
    with supervised(run):
        until(run, in_state(*ENDED))
    write_start(run.attempt(2).path, from_step=30, checkpoint={"step": 30, "time": 1.0}, code=None)
    with supervised(run, attempt=2):
        assert until(run, in_state(*ENDED)).state == "succeeded"  # a doubt ends nothing
    ((kind, reason),) = told(run)
    assert kind == event
    assert words in reason


def test_a_first_attempt_has_nothing_to_verify(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 5)
    with supervised(run):
        until(run, in_state("succeeded"))
    assert told(run) == []
