"""What a container of test_plane.py runs: a small program that does one thing as its specification says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import modal


def main(spec: dict) -> dict:
    """`spec["do"]` names a function here; files go below spec["at"], the volume's mount path."""
    at = Path(spec["at"])
    attempts = at / "attempts"
    attempts.mkdir(exist_ok=True)
    number = len(list(attempts.iterdir())) + 1
    (attempts / str(number)).write_text(os.environ["MODAL_TASK_ID"])
    _commit(spec)
    print(f"attempt {number} says hello", flush=True)
    print("and this is an error line", file=sys.stderr, flush=True)
    return {"attempt": number, **globals()[spec["do"]](spec, at, number)}


def answer(spec: dict, at: Path, number: int) -> dict:
    (at / "answer.txt").write_text("42")
    return {"secret_is_here": "PLANE_TEST_SECRET" in os.environ, "cwd": os.getcwd(), "seen": sorted(os.listdir(at))}


def gpu(spec: dict, at: Path, number: int) -> dict:
    said = subprocess.run(
        ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {"gpus": said.stdout.splitlines(), "threads": os.environ["OMP_NUM_THREADS"]}


def fail(spec: dict, at: Path, number: int) -> dict:
    if number <= spec["times"]:
        raise RuntimeError(f"attempt {number} went wrong")
    return {}


def count(spec: dict, at: Path, number: int) -> dict:
    """Counts in a file until spec["to"]; on SIGINT saves where it is, commits and leaves, as a trainer would."""
    file = at / "count.json"
    start = json.loads(file.read_text())["count"] if file.exists() else 0
    value = start
    try:
        while value < spec["to"]:
            value += 1
            time.sleep(0.02)
            (at / "uncommitted.txt").write_text(str(value))
    except (KeyboardInterrupt, modal.exception.InputCancellation) as reason:
        file.write_text(json.dumps({"count": value, "why": type(reason).__name__}))
        _commit(spec)
        raise
    return {"started_at": start, "count": value}


def hang(spec: dict, at: Path, number: int) -> dict:
    """Ignores every signal, and has a child in a session of its own."""
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"], start_new_session=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # after the child's start, which would inherit it
    (at / "lost.txt").write_text("never committed")
    print(f"child {child.pid}", flush=True)
    time.sleep(60)
    return {}


def _commit(spec: dict) -> None:
    modal.Volume.from_name(spec["volume"]).commit()
