"""A trainer without torch for the torture: real checkpoints with sha256, real signals and heartbeats, exact resume.

Its "weights" are a chain of hashes, so that a step that is left out, done twice or begun from another state changes
every later loss. What it proves is the supervisor, the record and the verbs; the trainer itself is tortured as such.

    python trainer.py RUN_DIR --attempt N
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from runctl import record
from runctl.train import stacks
from runctl.train.control import Control
from runctl.train.heartbeat import Heartbeat

PACE = float(os.environ.get("PACE", "0"))
CHATTER = int(os.environ.get("TORTURE_CHATTER", "0"))  # bytes that each step writes into the log


class Chain:
    """The state: a digest, the sum since the last row, and the step."""

    def __init__(self, seed: int) -> None:
        self.step, self.digest, self.sum, self.count = 0, hashlib.sha256(str(seed).encode()).hexdigest(), 0.0, 0

    def advance(self) -> None:
        self.step += 1
        self.digest = hashlib.sha256(f"{self.digest}:{self.step}".encode()).hexdigest()
        self.sum += int(self.digest[:8], 16) / 2**32
        self.count += 1

    def mean(self) -> float:
        mean, self.sum, self.count = self.sum / self.count, 0.0, 0
        return mean


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--attempt", type=int, required=True)
    options = parser.parse_args()
    control = Control()
    control.install()
    run = record.RunDir(options.run)
    files = run.attempt(options.attempt)
    files.path.mkdir(parents=True, exist_ok=True)
    stacks.register(files.stacks)
    heartbeat = Heartbeat(files)
    heartbeat.phase("loading")
    try:
        outcome, error = train(run, options.attempt, control, heartbeat), None
    except (OSError, ValueError) as problem:
        outcome, error = "failed", problem
        print(f"error: {problem}", flush=True)
    if control.parent_lost:
        outcome, error = "failed", error or ValueError("supervisor lost")
    heartbeat.phase("ending")
    told = {"type": type(error).__name__, "message": str(error), "hint": None, "where": None} if error else None
    facts = {key: heartbeat.facts[key] for key in ("step", "total_steps")}
    try:
        result = {"schema_version": 1, "outcome": outcome, "error": told, "metrics": {}, "ended": time.time(), **facts}
        record.write_json(files.result, result)
    except OSError as problem:
        outcome = "failed"
        print(f"error: result.json could not be written: {problem}", flush=True)
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(int(outcome == "failed"))


def train(run: record.RunDir, attempt: int, control: Control, heartbeat: Heartbeat) -> str:
    config = record.read_object(run.run)["config"]
    training, every = config["training"], int(str(config["checkpoint"]["every"]).split()[0])
    total, keep = training["steps"], config["checkpoint"]["keep_last"]
    chain = Chain(training["seed"])
    resume(run, attempt, chain, heartbeat)
    heartbeat.update(total_steps=total, step=chain.step, data_source="a chain of hashes", device="cpu")
    heartbeat.phase("training")
    saved = chain.step
    while chain.step < total and not control.stopping:
        time.sleep(PACE)
        chain.advance()
        if CHATTER:
            print("x" * CHATTER, flush=True)
        if chain.step % training["log_every"] == 0 or chain.step == total:
            row: dict[str, Any] = {"step": chain.step, "attempt": attempt, "time": time.time()}
            row["train/loss"] = chain.mean()
            if chain.step % 15 == 0 or chain.step == total:
                row["val/loss"] = int(chain.digest[8:16], 16) / 2**32
            record.append_line(run.metrics, row)
            heartbeat.update(loss=row["train/loss"])
        heartbeat.update(step=chain.step)
        if chain.step % every == 0 or control.take_save_request():
            save(run, attempt, chain, heartbeat, keep)
            saved = chain.step
        if chain.step == 1:
            heartbeat.now()
        heartbeat.beat()
    if chain.step > saved:
        save(run, attempt, chain, heartbeat, keep)
    return "succeeded" if chain.step >= total else "stopped"


def save(run: record.RunDir, attempt: int, chain: Chain, heartbeat: Heartbeat, keep: int) -> None:
    """As the real one does it: a folder under another name, flushed files, the manifest last, a rename."""
    folder, target = run.checkpoints / f".tmp-{chain.step}-{os.getpid()}", run.checkpoint(chain.step)
    try:
        texts = {"model.safetensors": json.dumps(chain.__dict__), "state.json": json.dumps({"step": chain.step})}
        for name, text in texts.items():
            record.write_text(folder / name, text)
        files = {
            name: {"bytes": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}
            for name, text in texts.items()
        }
        manifest = {"schema_version": 1, "kind": "checkpoint", "step": chain.step, "attempt": attempt, "files": files}
        record.write_json(folder / "manifest.json", manifest | {"created": time.time(), "identity": {}})
        if target.exists():
            shutil.rmtree(target)
        os.rename(folder, target)
        record.write_text(run.latest, target.name + "\n")
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    for old in sorted(run.checkpoints.glob("step-*"))[:-keep]:
        shutil.rmtree(old)
    heartbeat.update(checkpoint={"step": chain.step, "time": time.time()})
    heartbeat.now()


def resume(run: record.RunDir, attempt: int, chain: Chain, heartbeat: Heartbeat) -> None:
    passed: list[dict[str, str]] = []
    for folder in sorted(run.checkpoints.glob("step-*"), reverse=True):
        if not (folder / "manifest.json").exists():
            shutil.rmtree(folder)
            continue
        if why := damage(folder):
            aside = folder.with_name(f"damaged-{folder.name}")
            os.rename(folder, aside)
            passed.append({"checkpoint": folder.name, "why": f"{why}; set aside as {aside.name}"})
            continue
        chain.__dict__.update(json.loads((folder / "model.safetensors").read_text()))
        heartbeat.update(checkpoint={"step": chain.step, "time": time.time()})
        record.write_json(
            run.attempt(attempt).resumed,
            {"schema_version": 1, "step": chain.step, "checkpoint": folder.name, "passed_over": passed},
        )
        return
    if lost := sorted(path.name for path in run.checkpoints.glob("damaged-step-*")):
        raise ValueError(f"no whole checkpoint is left in {run.checkpoints}: {', '.join(lost)} are damaged")


def damage(folder: Path) -> str:
    """What is wrong with a checkpoint; "" if nothing is."""
    files = record.read_object(folder / "manifest.json").get("files")
    if not isinstance(files, dict) or set(files) != {"model.safetensors", "state.json"}:
        return f"checkpoint {folder.name} has no readable manifest.json"
    for name, about in files.items():
        try:
            data = (folder / name).read_bytes()
        except OSError as error:
            return f"checkpoint {folder.name} is damaged: {name}: {error.strerror}"
        if hashlib.sha256(data).hexdigest() != about.get("sha256"):
            return f"checkpoint {folder.name} is damaged: {name} differs from its sha256"
    return ""


if __name__ == "__main__":
    main()
