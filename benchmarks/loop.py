"""What a training step costs beyond the arithmetic: runctl's loop beside others', on a tiny model.

    python benchmarks/loop.py [--rounds 30] [--steps 400] [--only NAME,NAME] [--json FILE]

All train the same four linear layers on the same batches with the same fused AdamW, one thread each: a bare loop, the
same with clipping, schedule and a row of metrics every 20 steps, and that written with accelerate, Lightning (stripped
of what can be turned off, and with its defaults), transformers' Trainer and runctl. Each is a process of its own that
waits until it is asked for a slice of steps (`peers/feed.py`); slices take turns, and medians over the rounds count, in
processor time: each is one thread that never waits.
Peers live in environments of their own (`peers/environment.py`), made at the first run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from bench import machine, write
from peers import environment

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).parent / "peers"
OWN = "own"  # the environment of the project
WAYS = {  # name: (environment, script, arguments)
    "bare": (OWN, "loop_bare.py", ("bare",)),
    "bare + clip, schedule, log": (OWN, "loop_bare.py", ("logged",)),
    "runctl": (OWN, "loop_runctl.py", ()),
    "accelerate": ("accelerate", "loop_bare.py", ("accelerate",)),
    "Lightning, stripped": ("lightning", "loop_lightning.py", ("stripped",)),
    "Lightning, defaults": ("lightning", "loop_lightning.py", ("defaults",)),
    "transformers Trainer": ("transformers", "loop_transformers.py", ()),
}
NEEDS = {
    "accelerate": ("accelerate",),
    "lightning": ("lightning",),
    "transformers": ("transformers", "accelerate"),
}
BASE = "bare + clip, schedule, log"
AIM_US = 100.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30, help="slices of each loop")
    parser.add_argument("--steps", type=int, default=400, help="in a slice")
    parser.add_argument("--only", default=",".join(name.replace(",", ";") for name in WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "loop.json")
    options = parser.parse_args()
    names = [name.replace(";", ",") for name in options.only.split(",")]
    pythons = {name: environment.python(name, *NEEDS[name]) for name in {WAYS[way][0] for way in names} - {OWN}}
    found: dict[str, Any] = {"machine": machine(), "versions": {"torch": torch.__version__}}
    for name, python in pythons.items():
        found["versions"] |= environment.versions(python, *NEEDS[name])
    with tempfile.TemporaryDirectory() as folder:
        loops = {name: Loop(name, pythons, Path(folder) / str(number)) for number, name in enumerate(names)}
        try:
            for one in loops.values():
                one.slice(options.steps)  # warm
            slices = {name: [] for name in names}
            for _ in range(options.rounds):
                for name, one in loops.items():
                    slices[name].append(one.slice(options.steps))
        finally:
            for one in loops.values():
                one.end()
    found |= {"steps_in_a_slice": options.steps, "loops": table(slices)}
    write(options.json, found)
    over = found["loops"].get("runctl", {}).get("over_base_us")
    return int(over is not None and over > AIM_US)


class Loop:
    """One of the processes."""

    def __init__(self, name: str, pythons: dict[str, Path], folder: Path) -> None:
        self.name = name
        where, script, arguments = WAYS[name]
        python = sys.executable if where == OWN else pythons[where]
        env = os.environ | {"PYTHONPATH": str(ROOT) if script == "loop_runctl.py" else "", "OMP_NUM_THREADS": "1"}
        env |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        self._said = folder.with_suffix(".log")
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [python, HERE / script, *arguments, folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                env=env,
            )

    def slice(self, steps: int) -> tuple[float, float]:
        """Run so many steps; seconds of one, by the wall clock and of the processor."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended:\n{self._said.read_text()[-3000:]}")
        wall, busy = json.loads(line)
        return wall, busy

    def end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def table(slices: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    """Print and return the medians, and what each takes over the base, in µs a step. What decides is processor time:
    each loop is one thread that never waits, and a machine that is busy with other work does not blur it."""
    result = {}
    for name, found in slices.items():
        one: dict[str, Any] = {}
        for kind, index in (("wall", 0), ("step", 1)):
            mine = [1e6 * each[index] for each in found]
            base = [1e6 * each[index] for each in slices[BASE]]
            quarters = statistics.quantiles(mine, n=4)
            one[f"{kind}_us"] = round(statistics.median(mine), 1)
            one[f"{kind}_quarters_us"] = [round(quarters[0], 1), round(quarters[2], 1)]
            over = [each - other for each, other in zip(mine, base, strict=True)]
            one["over_base_us" if kind == "step" else "wall_over_base_us"] = round(statistics.median(over), 1)
        result[name] = one
        print(f"{name:<28} {one['step_us']:8.1f} µs of the processor a step, {one['over_base_us']:+8.1f}", end="")
        print(f"; {one['wall_us']:8.1f} µs by the wall clock, {one['wall_over_base_us']:+8.1f}")
    return result


if __name__ == "__main__":
    sys.exit(main())
