"""`import runctl` in a training program: what it costs, what it writes, and that it never gets in the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def program(text: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A program under the environment that a run gives it."""
    (folder / "attempts" / "1").mkdir(parents=True, exist_ok=True)
    given = {**os.environ, "PYTHONPATH": str(ROOT), "RUNCTL_RUN_DIR": str(folder), "RUNCTL_ATTEMPT": "1"}
    given |= {"RUNCTL_HEARTBEAT": str(folder / "attempts" / "1" / "heartbeat.json"), **env}
    given = {name: value for name, value in given.items() if value}
    argv = [sys.executable, "-W", "error", "-c", text]
    return subprocess.run(argv, env=given, capture_output=True, text=True, timeout=60, check=False)


def heartbeat(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "attempts" / "1" / "heartbeat.json").read_text())
    return found


def rows(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_importing_it_loads_next_to_nothing(tmp_path: Path) -> None:
    text = "import sys; before = set(sys.modules); import runctl; runctl.report; print(*set(sys.modules) - before)"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", text], env=env, capture_output=True, text=True, check=True)
    allowed = {"runctl", "runctl.report", "atexit", "math", "importlib", "types", "__future__", "warnings"}
    assert {name for name in done.stdout.split() if not name.startswith("importlib.")} <= allowed


def test_every_spelling_reports_and_keywords_are_metrics(tmp_path: Path) -> None:
    text = """
import runctl
from runctl import report as second
from runctl.report import report as third
runctl.report(step=1, total_steps=30, loss=2.5, lr=0.1)
second(step=2, loss=2.0)
third(step=3, loss=1.5, metrics={"val/loss": 1.0})
runctl.report(val_acc=0.5)
"""
    done = program(text, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    found = heartbeat(tmp_path)
    assert (found["step"], found["total_steps"], found["loss"]) == (3, 30, 1.5)
    kept = [{key: value for key, value in row.items() if key not in ("time", "attempt")} for row in rows(tmp_path)]
    assert kept == [
        {"step": 1, "loss": 2.5, "lr": 0.1},
        {"step": 3, "loss": 1.5, "val/loss": 1.0},
        {"step": 3, "val_acc": 0.5},
    ]


def test_many_reports_are_few_rows_and_the_last_and_the_bad_are_among_them(tmp_path: Path) -> None:
    text = """
import runctl
for step in range(1, 5001):
    runctl.report(step=step, loss=float("nan") if step == 2500 else 1.0 / step)
"""
    assert program(text, tmp_path).returncode == 0
    steps = [row["step"] for row in rows(tmp_path)]
    assert {1, 2500, 5000} <= set(steps)
    assert len(steps) < 20
    assert [row["nonfinite"] for row in rows(tmp_path) if row["step"] == 2500] == [["loss"]]
    assert heartbeat(tmp_path)["step"] == 5000


@pytest.mark.parametrize("env", [{"RANK": "1"}, {"SLURM_PROCID": "3"}, {"RUNCTL_HEARTBEAT": ""}])
def test_another_rank_and_a_program_outside_of_runctl_write_nothing(tmp_path: Path, env: dict[str, str]) -> None:
    text = (
        "import runctl; runctl.report(step=1, loss=1, a=object()); runctl.checkpoint('x'); print(runctl.should_stop())"
    )
    done = program(text, tmp_path, **env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_full_disk_and_odd_values_are_said_once_and_the_program_goes_on(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    text = """
import runctl
for step in range(3):
    runctl.report(step=step, total_steps=0, loss="low", name=object(), lr=0.1, metrics={"a": 1})
runctl.report(step="three")
runctl.checkpoint(None)
print("trained")
"""
    done = program(text, tmp_path)
    assert (done.returncode, done.stdout) == (0, "trained\n")
    assert done.stderr.count("No space left") == 1
    assert "Traceback" not in done.stderr


def test_a_folder_that_is_gone_does_not_matter(tmp_path: Path) -> None:
    text = "import runctl, shutil, os; shutil.rmtree(os.environ['RUNCTL_RUN_DIR']); runctl.report(step=1); print(1)"
    done = program(text, tmp_path / "run")
    assert (done.returncode, done.stdout) == (0, "1\n")


def test_a_tensor_is_read_when_it_is_written_and_holds_no_graph(tmp_path: Path) -> None:
    text = """
import runctl
class Tensor:
    reads = 0
    def detach(self):
        return Detached()
class Detached:
    def __float__(self):
        Tensor.reads += 1
        return 0.25
for step in range(1000):
    runctl.report(step=step, loss=Tensor())
print(Tensor.reads)
"""
    done = program(text, tmp_path)
    assert 1 <= int(done.stdout) <= 20, done.stderr
    assert heartbeat(tmp_path)["loss"] == 0.25


def test_signals_are_caught_only_by_a_program_that_asks_and_its_own_handlers_are_called(tmp_path: Path) -> None:
    text = """
import os, signal, runctl
signal.signal(signal.SIGTERM, lambda number, frame: print("own"))
runctl.report(step=1)
assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
assert not runctl.should_stop() and not runctl.should_checkpoint()
os.kill(os.getpid(), signal.SIGTERM)
os.kill(os.getpid(), signal.SIGUSR1)
print(runctl.should_stop(), runctl.should_stop(), runctl.should_checkpoint(), runctl.should_checkpoint())
runctl.report(step=2)
"""
    done = program(text, tmp_path)
    assert done.stdout == "own\nTrue True True False\n", done.stderr
    assert heartbeat(tmp_path)["handles"] == ["stop", "checkpoint"]
