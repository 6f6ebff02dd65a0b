"""The baseline: findings that were there when a team began, known and counted, so that only new ones fail.

A file of JSON, one known finding on each line, so that git merges and shows it well:

    {"schema_version": 1, "findings": [
      {"fingerprint": "…", "rule": "CK101", "path": "configs/old.yaml", "key": "checkpoint.every", "message": "…"}
    ]}

Only the fingerprint counts; the rest is for people.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from runctl.facts import Finding


def fingerprint(finding: Finding, nth: int = 0, root: Path | None = None) -> str:
    """32 hex digits that stay when lines move: of the rule, the file (relative to the project's `root`), the key, and
    which of several such findings it is (`nth`, from 0)."""
    parts = (finding.rule, relative(finding.file, root), finding.key or "", str(nth))
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def fingerprints(findings: Iterable[Finding], root: Path | None = None) -> Iterator[tuple[Finding, str]]:
    """Each finding with its fingerprint, counted in the order of their places."""
    seen: dict[tuple[str, str | None, str | None], int] = {}
    for finding in sorted(findings, key=lambda one: (one.file or "", one.line or 0, one.column or 0)):
        alike = (finding.rule, finding.file, finding.key)
        nth = seen.get(alike, 0)
        seen[alike] = nth + 1
        yield finding, fingerprint(finding, nth, root)


def relative(file: str | None, root: Path | None = None) -> str:
    """A file's path from the project's root (else from here), with forward slashes, the same on every machine."""
    if file is None:
        return ""
    base = (root or Path.cwd()).resolve()
    path = Path(file).resolve()
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else Path(file).as_posix()
