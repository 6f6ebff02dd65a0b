"""`python -m runctl.supervisor RUN_DIR --attempt N [--grace SECONDS] [--backoff SECONDS] [--close]`.

Started by a backend, not by people. `--close` ends what a lost supervisor left behind, and
writes the record that it could not write.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from runctl.record import RunDir
from runctl.supervisor import process
from runctl.supervisor.restarts import BACKOFF_SECONDS
from runctl.supervisor.supervise import GRACE_SECONDS, close, supervise


def main() -> int:
    parser = argparse.ArgumentParser(prog="runctl.supervisor")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--grace", type=float, default=GRACE_SECONDS)
    parser.add_argument("--backoff", type=float, default=BACKOFF_SECONDS, help="pause before the first restart")
    parser.add_argument("--close", action="store_true")
    arguments = parser.parse_args()
    process.forget_signals()
    run = RunDir(arguments.run_dir.resolve())
    process.keep_private(run.path)
    if arguments.close:
        return close(run, arguments.attempt, arguments.grace)
    return supervise(run, arguments.attempt, arguments.grace, arguments.backoff)


sys.exit(main())
