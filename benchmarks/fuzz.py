"""Preflight of documents that nobody means: no crash, no second for one of them, no 300 MB.

    python benchmarks/fuzz.py [--documents 20000] [--seed 1] [--keep FOLDER]

Mutations of the shipped configs and of every rule's examples, judged in this process with every rule and rendered in
every format. Exits 1 where one was not stood; `--keep` writes those there.
"""

from __future__ import annotations

import argparse
import collections
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import hostile

MOST_BYTES = 300e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    faults: dict[str, list[hostile.Fault]] = collections.defaultdict(list)
    slowest, began = 0.0, time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for raw in hostile.documents(given.documents, given.seed):
            before = time.process_time()
            if (fault := hostile.fault(raw, Path(folder) / "config.yaml")) is not None:
                faults[fault.what].append(fault)
            slowest = max(slowest, time.process_time() - before)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"{given.documents} documents, seed {given.seed}: {sum(map(len, faults.values()))} not stood; the slowest took "
        f"{slowest:.2f} s of processor time, the process {most / 1e6:.0f} MB; {time.perf_counter() - began:.0f} s in "
        "all"
    )
    for number, (what, found) in enumerate(sorted(faults.items(), key=lambda item: -len(item[1]))):
        print(f"{len(found):6} × {what}")
        if given.keep:
            given.keep.mkdir(parents=True, exist_ok=True)
            (given.keep / f"{number:03}.yaml").write_bytes(min((one.raw for one in found), key=len))
    return 1 if faults or most > MOST_BYTES else 0


if __name__ == "__main__":
    raise SystemExit(main())
