"""A trainer without torch, for fast tests of the supervisor and of the verbs.

It speaks the trainer's protocol (heartbeat, checkpoints, metrics, result, SIGTERM) in a few milliseconds a step. It
proves nothing about the real trainer: not its numbers, not its exact resume, not how long it takes to save.

    python fake_trainer.py [options] RUN_DIR --attempt N
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from runctl import record
from runctl.train import stacks


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--step-seconds", type=float, default=0.01)
    parser.add_argument("--checkpoint-every", type=int, default=5)
    parser.add_argument("--fail-at", type=int)
    parser.add_argument("--silent-at", type=int, help="go on without heartbeats from this step")
    parser.add_argument("--hang-at", type=int, help="hang at this step of the first attempt")
    parser.add_argument("--hang", choices=("loop", "gil"), default="loop", help="in Python, or in C with the GIL held")
    parser.add_argument("--expect-next", type=float, help="the heartbeat's expect_next_seconds")
    parser.add_argument("--no-result", action="store_true")
    parser.add_argument("--exit-code", type=int)
    parser.add_argument("--deaf", action="store_true", help="ignore SIGTERM and the loss of the supervisor")
    parser.add_argument("--child", action="store_true", help="leave a child behind in the process group")
    parser.add_argument("--daemon", action="store_true", help="leave a child behind in a session of its own")
    arguments = parser.parse_args()
    train(arguments)


def train(arguments: argparse.Namespace) -> None:
    run = record.RunDir(arguments.run_dir)
    attempt = run.attempt(arguments.attempt)
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, signal.SIG_IGN if arguments.deaf else lambda number, frame: stopping.append(number))
    asked: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, frame: asked.append(number))
    parent = os.getppid()
    for wanted, session in ((arguments.child, False), (arguments.daemon, True)):
        if wanted:
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=session)
            (run.path / f"child-{int(session)}.pid").write_text(str(child.pid))
            child.returncode = 0
    stacks.register(attempt.stacks)
    print("fake trainer", arguments.attempt, flush=True)
    saved = sorted(run.checkpoints.glob("step-*"))
    step = int(saved[-1].name.removeprefix("step-")) if saved else 0
    manifest = record.read_object(saved[-1] / "manifest.json") if saved else None
    state = {"checkpoint": {"step": step, "time": manifest["created"]} if manifest else None}

    def beat(phase: str) -> None:
        if arguments.silent_at is not None and step >= arguments.silent_at:
            return
        facts = {"schema_version": 1, "time": time.time(), "pid": os.getpid(), "phase": phase, "step": step}
        facts |= {"total_steps": arguments.steps, "loss": 1 / (step + 1), "examples_per_second": 1000.0, "message": ""}
        facts |= {"memory_bytes": 50 << 20, "device": "cpu", "data_source": "fake", "tracking": {"wandb": "disabled"}}
        facts |= {"expect_next_seconds": arguments.expect_next}
        with suppress(OSError):
            record.write_json(attempt.heartbeat, facts | state, durable=False)

    def save() -> None:
        folder = run.checkpoint(step)
        folder.mkdir(parents=True, exist_ok=True)
        weights = f"weights at {step}".encode()
        (folder / "model.safetensors").write_bytes(weights)
        files = {"model.safetensors": {"bytes": len(weights), "sha256": hashlib.sha256(weights).hexdigest()}}
        manifest = {"schema_version": 1, "kind": "checkpoint", "step": step, "created": time.time(), "files": files}
        record.write_json(folder / "manifest.json", manifest | {"identity": {}, "metrics": None})
        record.write_text(run.latest, folder.name + "\n")
        state["checkpoint"] = {"step": step, "time": time.time()}

    def finish(outcome: str, error: dict | None = None) -> None:
        beat("ending")
        result = {"schema_version": 1, "outcome": outcome, "step": step, "total_steps": arguments.steps, "error": error}
        if not arguments.no_result:
            record.write_json(attempt.result, result | {"metrics": {}, "ended": time.time()})
        code = arguments.exit_code if arguments.exit_code is not None else int(outcome == "failed")
        sys.stdout.flush()
        os._exit(code)

    beat("loading")
    while step < arguments.steps:
        time.sleep(arguments.step_seconds)
        if stopping or (os.getppid() != parent and not arguments.deaf):
            save()
            lost = os.getppid() != parent
            finish("failed" if lost else "stopped", {"type": "", "message": "supervisor lost"} if lost else None)
        if step == arguments.hang_at and arguments.attempt == 1:
            {"loop": hang_in_python, "gil": hang_in_c}[arguments.hang]()
        step += 1
        print("step", step, flush=True)
        if step == arguments.fail_at:
            error = {"type": "ValueError", "message": "the loss is NaN", "hint": "lower the rate", "where": "fake:1"}
            finish("failed", error)
        if asked:
            asked.clear()
            save()
        if step % arguments.checkpoint_every == 0:
            save()
            row = {
                "step": step,
                "attempt": arguments.attempt,
                "time": time.time(),
                "val/loss": 1 / step,
                "val/pos_mae": 0.5,
            }
            record.append_line(run.metrics, row | {"baseline/last_delta/pos_mae": 0.75})
        beat("training")
    finish("succeeded")


def hang_in_python() -> None:
    while True:
        pass


def hang_in_c() -> None:
    library = ctypes.PyDLL(None)  # which keeps the GIL for the call
    while True:
        library.sleep(1000)


if __name__ == "__main__":
    main()
