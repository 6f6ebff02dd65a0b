"""The run directory: the only package that knows its paths.

    runs/<run>/
      run.json                written once by launch
      code.diff               what was not committed at launch
      events.jsonl            appended by the supervisor only
      attempts/<n>/           start.json (launch or resume), log.txt, resumed.json, heartbeat.json and
                              result.json (trainer), exit.json (supervisor)
      metrics.jsonl           appended by rank 0 of the trainer
      checkpoints/step-…/     manifest.json is written last; `checkpoints/latest` names the newest whole one
      summary.json            the result contract, written once, at the end

One writer per file. Whole or absent: every file but the two logs is written under a temporary name, flushed and
renamed; a line of a log without its newline does not exist yet.

files       how a file is written, and read by who does not trust it
paths       where everything of a run lies
runs        the runs of a project: their names, one of them, all of them
held        run.json as it holds for an attempt, after what resumes have changed
"""

from __future__ import annotations

from runctl.record.files import (
    MOST_BYTES,
    append_line,
    damage,
    no_link,
    open_file,
    private,
    private_as,
    read_bytes,
    read_head,
    read_json,
    read_lines,
    read_object,
    sync_folder,
    write_json,
    write_text,
)
from runctl.record.held import CARRIED, HELD, carried, changed, content, started
from runctl.record.paths import Attempt, RunDir, own, runs_root
from runctl.record.runs import check_name, find, glance, list_runs

__all__ = [
    "CARRIED",
    "HELD",
    "MOST_BYTES",
    "SCHEMA_VERSION",
    "Attempt",
    "RunDir",
    "append_line",
    "carried",
    "changed",
    "check_name",
    "content",
    "damage",
    "find",
    "glance",
    "list_runs",
    "no_link",
    "open_file",
    "own",
    "private",
    "private_as",
    "read_bytes",
    "read_head",
    "read_json",
    "read_lines",
    "read_object",
    "runs_root",
    "started",
    "sync_folder",
    "write_json",
    "write_text",
]

SCHEMA_VERSION = 1
