"""What benchmarks share: the facts of the machine, and a result as a file."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Date, processor, versions and the load while it is asked."""
    import torch

    found: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load_at_start": round(os.getloadavg()[0], 2),
    }
    if torch.cuda.is_available():
        found |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    return found


def cpu() -> str:
    """The processor as the kernel names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def write(path: Path | None, found: dict[str, Any]) -> None:
    """A result as JSON, with the load at its end; nowhere if no path is given."""
    found["machine"]["load_at_end"] = round(os.getloadavg()[0], 2)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"schema_version": 1, **found}, indent=1) + "\n")


def passive() -> None:
    """Start this program anew where idle threads would spin: the trainer's sleep (OMP_WAIT_POLICY), because spinning
    ones cost up to nine tenths of the speed beside a neighbour, and the policy is read when torch is loaded."""
    if os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE") != os.environ.get("_BENCH_WAIT_POLICY"):
        os.environ["_BENCH_WAIT_POLICY"] = os.environ["OMP_WAIT_POLICY"]
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
