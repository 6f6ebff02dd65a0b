"""How a config is read, on the terminal: the dialect, each fact, what is not known, and what nobody read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from runctl.view.report import styled

if TYPE_CHECKING:
    from runctl.adapt import Adapted
    from runctl.reporting.text import Line


def adapted(found: Adapted) -> None:
    """All that is known of how it is read, on stdout."""
    styled(_lines(found))


def words(found: Iterable[tuple[str, str, str]]) -> None:
    """Every fact that an adapter may give."""
    styled(_columns([[("name", name), ("dim", kind), ("", meaning)] for name, kind, meaning in found]))


def _lines(found: Adapted) -> Iterator[Line]:
    yield [
        ("name", found.path),
        ("", " is read as "),
        ("name", found.dialect),
        ("", f" ({found.title or 'an adapter of your own'}): {found.because}"),
    ]
    if found.kind != "training":
        so_far = "no training config" if found.foreign_to_training else "no whole training config, as it is read now"
        yield [("warn", f"{so_far}: "), ("", found.kind_why)]
    if found.foreign_to_training:
        return
    if found.launch:
        yield [("", f"launched by: {' '.join(found.launch)}"), ("dim", "  (runctl does not run it)")]
    known = [row for row in found.rows if row.value is not None]
    if known:
        yield []
        yield [("", "each fact, its value, and where that comes from")]
        yield from _columns(
            [
                [
                    ("", f"  {row.fact}"),
                    ("good" if row.origin == "file" else "", f"{row.value} {row.unit}".strip()),
                    ("", row.key if row.key != row.fact else ""),
                    ("dim", row.where),
                ]
                for row in known
            ]
        )
    unknown = [row for row in found.rows if row.value is None]
    if unknown:
        yield []
        yield [("", "not known, and why")]
        yield from _columns([[("", f"  {row.fact}"), ("dim", row.why)] for row in unknown])
    if found.unread:
        yield []
        yield [("", "keys that no fact takes")]
        yield from _columns(
            [
                [
                    ("warn" if one.guess else "", f"  {one.key}"),
                    ("note", f"perhaps {one.guess}" if one.guess else ""),
                    ("dim", one.where),
                ]
                for one in found.unread
            ]
        )


def _columns(rows: Sequence[Line]) -> Iterator[Line]:
    """Rows with their columns aligned, never wrapped or cut."""
    widths = [max(len(row[index][1]) for row in rows) for index in range(len(rows[0]))] if rows else []
    for row in rows:
        cells = [(style, text.ljust(width)) for (style, text), width in zip(row, widths, strict=True)]
        spaced: Line = [part for cell in cells for part in (cell, ("", "  "))][:-1]
        while spaced and not spaced[-1][1].strip():
            spaced.pop()
        if spaced:
            spaced[-1] = (spaced[-1][0], spaced[-1][1].rstrip())
        yield spaced
