"""The real command line, with another trainer in the place of the built-in one if TORTURE_TRAINER names it."""

from __future__ import annotations

import os
import sys

from runctl.backends import local
from runctl.cli import main

if "TORTURE_TRAINER" in os.environ:
    local.TRAINER[:] = [sys.executable, os.environ["TORTURE_TRAINER"]]
main()
