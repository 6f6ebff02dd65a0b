"""Runs side by side on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runctl import view

if TYPE_CHECKING:
    from runctl.compare import Comparison


def comparison(found: Comparison) -> None:
    """A table for each part, and what the bands rest on."""
    from runctl import compare

    for title, rows in compare.rows(found):
        if rows:
            view.table([title, *found.runs], rows)
    for note in compare.notes(found):
        view.err().print(note, markup=False)
