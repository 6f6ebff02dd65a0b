"""Whole-process time of the commands that people type all day, beside the bare imports they rest on.

    python benchmarks/startup.py [--rounds 15]

Contenders take turns; medians of wall time and the minimum of processor time are printed.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
COMMANDS = {
    "import typer, pydantic, yaml, rich": ["-c", "import typer, pydantic, yaml, rich"],
    "runctl --help": ["-m", "runctl", "--help"],
    "runctl status": ["-m", "runctl", "status"],
    "runctl preflight": ["-m", "runctl", "preflight", "configs/quickstart.yaml"],
    "runctl estimate": ["-m", "runctl", "estimate", "configs/mamba2-large.yaml"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    wall: dict[str, list[float]] = {name: [] for name in COMMANDS}
    cpu: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds + 1):
        for name, arguments in COMMANDS.items():
            before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run([sys.executable, *arguments], cwd=ROOT, env=env, capture_output=True, check=True)
            wall[name].append(time.perf_counter() - began)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    base = statistics.median(wall["import typer, pydantic, yaml, rich"][1:])
    for name in COMMANDS:
        median = statistics.median(wall[name][1:])  # the first round writes the bytecode
        print(f"{name:<36} {median:6.3f} s  {median / base:5.2f}×  ({min(cpu[name]):.3f} s of processor time at best)")


if __name__ == "__main__":
    main()
