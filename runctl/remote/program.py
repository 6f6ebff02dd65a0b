"""A program of one's own in a container: its code, and what it saves where nobody keeps it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runctl import record


def lay_out(project: Path) -> None:
    """The project's code, as it was sent, into a folder of its own that the program may write to."""
    import runctl
    from runctl.backends.modal.shipping import FOLDER

    sent = Path(runctl.__file__).parent.parent / FOLDER
    if sent.is_dir():
        shutil.copytree(sent, project, dirs_exist_ok=True)


def warn(run: record.RunDir) -> bool:
    """Say of checkpoints that lie outside of the run's folder that they go with this container; whether it was said."""
    from runctl import record

    rows = record.read_object(run.saved).get("checkpoints")
    paths = [str(row.get("path")) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    lost = [path for path in paths if os.path.isabs(path)]
    if lost:
        words = f"{lost[-1]} lies outside of the run's folder (RUNCTL_RUN_DIR), and goes with this container"
        print(words, file=sys.stderr, flush=True)
    return bool(lost)
