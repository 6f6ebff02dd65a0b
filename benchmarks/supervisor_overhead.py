"""What runctl itself costs while a run trains: the supervisor's processor time and memory, and the trainer's own
bookkeeping (heartbeat, metrics, timing) as a share of a step.

    python benchmarks/supervisor_overhead.py [--seconds 60] [--blocks 10] [--json FILE]

The supervisor is that of a real launch of `configs/quickstart.yaml` with more steps. The trainer's part runs in this
process: blocks of steps with everything, in turn with blocks of bare steps, and the time of each part besides; all in
processor time of the main thread, so that a busy machine does not blur it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runctl import config as configs
from runctl import record, status

ROOT = Path(__file__).parent.parent
NAME = "overhead"
CPU_AIM, MEMORY_AIM, STEP_AIM = 0.5, 60.0, 0.5  # % of a core, MiB, % of a step
BLOCK = 20  # steps: one row of metrics in each


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="for which the supervisor is watched")
    parser.add_argument("--blocks", type=int, default=10, help="of each kind, of 20 steps")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "supervisor-overhead.json")
    options = parser.parse_args()
    found: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "python": platform.python_version()}
    found |= {"processor": processor(), "load": round(os.getloadavg()[0], 2)}
    with tempfile.TemporaryDirectory() as folder:
        found["supervisor"] = supervisor(Path(folder), options.seconds)
    told = found["supervisor"]
    print(f"supervisor: {told['cpu_percent']:.3f} % of a core over {told['seconds']:.0f} s (aim {CPU_AIM}),", end=" ")
    print(f"{told['wakeups_per_second']:.1f} wake-ups/s;", end=" ")
    print(f"peak RSS {told['peak_rss_mib']:.1f} MiB, PSS {told['pss_mib']:.1f} MiB (aim {MEMORY_AIM:.0f})")
    with tempfile.TemporaryDirectory() as folder:
        found["step"] = step(Path(folder), options.blocks)
    told = found["step"]
    print(
        f"step: bare {told['bare_ms']:.3f} ms; with everything {told['whole_ms']:.3f} ms (medians of blocks;", end=" "
    )
    print(f"by the wall clock {told['bare_wall_ms']:.3f} and {told['whole_wall_ms']:.3f} ms)")
    for name, micros in told["parts_us"].items():
        print(f"  {name:<32} {micros:8.2f} µs a step")
    for name, micros in told["regular_us"].items():
        print(f"  {name:<32} {micros:8.2f} µs")
    print(f"  together {told['percent']:.3f} % of a bare step (aim {STEP_AIM})")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(found, indent=1) + "\n")


def supervisor(project: Path, seconds: float) -> dict[str, Any]:
    """Processor time, wake-ups and memory of the supervisor of a real run, from its first step on."""
    text = (ROOT / "configs" / "quickstart.yaml").read_text()
    (project / "runctl.yaml").write_text("{}\n")
    (project / f"{NAME}.yaml").write_text(re.sub(r"steps: \d+", "steps: 20000", text, count=1))
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = ["launch", f"{NAME}.yaml", "--name", NAME, "--set", "compute.timeout=2d", "--detach"]
    runctl = [sys.executable, "-m", "runctl"]
    subprocess.run([*runctl, *words], cwd=project, env=env, check=True, capture_output=True)
    run = record.find(project, NAME)
    try:
        identity = status.identities(status.load(run))[0]
        if identity is None:
            raise SystemExit("the run has no supervisor")
        time.sleep(2)
        first, began = used(identity.pid), time.monotonic()
        time.sleep(seconds)
        last, spent = used(identity.pid), time.monotonic() - began
        memory = Path(f"/proc/{identity.pid}/status").read_text()
        shares = Path(f"/proc/{identity.pid}/smaps_rollup").read_text()
    finally:
        subprocess.run([*runctl, "stop", NAME], cwd=project, env=env, check=False, capture_output=True)
    return {
        "seconds": round(spent, 1),
        "cpu_percent": round(100 * (last[0] - first[0]) / spent, 4),
        "wakeups_per_second": round((last[1] - first[1]) / spent, 2),
        "start_cpu_seconds": round(first[0], 3),
        "peak_rss_mib": round(kib(memory, "VmHWM") / 1024, 2),
        "pss_mib": round(kib(shares, "Pss") / 1024, 2),
    }


def used(pid: int) -> tuple[float, int]:
    """(seconds of processor time, times that it was given a processor) of a process, all its threads."""
    seconds, times = 0.0, 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        ran, _, slices = (task / "schedstat").read_text().split()
        seconds, times = seconds + int(ran) / 1e9, times + int(slices)
    return seconds, times


def kib(text: str, name: str) -> int:
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name}:"))


def step(folder: Path, blocks: int) -> dict[str, Any]:
    """Steps of the quickstart's model as the loop makes them: whole, and bare."""
    import torch

    from runctl.tasks.worldmodel import task
    from runctl.train.control import Control
    from runctl.train.heartbeat import Heartbeat
    from runctl.train.loop import Loop, Place
    from runctl.train.trackers import start

    overrides = [
        "data.simulate.games=20",
        "training.steps=1000000",
        "training.validate_every=1000000 steps",
        "checkpoint.every=never",
    ]
    config = configs.load(ROOT / "configs" / "quickstart.yaml", overrides).config
    run = record.RunDir(folder / "run")
    files = run.attempt(1)
    files.path.mkdir(parents=True)
    device = torch.device("cpu")
    torch.manual_seed(config.training.seed or 0)
    job = task.build(config, project=folder, run=run, device=device, report=lambda message: None)
    loop = Loop(job, config, Place(run, 1, device, Control(), Heartbeat(files), start(config, {}, run)))
    loop.place.heartbeat.phase("training")
    loop.job.model.train()
    loop.timing.go()
    for _ in range(BLOCK):  # allocations, the optimizer's state
        loop.step()
        loop.after_step()
    meter = Meter(loop)
    whole: list[tuple[float, float]] = []
    bare: list[tuple[float, float]] = []
    for _ in range(blocks):
        with meter.measuring():
            whole.append(block(lambda: (loop.step(), loop.after_step())))
        with meter.stripped():
            bare.append(block(loop.step))
    bare_ms = 1e3 * statistics.median(cpu for cpu, _ in bare)
    parts = meter.parts()
    share = sum(parts.values()) / bare_ms / 10
    regular = {name: (round(1e6 * statistics.median(took), 1), every) for (name, every), took in meter.regular.items()}
    for micros, every in regular.values():
        share += micros / every / 1e4
    return {
        "blocks": blocks,
        "bare_ms": round(bare_ms, 4),
        "whole_ms": round(1e3 * statistics.median(cpu for cpu, _ in whole), 4),
        "bare_wall_ms": round(1e3 * statistics.median(wall for _, wall in bare), 4),
        "whole_wall_ms": round(1e3 * statistics.median(wall for _, wall in whole), 4),
        "parts_us": {name: round(micros, 2) for name, micros in parts.items()},
        "regular_us": {f"{name}, every {every:g} s": micros for name, (micros, every) in regular.items()},
        "percent": round(share, 4),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def block(do: Callable[[], object]) -> tuple[float, float]:
    """(processor time of the main thread, wall time) of a step in seconds, over a block of them."""
    began, clock = time.thread_time(), time.perf_counter()
    for _ in range(BLOCK):
        do()
    return (time.thread_time() - began) / BLOCK, (time.perf_counter() - clock) / BLOCK


STEPWISE = (("place.heartbeat", "beat"), ("timing", "data"), ("rate", "add"), ("state.sums", "add"), ("", "after_step"))
REGULAR = {("place.heartbeat", "_write"): 1.0, ("", "calibrate"): 5.0}  # seconds of wall time between two


class Meter:
    """Times the calls that keep the record: those of every step for each block, those that the clock asks for one by
    one. What lies within another is counted once, and with the innermost."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.blocks: list[dict[str, float]] = []
        self.regular: dict[tuple[str, float], list[float]] = {}
        self.within = [0.0]  # time of the calls within the running one, by depth

    def parts(self) -> dict[str, float]:
        """Microseconds of a step, medians of the blocks."""
        names = {name: None for block in self.blocks for name in block}
        return {name: 1e6 * statistics.median(block.get(name, 0.0) for block in self.blocks) / BLOCK for name in names}

    @contextmanager
    def measuring(self) -> Iterator[None]:
        self.blocks.append({})
        with self._replaced(self._stepwise), self._replaced(self._regular, REGULAR):
            yield

    @contextmanager
    def stripped(self) -> Iterator[None]:
        """Steps that keep no record at all."""
        with self._replaced(lambda label, function, every: lambda *arguments: None):
            yield

    def _stepwise(self, label: str, function: Callable[..., Any], every: float) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            spent, result = self._timed(function, arguments)
            block = self.blocks[-1]
            block[label] = block.get(label, 0.0) + spent
            return result

        return call

    def _regular(self, label: str, function: Callable[..., Any], every: float) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            before = self.loop.timing.written
            spent, result = self._timed(function, arguments)
            if label != "calibrate" or self.loop.timing.written != before:
                self.regular.setdefault((label, every), []).append(spent)
            return result

        return call

    def _timed(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[float, Any]:
        self.within.append(0.0)
        began = time.thread_time()
        result = function(*arguments)
        took = time.thread_time() - began
        own = took - self.within.pop()
        self.within[-1] += took
        return own, result

    @contextmanager
    def _replaced(self, by: Callable[..., Any], names: Any = STEPWISE) -> Iterator[None]:
        found = []
        for path, name in names:
            owner = self.loop
            for word in filter(None, path.split(".")):
                owner = getattr(owner, word)
            every = names[path, name] if isinstance(names, dict) else 0.0
            found.append((owner, name))
            setattr(owner, name, by(".".join(filter(None, (path, name))), getattr(owner, name), every))
        try:
            yield
        finally:
            for owner, name in found:
                delattr(owner, name)


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
