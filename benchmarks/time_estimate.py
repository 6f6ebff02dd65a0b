"""Estimated time against the real one: a wide estimate, a probe, a narrow estimate, then the whole run.

    python benchmarks/time_estimate.py --shape 1 --json benchmarks/results/time-estimate-1.json

Each shape trains for about a quarter of an hour on two cores. The machine's load stands beside every figure, its own
share included: where neighbours come and go between the probe and the run, the range cannot hold. Exit 1 if the run's
time is outside of either range, or the range after the probe is wider than ±15 %.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

SHAPES = {  # name: (what it is, config); games are simulated, so nothing has to be there
    1: ("128×2, K 10, bf16", {"d_model": 128, "n_layers": 2}, 10, 256, "bf16", 12_000),
    2: ("256×3, K 60, fp32", {"d_model": 256, "n_layers": 3}, 60, 32, "fp32", 2_600),
    3: ("384×4, K 10, fp32", {"d_model": 384, "n_layers": 4}, 10, 256, "fp32", 1_500),
}

WIDEST = 0.15  # of the likely time, to either side, after a probe


def config(shape: int, steps: int | None, threads: int | None) -> str:
    _, model, context, batch, precision, planned = SHAPES[shape]
    lines = [
        f"name: shape-{shape}",
        "data: {simulate: {games: 120, seconds: 20}}",
        f"model: {{{', '.join(f'{key}: {value}' for key, value in model.items())}, "
        f"context_len: {context}, chunk_size: {context}}}",
        f"training: {{steps: {steps or planned}, batch_size: {batch}, precision: {precision}, "
        f"validate_every: 500 steps, seed: 1{f', threads: {threads}' if threads else ''}}}",
        "checkpoint: {every: 2m}",
    ]
    return "\n".join(lines) + "\n"


def runctl(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "runctl", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


def quarters(metrics: Path) -> list[float]:
    """Seconds per step in each quarter of the run, validations included: whether the pace itself changed."""
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    logged = [(row["step"], row["time"]) for row in rows if "train/loss" in row]
    ends = [logged[round(index * (len(logged) - 1) / 4)] for index in range(5)]
    return [round((two[1] - one[1]) / (two[0] - one[0]), 4) for one, two in pairwise(ends)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, choices=SHAPES, help="without it: the first, for about a minute")
    parser.add_argument("--steps", type=int, help="instead of a quarter of an hour's")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--probe", default="60s")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    short = options.shape is None
    if short:
        options.shape, options.steps, options.probe = 1, options.steps or 400, "20s"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "runctl.yaml").write_text("policy: {}\n")
        (folder / "shape.yaml").write_text(config(options.shape, options.steps, options.threads))

        def estimate() -> dict:
            return json.loads(runctl(folder, "estimate", "shape.yaml", "--json"))["estimates"]["time_seconds"]

        before, load_before = estimate(), os.getloadavg()[0]
        runctl(folder, "probe", "shape.yaml", "--for", options.probe, "--json")
        after, load_probed = estimate(), os.getloadavg()[0]
        began = time.monotonic()
        run = runctl(folder, "launch", "shape.yaml", "--detach").strip()
        runctl(folder, "wait", run)
        seconds = time.monotonic() - began
        supervised = json.loads((folder / "runs" / run / "summary.json").read_text())["seconds"]
        pace = quarters(folder / "runs" / run / "metrics.jsonl")
        probed = [json.loads(file.read_text()) for file in (folder / ".runctl").rglob("*probe*.json")]
    row = {
        "shape": SHAPES[options.shape][0],
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "threads": options.threads,
        "unprobed": {key: round(before[key]) for key in ("low", "likely", "high")},
        "probed": {key: round(after[key]) for key in ("low", "likely", "high")},
        "half_width": round((after["high"] - after["low"]) / 2 / after["likely"], 3),
        "actual_seconds": round(supervised, 1),
        "launch_to_end_seconds": round(seconds, 1),
        "seconds_per_step": {"probe": [one.get("step_seconds") for one in probed], "run, by quarter": pace},
        "inside": after["low"] <= supervised <= after["high"],
        "inside_unprobed": before["low"] <= supervised <= before["high"],
        "load": {"before": load_before, "after the probe": load_probed, "at the end": os.getloadavg()[0]},
    }
    print(json.dumps(row, indent=2))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(row, indent=2) + "\n")
    held = row["inside"] and row["inside_unprobed"] and row["half_width"] <= WIDEST
    sys.exit(0 if short or held else 1)


if __name__ == "__main__":
    main()
