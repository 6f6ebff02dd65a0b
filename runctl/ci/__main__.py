"""`python -m runctl.ci check|comment`: the steps of the GitHub Action."""

from __future__ import annotations

import os
import sys

from runctl.ci import check, comment

STEPS = {"check": check.step, "comment": comment.step}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in STEPS:
        sys.exit(f"usage: python -m runctl.ci {'|'.join(STEPS)}")
    sys.exit(STEPS[sys.argv[1]](os.environ))
