"""Every kind of guard against a real small run that is built to trip it, and ten healthy runs with all of them at once.

    python tests/guard_trials.py                 the table of all trials, then of the healthy runs
    python tests/guard_trials.py nan spike       only the trials whose name has such a word

A trial is a run as a launch leaves it, with a real supervisor and a small program that writes heartbeats and metrics.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fake_runs import make, supervised, until

from runctl import record
from runctl.guards import listing
from runctl.guards.defaults import Known

PROGRAM = """
import json, os, random, signal, time
heartbeat, run, attempt = (os.environ["RUNCTL_" + name] for name in ("HEARTBEAT", "RUN_DIR", "ATTEMPT"))
steps, noise = STEPS, random.Random(SEED)
saved, asked, handles = None, [], ["checkpoint"]
signal.signal(signal.SIGUSR1, lambda number, frame: asked.append(number))
for step in range(1, steps + 1):
    time.sleep(PACE)
    rate = 1000.0 + noise.uniform(-50, 50)
    memory = 10**9 + (step > 15) * 2 * 10**8 + noise.randrange(10**7)
    facts = {"step": step, "total_steps": steps, "loss": 3.0 / step + 0.5, "memory_bytes": memory, "skipped": 0}
    row = {"step": step, "attempt": int(attempt), "time": time.time(), "loss": facts["loss"], "oom": 0}
    row["examples_per_second"] = rate
    row |= {"val/loss": 2.0 / step + noise.uniform(0, 0.05), "val/acc": 0.2 + step / 100}
    row["train/loss"] = 3.0 - 0.02 * step
    if step % 20 == 0 or asked:
        asked.clear()
        saved = {"step": step, "time": time.time()}
    #CHANGE
    facts |= {"schema_version": 1, "time": time.time(), "pid": os.getpid(), "phase": "training", "checkpoint": saved}
    facts["handles"] = handles
    facts["examples_per_second"] = row.get("examples_per_second")
    with open(heartbeat + ".tmp", "w") as file:
        json.dump(facts, file)
    os.replace(heartbeat + ".tmp", heartbeat)
    with open(run + "/metrics.jsonl", "a") as file:
        file.write(json.dumps(row) + "\\n")
