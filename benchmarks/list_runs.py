"""How long it takes to list many runs: whole processes over a tree of finished runs and a few that go on.

    python benchmarks/list_runs.py [--runs 10000] [--rounds 7] [--keep FOLDER]

The tree is written as the supervisor writes it (some runs damaged); five runs are alive (a sleeping process stands for
their supervisors and trainers). Contenders take turns; medians of wall time and the least processor time are printed
and kept in benchmarks/results/list-runs.json. Beside it what other programs need for the same tree: one that only
names its files, and a plain Python script that reads one small file for each run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from runctl import evidence, record

ROOT = Path(__file__).parent.parent
ALIVE = 5
PLAIN = (
    "import json, os, sys\n"
    "for name in os.listdir('runs'):\n"
    "    try:\n        with open(f'runs/{name}/summary.json') as file:\n            row = json.loads(file.read())\n"
    "    except (OSError, ValueError):\n        continue\n"
    "    sys.stdout.write(f\"{name}  {row['state']}  {row['steps']}\\n\")\n"
)
RUNCTL = [sys.executable, "-m", "runctl"]
COMMANDS: dict[str, list[str]] = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "find runs -maxdepth 2 -name summary.json": ["find", "runs", "-maxdepth", "2", "-name", "summary.json"],
    "ls -lR runs": ["ls", "-lR", "runs"],
    "python: json.loads of every summary.json": [sys.executable, "-c", PLAIN],
    "runctl --help": [*RUNCTL, "--help"],
    "runctl status": [*RUNCTL, "status"],
    "runctl ls -q --state running": [*RUNCTL, "ls", "-q", "--state", "running"],
    "runctl status --all": [*RUNCTL, "status", "--all"],
    "runctl status --all --json": [*RUNCTL, "status", "--all", "--json"],
    "runctl status --sort -cost --limit 20": [*RUNCTL, "status", "--sort", "-cost", "--limit", "20"],
    "runctl status --where training.lr=0.0003": [*RUNCTL, "status", "--where", "training.lr=0.0003"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--keep", type=Path, help="make the tree here, or use the one that is there")
    arguments = parser.parse_args()
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="list-runs-"))
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"], start_new_session=True)
    try:
        begun = time.perf_counter()
        if not (folder / "runs").is_dir():
            write(folder, arguments.runs)
        go_on(folder, sleeper.pid)
        print(f"{arguments.runs:,} runs and {ALIVE} alive under {folder}, {time.perf_counter() - begun:.0f} s to write")
        found = measure(folder, arguments.rounds)
    finally:
        sleeper.kill()
        sleeper.wait()
        if arguments.keep is None:
            shutil.rmtree(folder)
    load = os.getloadavg()[0]
    kept = {"runs": arguments.runs, "alive": ALIVE, "rounds": arguments.rounds, "load": load, "seconds": found}
    kept |= {"python": platform.python_version(), "cpus": os.cpu_count(), "date": time.strftime("%Y-%m-%d")}
    (ROOT / "benchmarks" / "results" / "list-runs.json").write_text(json.dumps(kept, indent=2) + "\n")
    for name, (median, least) in found.items():
        print(f"{name:<44} {median:6.3f} s  ({least:.3f} s of processor time at best)")


def measure(folder: Path, rounds: int) -> dict[str, tuple[float, float]]:
    """Median of wall time and least processor time of each command, which take turns."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    wall: dict[str, list[float]] = {name: [] for name in COMMANDS}
    cpu: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(rounds + 1):
        for name, argv in COMMANDS.items():
            before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run(argv, cwd=folder, env=env, capture_output=True, check=True)
            took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
            if turn:  # the first one writes the bytecode and warms the disk's cache
                wall[name].append(took)
                cpu[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {name: (statistics.median(wall[name]), min(cpu[name])) for name in COMMANDS}


def write(project: Path, runs: int, seed: int = 5) -> None:
    """A project with so many runs that have ended; one in a hundred was attempted twice, one in five hundred is
    damaged."""
    chance = random.Random(seed)
    project.mkdir(parents=True, exist_ok=True)
    (project / "runctl.yaml").write_text("{}\n")
    text = "# a config of its own\n" * 60
    packages = {f"package-{number}": "1.2.3" for number in range(80)}
    now = time.time()
    for number in range(runs):
        run = record.RunDir(record.runs_root(project) / f"run-{number:05d}")
        made = now - 60.0 * (runs - number) - 7200
        state = chance.choices(["succeeded", "failed", "stopped", "killed"], [80, 12, 5, 3])[0]
        attempts = 2 if number % 100 == 0 else 1
        config = {"task": "worldmodel", "training": {"lr": chance.choice([1e-4, 3e-4, 1e-3]), "batch_size": 512}}
        config |= {"model": {"d_model": 384, "n_layers": 4}, "checkpoint": {"metric": "val/loss", "mode": "min"}}
        plain(
            run.run,
            {"schema_version": 1, "name": run.name, "created": made, "backend": "local", "config": config}
            | {"environment": {"packages": packages}, "config_text": text, "digest": f"{number:064x}"},
        )
        end = {"state": state, "reason": "" if state == "succeeded" else "ValueError: the loss is NaN", "step": 1000}
        end |= {"total_steps": 1000, "started": made + 1, "ended": made + 600, "seconds": 599.0, "result": state}
        end |= {"exit_code": 0 if state == "succeeded" else 1}
        for attempt in range(1, attempts + 1):
            files = run.attempt(attempt)
            plain(files.start, {"time": made + 1, "from_step": 0})
            beat = {"time": made + 599, "step": 1000, "total_steps": 1000, "phase": "ending"}
            plain(files.heartbeat, beat | {"loss": chance.random(), "memory_bytes": 10**9, "device": "cpu"})
            plain(files.result, {"outcome": state, "step": 1000, "total_steps": 1000, "error": None})
            plain(files.exit, end)
        saved = [
            {
                "step": 250 * (one + 1),
                "path": f"checkpoints/step-{250 * (one + 1):09d}",
                "time": made + 100.0 * one,
                "bytes": 10**7,
                "metrics": {"val/loss": 0.5},
            }
            for one in range(4)
        ]
        rows = {f"val/metric_{one}": chance.random() for one in range(10)}
        plain(run.events, {"event": "attempt_ended", "attempt": attempts, **end})
        summary = {"schema_version": 1, "run": run.name, "state": state, "reason": end["reason"], "attempts": attempts}
        summary |= {"steps": 1000, "total_steps": 1000, "seconds": 599.0 * attempts, "cost_usd": chance.random() * 20}
        summary |= {"task": "worldmodel", "created": made, "started": made + 1, "exit_code": end["exit_code"]}
        summary |= {"loss": beat.get("loss", 0.1), "memory_bytes": 10**9, "device": "cpu", "ended": made + 600}
        summary |= {"failure": None, "checkpoint": {key: saved[-1][key] for key in ("step", "time")}}
        summary |= {"metrics": rows, "baselines": rows, "checkpoints": saved, "best": saved[-1]}
        plain(run.summary, summary)
        if number % 500 == 250:
            chance.choice([run.summary, run.run, run.attempt(1).exit]).write_bytes(chance.randbytes(50))


def go_on(project: Path, pid: int) -> None:
    """Runs whose supervisor and trainer are the process of that pid."""
    own = evidence.identify(pid)
    assert own is not None
    for number in range(ALIVE):
        run = record.RunDir(record.runs_root(project) / f"alive-{number}")
        now = time.time()
        config = {"task": "worldmodel", "training": {"lr": 3e-4, "batch_size": 512}}
        plain(run.run, {"name": run.name, "created": now, "backend": "local", "config": config})
        files = run.attempt(1)
        plain(files.start, {"time": now - 100, "from_step": 0})
        beat = {"time": now + 1800, "step": 500, "total_steps": 1000, "phase": "training", "loss": 0.4}
        plain(files.heartbeat, beat)
        rows = [
            {"time": now - 99, "event": "attempt_started", "attempt": 1, "supervisor": own.to_json(), "host": "here"}
        ]
        rows += [{"time": now - 98, "event": "trainer_started", "attempt": 1, "trainer": own.to_json(), "group": pid}]
        rows += [{"time": now - 90, "event": "first_step", "attempt": 1, "step": 1}]
        run.events.write_text("".join(json.dumps(row) + "\n" for row in rows))


def plain(path: Path, data: dict[str, object]) -> None:
    """As `record.write_json` writes it, without waiting for the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=2) + "\n")


if __name__ == "__main__":
    main()
