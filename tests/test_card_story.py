"""The whole life of a run card with real runs: drafted, signed, launched by, closed with each verdict."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the runs are real ones")

CONFIG = """\
name: {name}
data: {{simulate: {{games: 4, seconds: 6}}}}
model: {{d_model: 32, n_layers: 1}}
training: {{steps: 48, batch_size: 32, lr: 3.0e-3, warmup_steps: 2, validate_every: 6 steps, seed: 1, threads: 1}}
checkpoint: {{every: 1h}}
card: runcards/{name}.md
"""
# name: (target, kill threshold, verdict); an untrained model of this kind begins near 20
STORIES = {
    "learns": ("val/loss < 50", "val/loss > 900", "success"),
    "perfect": ("val/loss < 0.001", "val/loss > 900", "missed"),
    "hopeless": ("val/loss < 50", "val/loss > 0.001", "killed"),
}


def runctl(folder: Path, *arguments: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "runctl", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def write(folder: Path, name: str, target: str, kill: str) -> None:
    (folder / f"{name}.yaml").write_text(CONFIG.format(name=name))
    runctl(folder, "card", "new", f"{name}.yaml")
    path = folder / "runcards" / f"{name}.md"
    text = path.read_text()
    for old, new in (
        ("goal: ''", "goal: see that it learns"),
        ("question: ''", "question: does the loss fall?"),
        ("targets: []", f'targets: [{{when: "{target}", means: it learns}}]'),
        ("kill: []", f'kill: [{{when: "{kill}", do: kill, why: not worth an hour}}]'),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)


def closed(folder: Path, name: str, run: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(runctl(folder, "card", "close", name, run, "--json"))["outcome"]
    return found


def repeated(folder: Path, run: str, name: str) -> None:
    """The same run once more, launched by the card of that name: only the names differ, and the numbers are real."""
    shutil.copytree(folder / "runs" / run, folder / "runs" / name)
    path = folder / "runs" / name / "run.json"
    text = path.read_text().replace(f"runcards/{run}.md", f"runcards/{name}.md").replace(f'"{run}"', f'"{name}"')
    path.write_text(json.dumps({**json.loads(text), "card": None, "created": time.time()}))


def test_a_card_from_draft_to_verdict(tmp_path: Path) -> None:
    (tmp_path / "runctl.yaml").write_text("policy: {require_card: true}\n")
    for name, (target, kill, _) in STORIES.items():
        write(tmp_path, name, target, kill)
        runctl(tmp_path, "card", "check", name)
        runctl(tmp_path, "card", "sign", name, "--as", "Ada", "--verdict", "approve")
        assert "card, kill[0]" in runctl(tmp_path, "guards", f"{name}.yaml", "--json")
        runctl(tmp_path, "launch", f"{name}.yaml", "--detach")
    for name, (_, _, verdict) in STORIES.items():
        runctl(tmp_path, "wait", name, code=7 if verdict == "killed" else 0)
        outcome = closed(tmp_path, name, name)
        assert outcome["verdict"] == verdict, outcome
        assert outcome["deviations"] == []
        text = (tmp_path / "runcards" / f"{name}.md").read_text()
        assert f"**{verdict}**" in text
    record = json.loads((tmp_path / "runs" / "learns" / "run.json").read_text())
    assert record["card"]["path"] == "runcards/learns.md"
    assert record["card"]["refusal"] is None
    assert "guard tripped: val/loss" in (tmp_path / "runcards" / "hopeless.md").read_text()
    rows = [json.loads(row) for row in (tmp_path / "runs" / "learns" / "metrics.jsonl").read_text().splitlines()]
    near = [row["val/loss"] for row in rows if "val/loss" in row][
        -1
    ] + 1e-6  # on the line, give or take the noise of its own evaluations
    # a target on the line, give or take the noise of the run's own evaluations
    write(tmp_path, "line", f"val/loss < {near:.6f}", "val/loss > 900")
    runctl(tmp_path, "card", "sign", "line", "--as", "Ada", "--verdict", "approve")
    repeated(tmp_path, "learns", "line")
    assert closed(tmp_path, "line", "line")["verdict"] == "within noise"
    board = runctl(tmp_path, "card", "list")
    assert board.count("closed") == 4
