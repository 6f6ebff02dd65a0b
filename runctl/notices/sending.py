"""Start the sender: a short-lived process that outlives whoever starts it, so that no run waits for a service.

What it is to say goes by its standard input, the addresses by the environment that it inherits; its arguments, which
other users of the machine can read, say nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from runctl.notices.targets import Target
from runctl.supervisor.process import importable

MOST_SECONDS = 60  # of a sender's life
MOST_NEWS = 20  # told by one sender
ARGV = [sys.executable, "-P", "-m", "runctl.notices.send"]


def payload(
    run: Path | None, attempt: int, news: Sequence[dict[str, Any]], targets: Sequence[Target], **more: Any
) -> bytes:
    """What a sender reads. `news` are {"kind", "row"}; they fit into a pipe, so that writing them never waits."""
    data = {
        "run_dir": None if run is None else str(run),
        "attempt": attempt,
        "targets": [one.to_json() for one in targets],
        "news": list(news)[-MOST_NEWS:],
        **more,
    }
    return json.dumps(data).encode()


def start(data: bytes) -> subprocess.Popen[bytes]:
    """Start a sender and leave it alone. Raises OSError if that cannot be."""
    sender = subprocess.Popen(
        ARGV,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=importable(dict(os.environ)),
        start_new_session=True,
    )
    assert sender.stdin is not None
    with suppress(OSError):
        sender.stdin.write(data)
        sender.stdin.close()
    return sender


def ask(data: bytes) -> list[dict[str, Any]]:
    """Run a sender to its end, and what it says of each target. Raises subprocess.TimeoutExpired."""
    done = subprocess.run(
        ARGV, input=data, capture_output=True, env=importable(dict(os.environ)), timeout=MOST_SECONDS + 10, check=False
    )
    rows = []
    for line in done.stdout.splitlines():
        with suppress(ValueError):
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict)]


def test(targets: Sequence[Target]) -> list[dict[str, Any]]:
    """Send a test to each; [{"to", "sent", "why"}] in their order."""
    try:
        said = {str(row.get("to")): row for row in ask(payload(None, 1, [{"kind": "test"}], targets, report=True))}
    except (OSError, subprocess.SubprocessError) as error:
        said = {one.env: {"why": f"the sender did not end: {type(error).__name__}"} for one in targets}
    rows = []
    for one in targets:
        row = said.get(one.env, {"why": "the sender ended without a word"})
        rows.append({"to": one.env, "sent": row.get("sent") is True, "why": str(row.get("why") or "")})
    return rows
