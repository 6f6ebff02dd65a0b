"""Environments of their own for the programs that benchmarks compare with, never the project's.

Each is a folder in a cache (RUNCTL_BENCH_CACHE, or `runctl-bench` in the temporary folder), made once and used again.
torch is the one that runs the benchmark: the environment sees its folder behind its own packages, so that all compare
on the same build, and pip, which finds it there, fetches no other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from importlib import metadata
from pathlib import Path

CACHE = Path(os.environ.get("RUNCTL_BENCH_CACHE") or Path(tempfile.gettempdir()) / "runctl-bench")
KEPT = ("torch", "numpy")  # of the project's environment


def python(name: str, *requirements: str) -> Path:
    """The Python of the environment of that name, made if it is not there with just these requirements."""
    folder = CACHE / name
    executable, mark = folder / "bin" / "python", folder / "made.json"
    torch = metadata.distribution("torch")
    wanted = {"requirements": list(requirements), "python": sys.version, "torch": torch.version}
    if mark.exists() and json.loads(mark.read_text()) == wanted:
        return executable
    print(f"making the environment {folder}: {' '.join(requirements)}", file=sys.stderr, flush=True)
    venv.create(folder, clear=True, symlinks=True)
    site = next((folder / "lib").glob("python*")) / "site-packages"
    (site / "behind.pth").write_text(f"{torch.locate_file('')}\n")
    pins = folder / "constraints.txt"
    pins.write_text("".join(f"{one}=={metadata.version(one).partition('+')[0]}\n" for one in KEPT))
    pip = [sys.executable, "-m", "pip", "--python", str(executable), "--disable-pip-version-check", "install", "-q"]
    subprocess.run([*pip, "-c", str(pins), *requirements], check=True)
    mark.write_text(json.dumps(wanted))
    return executable


def versions(executable: Path, *names: str) -> dict[str, str]:
    """The versions of packages in an environment."""
    code = "import json, sys; from importlib.metadata import version as v; "
    code += "print(json.dumps({name: v(name) for name in sys.argv[1:]}))"
    said = subprocess.run([executable, "-c", code, *names], check=True, capture_output=True, text=True).stdout
    return dict(json.loads(said))