"""
KNOWN = Known(
    usd_per_hour=3600.0,
    examples_per_second=900.0,
    probe_examples_per_second=1000.0,
    measured=True,
    memory_bytes=1.1e9,
    gpu=True,
    steps=60,
    flops_per_example=1e9,
    peak_flops=4e12,
    peak_words="4 TFLOP/s, the peak of a small GPU",
)


@dataclass(frozen=True)
class Trial:
    """A guard, what is wrong with the run, what the guard says then, and what it does."""

    when: str
    change: str
    says: str
    do: str = "stop"
    after: str | None = None
    steps: int = 60
    pace: float = 0.02
    budget: dict[str, float] = field(default_factory=dict)

    @property
    def guard(self) -> str:
        return self.when or f"budget.{next(iter(self.budget))}"

    @property
    def state(self) -> str:
        """How the run ends."""
        return "killed" if self.do in ("stop", "kill") else "succeeded"


TRIALS = {
    "nan": Trial("nan", "if step > 20: facts['loss'] = row['loss'] = float('nan')", "loss is NaN or infinite"),
    "nan in a metric": Trial(
        "nan in val/loss", "if step > 20: row['val/loss'] = float('inf')", "val/loss is NaN or infinite", "kill"
    ),
    "threshold": Trial("val/loss > 5", "if step > 10: row['val/loss'] = 9.0", "val/loss 9 > 5", after="20 steps"),
    "threshold for long": Trial(
        "val/acc < 0.1 for 3 evals", "if step > 10: row['val/acc'] = 0.05", "val/acc 0.05 < 0.1"
    ),
    "of its best": Trial(
        "train/loss > 150% of the best", "if step > 30: row['train/loss'] = 5.0", "train/loss 5 >", "checkpoint"
    ),
    "missing": Trial(
        "val/loss > 5 on missing stop", "if step > 20: del row['val/loss']", "val/loss is missing at step 21"
    ),
    "spike z": Trial(
        "spike of train/loss z > 6 over 20",
        "if step == 30: row['train/loss'] = 9.0",
        "standard deviations above",
        "note",
    ),
    "spike ratio": Trial(
        "spike of train/loss ratio > 3 over 20", "if step == 30: row['train/loss'] = 9.0", "times the mean", "kill"
    ),
    "plateau": Trial(
        "plateau of train/loss over 10 evals by less than 0.05",
        "if step > 20: row['train/loss'] = 2.6",
        "better by 0.04 over 10 evaluations",
    ),
    "floor": Trial(
        "floor 1.5 of train/loss", "if step > 20: row['train/loss'] = 1.2", "below its theoretical minimum", "notify"
    ),
    "first": Trial(
        "first train/loss > 100", "if step < 3: row['train/loss'] = 300.0", "the first train/loss 300 is > 100"
    ),
    "first far from ln V": Trial(
        "first train/loss far from ln(50257)", "if step < 3: row['train/loss'] = 0.4", "is far from 10.8", "note"
    ),
    "chance of an accuracy": Trial(
        "chance of val/acc among 10 for 5 evals", "row['val/acc'] = 0.1 + step % 3 / 200", "is no better than chance"
    ),
    "chance of a loss": Trial(
        "chance of train/loss among 50257",
        "row['train/loss'] = 10.8",
        "no better than chance among 50,257",
        after="30 steps",
    ),
    "throughput of the estimate": Trial(
        "throughput < 50% of the estimate for 3 rows",
        "if step > 20: row['examples_per_second'] = 100.0",
        "examples_per_second 100 < 450",
    ),
    "throughput of the probe": Trial(
        "throughput < 50% of the probe for 300ms",
        "if step > 20: row['examples_per_second'] = 100.0",
        "examples_per_second 100 < 500",
        "note",
    ),
    "drift of throughput": Trial(
        "drift of throughput > 30%", "row['examples_per_second'] *= 0.985 ** step", "has steadily fallen by 3"
    ),
    "utilisation": Trial(
        "mfu < 2% for 5 rows", "if step > 10: row['examples_per_second'] = 40.0", "mfu 1 % < 2 %", "note"
    ),
    "memory": Trial("memory > 1.5GiB", "if step > 20: facts['memory_bytes'] = 2 * 2**30", "2.0 GiB > 1.5 GiB"),
    "memory of the estimate": Trial(
        "memory > 120% of the estimate", "if step > 20: facts['memory_bytes'] = 2 * 2**30", "2.0 GiB > 1.2 GiB", "kill"
    ),
    "memory of the start": Trial(
        "memory > 150% of the start",
        "if step > 30: row['memory_bytes'] = 2e9\nelse: row['memory_bytes'] = 1e9",
        "1.9 GiB > 1.4 GiB",
    ),
    "creep of memory": Trial(
        "creep of memory > 30%", "facts['memory_bytes'] += 10**7 * step", "has steadily risen by", steps=400
    ),
    "skipped": Trial("skipped > 1%", "facts['skipped'] = step // 2", "skipped "),
    "out of memory": Trial("oom > 1%", "row['oom'] = step // 20", "oom 5 % > 1 % at step 20", "note"),
    "no checkpoint": Trial("no checkpoint for 30 steps", "saved = None", "no checkpoint for 3"),
    "no checkpoint in time": Trial("no checkpoint for 500ms", "saved = None", "no checkpoint for"),
    "hours": Trial("", "", "100% is used", budget={"max_hours": 1 / 3600}, steps=300),
    "money": Trial("", "", "100% is used: $1.", budget={"max_cost_usd": 1.0}, steps=300),
}
EVERY = [
    "nan",
    "val/loss > 9 on missing stop",
    "train/loss > 150% of the best",
    "spike of train/loss z > 6 over 20",
    "spike of train/loss ratio > 3 over 20",
    "plateau of train/loss over 10 evals by less than 0.05",
    "floor 1.5 of train/loss",
    "first train/loss > 100",
    "first loss far from 3",
    "chance of val/acc among 10 after 5 steps",
    "chance of train/loss among 50257",
    "examples_per_second < 50% of the estimate for 3 rows",
    "throughput < 50% of the probe for 300ms",
    "drift of throughput > 30%",
    "mfu < 2% for 5 rows",
    "memory > 2GiB",
    "memory > 150% of the start",
    "memory > 150% of the estimate",
    "creep of memory > 30%",
    "skipped > 1%",
    "oom > 1%",
    "no checkpoint for 30 steps",
    "no checkpoint for 10m",
]


@dataclass(frozen=True)
class Result:
    """What came of a run: its state and reason, its trips, what failed of the guards, and when it began."""

    state: str
    reason: str
    trips: list[dict[str, Any]]
    faults: list[dict[str, Any]]
    begun: float


def program(
    project: Path,
    guards: list[dict[str, Any]],
    *,
    change: str = "",
    steps: int = 60,
    pace: float = 0.02,
    seed: int = 1,
    name: str = "run",
) -> record.RunDir:
    """A run of the program, changed by some lines within its loop, with these guards; not started."""
    command = [sys.executable, "-c", source(change, steps, pace, seed)]
    run = make(project, name=name, task="command", command={"argv": command})
    record.write_json(run.run, record.read_json(run.run) | {"command": command, "guards": guards})
    return run


def source(change: str = "", steps: int = 60, pace: float = 0.02, seed: int = 1) -> str:
    text = PROGRAM.replace("#CHANGE", change.replace("\n", "\n    "))
    for word, value in (("STEPS", steps), ("PACE", pace), ("SEED", seed)):
        text = text.replace(word, str(value))
    return text


def guards_of(trial: Trial) -> list[dict[str, Any]]:
    own = [{"when": trial.when, "do": trial.do, "after": trial.after}] if trial.when else []
    return listing.made({"task": "command", "guards": own, "budget": trial.budget}, KNOWN)


def every() -> list[dict[str, Any]]:
    """The guards of a healthy run: one of each kind, all of which would end it."""
    own = [{"when": when, "do": "kill" if "missing" not in when else "stop"} for when in EVERY]
    return listing.made({"task": "command", "guards": own, "budget": {"max_hours": 1, "max_cost_usd": 1e6}}, KNOWN)


def trip(trial: Trial, project: Path, name: str = "run") -> Result:
    """Run a trial to its end."""
    run = program(project, guards_of(trial), change=trial.change, steps=trial.steps, pace=trial.pace, name=name)
    with supervised(run):
        return result(run)


def healthy(project: Path, count: int = 10) -> list[Result]:
    """That many healthy runs at once, each with every guard."""
    runs = [program(project, every(), seed=seed, name=f"healthy-{seed}") for seed in range(1, count + 1)]
    with ExitStack() as stack:
        for run in runs:
            stack.enter_context(supervised(run))
        return [result(run) for run in runs]


def result(run: record.RunDir) -> Result:
    """Wait for the end of a run, its summary included."""
    until(run, lambda found: found.over and run.summary.exists())
    rows = list(record.read_lines(run.events))
    trips = [row for row in rows if row["event"] == "guard_tripped"]
    begun = next(row["time"] for row in rows if row["event"] == "attempt_started")
    end = record.read_object(run.summary)
    faults = [row for row in rows if row["event"] == "guard_failed"]
    return Result(end["state"], end["reason"], trips, faults, begun)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("words", nargs="*", help="only trials whose name has one of these words")
    wanted = parser.parse_args().words
    chosen = {name: one for name, one in TRIALS.items() if not wanted or any(word in name for word in wanted)}
    print(f"{'trial':<27} {'guard':<54} {'after':>6}  {'does':<10} {'ends':<9} tripped by")
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, trial) in enumerate(chosen.items()):
            found = trip(trial, Path(folder), f"trial-{number}")
            own = [row for row in found.trips if row["guard"] == trial.guard]
            said = own[-1 if trial.budget else 0] if own else {"do": "-", "reason": "NOT TRIPPED"}
            after = f"{said['time'] - found.begun:.1f} s" if own else "-"
            row = f"{name:<27} {trial.guard:<54} {after:>6}  {said['do']:<10} {found.state:<9} {said['reason']}"
            print(row, flush=True)
            wrong += not own or found.state != trial.state or trial.says not in said["reason"]
        print(f"\n{len(chosen) - wrong} of {len(chosen)} guards tripped as they should")
        if not wanted:
            runs = healthy(Path(folder))
            trips = sum(len(one.trips) for one in runs)
            ended = sum(one.state == "succeeded" for one in runs)
            print(f"{ended} of {len(runs)} healthy runs succeeded, each with {len(every())} guards: {trips} trips")
            wrong += trips + len(runs) - ended
    return min(wrong, 1)


if __name__ == "__main__":
    raise SystemExit(main())
