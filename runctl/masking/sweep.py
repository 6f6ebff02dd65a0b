"""`python -m runctl.masking.sweep RUN_DIR --attempt N`: what the library finds in an attempt that has ended, hidden.

Started by the supervisor as its last act, in a session of its own: the library takes memory and time that neither the
supervisor nor the run's end may wait for. What it finds is added to events.jsonl as the supervisor would.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from runctl import record
from runctl.masking import files, known, library
from runctl.notices import targets

MOST_SECONDS = 60
MOST_BYTES = 64 << 20


def main() -> int:
    parser = argparse.ArgumentParser(prog="runctl.masking.sweep")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--attempt", type=int, required=True)
    arguments = parser.parse_args()
    signal.alarm(2 * MOST_SECONDS)
    with suppress(OSError):
        os.nice(10)
    sweep(record.RunDir(arguments.run_dir.resolve()), arguments.attempt)
    return 0


def sweep(run: record.RunDir, number: int) -> int:
    """Hide what the library's detectors and runctl's own find in an attempt's texts; returns how much."""
    content = record.read_object(run.run)
    values = known.of_environment(addresses=[one.env for one in targets.recorded(content)])
    deadline, total = time.monotonic() + MOST_SECONDS, 0
    for path in texts(run, number):
        masker = files.Masker(path, values, library.detectors)
        with suppress(OSError):
            found = masker.look(MOST_BYTES, max(0.0, deadline - time.monotonic()))
            tell(run, number, path, found)
            total += len(found)
        masker.close()
    return total


def texts(run: record.RunDir, number: int) -> tuple[Path, ...]:
    """The files of an attempt, and of its run, that hold text of the program's."""
    attempt = run.attempt(number)
    return (attempt.log, attempt.hang, attempt.stacks, *attempt.ranks.glob("*.stacks.txt"), run.supervisor_log)


def tell(run: record.RunDir, number: int, path: Path, found: list[files.Found]) -> None:
    """One event for each kind of secret in a file, with its first line and how often."""
    for kind in dict.fromkeys(one.kind for one in found):
        lines = [one.line for one in found if one.kind == kind]
        facts = {"file": os.path.relpath(path, run.path), "line": lines[0], "detector": kind, "count": len(lines)}
        record.append_line(run.events, {"time": time.time(), "event": "secret_masked", "attempt": number, **facts})


if __name__ == "__main__":
    sys.exit(main())
