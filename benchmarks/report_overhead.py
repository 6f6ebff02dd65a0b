"""What `runctl.report()` costs a training loop: a call, amortised over calls of which few write, and the import.

    python benchmarks/report_overhead.py [--seconds S]

A tight loop that runs for some seconds, so that heartbeats and rows are written as in a run; the worst case for their
share, since a real step takes longer than a call. Processor time is what the calls themselves took; wall time has the
waits of a busy machine in it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
BATCH = 1_000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--outside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if given.outside:
        print(*calls(1.0))
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"RUNCTL_RUN_DIR": folder, "RUNCTL_HEARTBEAT": f"{folder}/heartbeat.json", "RUNCTL_ATTEMPT": "1"}
        count, wall, busy = calls(given.seconds)
        rows = len(Path(folder, "metrics.jsonl").read_bytes().splitlines())
        one = writes(20)
    for name in ("RUNCTL_RUN_DIR", "RUNCTL_HEARTBEAT", "RUNCTL_ATTEMPT"):
        del os.environ[name]
    text = subprocess.run([sys.executable, __file__, "--outside"], capture_output=True, text=True, check=True).stdout
    idle = [float(word) for word in text.split()]
    print(f"a call, amortised   {1e6 * busy / count:7.2f} µs processor, {1e6 * wall / count:7.2f} µs wall; aim < 20 µs")
    print(f"                    {count:,.0f} calls with loss and one metric, {rows} rows and as many heartbeats")
    print(f"a call that writes  {1e6 * one:7.0f} µs wall (median), once a second")
    print(f"outside of a run    {1e6 * idle[2] / idle[0]:7.2f} µs processor")
    print(f"its import          {1e3 * imported():7.2f} ms processor (median of 15 processes); aim < 10 ms")
    sys.stdout.flush()
    os._exit(0)  # the run that was reported to is gone


def calls(seconds: float) -> tuple[int, float, float]:
    """How many calls were made, and their seconds by the wall clock and of the processor."""
    import runctl

    count, begun, busy = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < seconds:
        for step in range(count, count + BATCH):
            runctl.report(step=step, total_steps=10**9, loss=0.5, lr=1e-4)
        count += BATCH
    return count, time.perf_counter() - begun, time.process_time() - busy


def writes(count: int) -> float:
    """Seconds of a call that writes a heartbeat and a row."""
    import runctl

    spent = []
    for step in range(count):
        begun = time.perf_counter()
        runctl.report(step=step, checkpoint_step=step, metrics={"loss": 0.5})
        spent.append(time.perf_counter() - begun)
    return statistics.median(spent)


def imported() -> float:
    """Seconds of the processor that the import takes."""
    text = "import time; a = time.process_time(); import runctl; runctl.report; print(time.process_time() - a)"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = [subprocess.run([sys.executable, "-c", text], env=env, capture_output=True, check=True) for _ in range(15)]
    return statistics.median(float(one.stdout) for one in found)


if __name__ == "__main__":
    main()
