"""A supervisor whose backend writes down each commit, and what of the run it found.

python fake_backend.py RUN_DIR fail|""
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from runctl import backends, record
from runctl.supervisor import process
from runctl.supervisor.supervise import supervise


class Volume:
    """`fail`: the first commit fails."""

    def __init__(self, fail: bool) -> None:
        self.fail = fail

    def commit(self, run: record.RunDir) -> None:
        time.sleep(0.05)
        if self.fail:
            self.fail = False
            raise OSError("the volume is busy")
        seen = sorted(folder.name for folder in run.checkpoints.glob("step-*"))
        row = {"checkpoints": seen, "exit": run.attempt(1).exit.exists(), "summary": run.summary.exists()}
        record.append_line(run.path.parent / "commits.jsonl", row)


if __name__ == "__main__":
    process.forget_signals()
    volume = Volume(sys.argv[2] == "fail")
    backends.load = lambda name: volume  # type: ignore[assignment, return-value]
    supervise(record.RunDir(Path(sys.argv[1])), 1, 5.0)
