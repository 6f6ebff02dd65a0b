"""From Enter to the spawned call: `runctl launch --no-wait` on Modal, beside the least script that calls the same.

    python benchmarks/launch_modal.py [--rounds 9] [--save]

Modal is a control plane on this machine's loopback, its image is warm, and no container starts: what is measured is
what runctl and Modal's client do before Modal has the call, not Modal's network. Both take turns; the first round warms
the image and is left out. The time ends where the plane receives FunctionMap; the whole command takes somewhat longer.
Exit code 1 above the limit. `--save` writes benchmarks/results/launch-modal.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from modal_scene import WAITING, Scene  # noqa: E402
from plane import Plane  # noqa: E402

LIMIT = 2.0  # seconds from Enter to spawn
LEAST = """
import io, sys
import modal
from runctl.remote import entry
image = (
    modal.Image.debian_slim(python_version="3.12").pip_install("torch", "numpy", "safetensors")
    .add_local_dir(sys.argv[1], "/root/runctl", ignore=["**/__pycache__", "**/*.pyc"])
)
volume = modal.Volume.from_name("least", create_if_missing=True)
app = modal.App("least", tags={"run": "least"})
main = app.function(
    image=image, gpu="H100", cpu=2.0, memory=4096, timeout=1800, retries=modal.Retries(max_retries=2),
    volumes={"/vol": volume}, single_use_containers=True, max_containers=1, include_source=False,
)(entry.main)
with volume.batch_upload(force=True) as batch:
    batch.put_file(io.BytesIO(b"{}"), "/runs/least/run.json")
with app.run(detach=True):
    print(main.spawn({}).object_id)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--save", action="store_true")
    given = parser.parse_args()
    spawned: dict[str, list[float]] = {"runctl": [], "least": []}
    whole: dict[str, list[float]] = {"runctl": [], "least": []}
    worked: dict[str, list[float]] = {"runctl": [], "least": []}
    rpcs: dict[str, int] = {}
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="launch-") as folder, Plane(queue=float("inf")) as plane:
        scene = Scene(plane, Path(folder) / "project")
        path = scene.config(compute=WAITING)
        runctl = [sys.executable, "-m", "runctl", "launch", path, "--no-wait", "--allow", "CK108", "--allow", "TM101"]
        runctl += ["--because", "a measurement"]
        for number in range(given.rounds + 1):
            for name, argv in (("least", [sys.executable, "-c", LEAST, str(ROOT / "runctl")]), ("runctl", runctl)):
                plane.ledger.seen.clear()
                before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
                done = subprocess.run(argv, cwd=scene.folder, env=scene.environment, capture_output=True, text=True)
                ended, after = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
                if done.returncode:
                    print(done.stderr, file=sys.stderr)
                    return 1
                rpcs[name] = len(plane.ledger.seen)
                if number:
                    spawned[name].append(plane.ledger.of("FunctionMap")[0].time - begun)
                    whole[name].append(ended - begun)
                    worked[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        for app in list(plane.world.apps.values()):
            plane._do(plane.apps.stop(app, "the benchmark"))
    medians = {name: statistics.median(times) for name, times in spawned.items()}
    for name, label in (("least", "the least script"), ("runctl", "runctl launch --no-wait")):
        print(
            f"{label:<26} {medians[name]:.3f} s to the spawn ({min(spawned[name]):.3f} at best), "
            f"{statistics.median(whole[name]):.3f} s in all, {min(worked[name]):.3f} s of processor time at best, "
            f"{rpcs[name]} RPCs and uploads"
        )
    ratio = min(worked["runctl"]) / min(worked["least"])
    said = f"ratio {medians['runctl'] / medians['least']:.2f}, of processor time {ratio:.2f}"
    print(f"{said}; limit {LIMIT:.0f} s; load {load:.1f}")
    if given.save:
        import modal

        about = {
            "rounds": given.rounds,
            "load": round(load, 1),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "modal": modal.__version__,
            "date": time.strftime("%Y-%m-%d"),
        }
        found = {
            "seconds_to_spawn": spawned,
            "seconds_in_all": whole,
            "processor_seconds": worked,
            "rpcs": rpcs,
            "medians": medians,
            "limit": LIMIT,
        }
        (ROOT / "benchmarks" / "results" / "launch-modal.json").write_text(json.dumps(about | found, indent=1) + "\n")
    return 1 if medians["runctl"] > LIMIT else 0


if __name__ == "__main__":
    sys.exit(main())
