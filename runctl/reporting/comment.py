"""Reports as Markdown for a comment on a pull request: with a hidden mark by which the comment is found again, and
within what GitHub takes for a comment (64 KiB)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from runctl.errors import RunctlError
from runctl.preflight import Report
from runctl.reporting import markdown

if TYPE_CHECKING:
    from runctl.base import Comparison

LIMIT = 65_000  # bytes; GitHub's is 65,536 characters
MARK = "<!-- runctl preflight -->"


def render(
    reports: Sequence[Report], unreadable: Sequence[RunctlError] = (), comparison: Comparison | None = None
) -> str:
    return f"{MARK}\n{markdown.render(reports, unreadable, comparison, LIMIT - len(MARK) - 1)}"
