"""The figures of docs/performance.md, measured in one go: `make bench`, or `make bench BENCH=--quick`.

    python benchmarks [--quick] [--only train,loop] [--docs]

Runs each part as a program of its own, one after the other, and writes what all found to
`benchmarks/results/<date>-<device>.json`, with a Markdown table beside it; `--docs` also puts the table into
docs/performance.md. A part that fails is named with its last words, and the others go on; then the exit code is 1.
Environments of the programs that runctl is compared with are made at the first run, which needs the network.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import table
from bench import machine, write

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs" / "performance.md"
PARTS: dict[str, tuple[str, str]] = {  # name: (what is added, what --quick adds instead)
    "mamba_peers": ("--compiled --memory", "--memory --seconds 2"),
    "train": ("", "--seconds 3"),
    "gather": ("", "--rounds 3"),
    "opening": ("", "--rounds 3"),
    "loop": ("", "--rounds 8 --steps 200"),
    "checkpoint": ("", "--rounds 3"),
    "ddp": ("", "--seconds 8"),
    "step_profile": ("", ""),
}
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few minutes in all, with more noise")
    parser.add_argument("--only", default=",".join(PARTS), help="parts by comma")
    parser.add_argument("--docs", action="store_true", help="put the table into docs/performance.md")
    options = parser.parse_args()
    names = [name for name in options.only.split(",") if name]
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    found: dict[str, Any] = {"machine": machine(), "quick": options.quick, "parts": {}}
    out = HERE / "results" / f"{found['machine']['date']}-{slug(found['machine'])}.json"
    if out.exists() and len(names) < len(
        PARTS
    ):  # parts that are measured anew take the place of the day's earlier ones
        found["parts"] = json.loads(out.read_text())["parts"]
    for name in names:
        print(f"\n== {name}", flush=True)
        found["parts"][name] = run(name, PARTS[name][options.quick].split())
    write(out, found)
    told = table.markdown(found)
    out.with_suffix(".md").write_text(told)
    print(f"\n{told}\nwritten: {out.relative_to(HERE.parent)} and {out.with_suffix('.md').name}")
    if options.docs:
        put(DOCS, told)
    return int(any("failed" in found["parts"][name] for name in names))


def run(name: str, extra: list[str]) -> dict[str, Any]:
    """What a part wrote, with the seconds it took; or its last words."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.json"
        argv = [sys.executable, str(HERE / f"{name}.py"), "--json", str(file), *extra]
        done = subprocess.run(argv, stderr=subprocess.PIPE, text=True, check=False)
        sys.stderr.write(done.stderr)
        found: dict[str, Any] = {}
        if file.exists():
            found = json.loads(file.read_text())
        else:
            found["failed"] = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return found | {"seconds": round(time.monotonic() - began, 1), "exit_code": done.returncode}


def slug(about: dict[str, Any]) -> str:
    """The device as a file's name: `amd-epyc-2-cores`, `nvidia-h200`."""
    device = about.get("gpu") or f"{about['cpu']} {about['cores']} cores"
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def put(page: Path, told: str) -> None:
    """The table between the marks of a page."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{told.strip()}\n\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
