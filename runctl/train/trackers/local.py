"""The local record: every row goes to the run's metrics.jsonl. It always runs, and its failure ends the run."""

from __future__ import annotations

from typing import Any

from runctl import record


class Local:
    """Appends rows to metrics.jsonl, the truth that everything else reads."""

    def __init__(self, run: record.RunDir) -> None:
        self._path = run.metrics

    def log(self, row: dict[str, Any]) -> None:
        """Append one row; raises OSError that names the file."""
        try:
            record.append_line(self._path, row)
        except OSError as error:
            error.filename = str(self._path)
            raise
