"""How a report names files: from the repository's root, as GitHub and SARIF do, wherever the command was called."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from runctl.team import baseline

DOCS = "RUNCTL_DOCS"


def in_repository(file: str) -> str:
    """A file's path from the root of the git repository around the current folder, else from that folder; with
    forward slashes."""
    return baseline.relative(file, root(str(Path.cwd())))


@lru_cache(maxsize=8)
def root(folder: str) -> Path:
    """The nearest folder upward that holds `.git`, else the folder itself."""
    start = Path(folder).resolve()
    return next((one for one in (start, *start.parents) if (one / ".git").exists()), start)


def page(rule: str) -> str | None:
    """The address of a rule's page, where `$RUNCTL_DOCS` says where the pages are."""
    docs = os.environ.get(DOCS, "").rstrip("/")
    return f"{docs}/{rule}.md" if docs.startswith(("https://", "http://")) else None
