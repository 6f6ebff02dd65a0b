"""The text report of configs against a base: what differs, then each finding that is new."""

from __future__ import annotations

from collections.abc import Iterator

from runctl.base import Change, Comparison
from runctl.facts import Finding
from runctl.reporting import _words, text
from runctl.units import counted

_STATES = {"affected": "changed by what it stands on"}


def lines(comparison: Comparison) -> Iterator[text.Line]:
    """Each change, then what was left out."""
    yield [("", "compared with "), ("name", comparison.ref), ("dim", f"  {comparison.commit[:10]}")]
    if comparison.note:
        yield [("warn", f"  {comparison.note}")]
    for change in comparison.changes:
        yield []
        yield from _one(change)
    if not comparison.changes:
        yield [("good", "  no config changed")]
    if left := _words.left_out(comparison):
        yield []
        yield [("dim", left)]


def _one(change: Change) -> Iterator[text.Line]:
    if change.now is None:
        yield [("dim", "deleted"), ("", "  "), ("name", change.path)]
        return
    if change.state == "new":
        first, *rest = text.one(change.now, brief=False)
        yield [*first, ("dim", "  new file")]
        yield from rest
        return
    style, word = text.VERDICT[change.now.verdict]
    state = f"renamed from {change.was}" if change.was else _STATES.get(change.state, change.state)
    yield [(style, word), ("", "  "), ("name", change.path), ("dim", f"  {state}{_counts(change)}")]
    if change.before is not None and change.before.verdict != change.now.verdict:
        yield _row("verdict", f"{_words.VERDICTS[change.before.verdict]} → {_words.VERDICTS[change.now.verdict]}")
    if change.broken:
        yield [("warn", f"  its base version could not be judged: {change.broken}")]
    rows = [_row(row.name, row.arrow) for row in _words.rows(change)]
    yield from rows
    if not rows and change.before is not None:
        yield [("dim", "  no difference in cost, time, memory or parameters")]
    if change.now.at_launch:
        yield [("warn", f"  would be refused at launch here: {text.refusals(change.now.at_launch)}")]
    for finding in change.new:
        yield []
        first, *rest = text.finding_lines(finding, change.now)
        yield [("", "new "), *first] if not change.broken else first
        yield from rest
    yield from _named("fixed", "good", change.fixed)
    yield from _named("waived now", "dim", change.waived)
    yield from _named("kept", "dim", change.kept)


def _row(name: str, words: str) -> text.Line:
    return [("", f"  {name:<11}"), ("", words)]


def _named(word: str, style: str, findings: tuple[Finding, ...]) -> Iterator[text.Line]:
    for finding in findings:
        yield [(style, f"  {word} {finding.severity} {finding.rule}"), ("", f" {finding.message}")]


def _counts(change: Change) -> str:
    words = [counted(len(change.new), "new finding")] if change.new else []
    words += [f"{len(change.fixed)} fixed"] if change.fixed else []
    words += [f"{len(change.kept)} kept"] if change.kept else []
    return f": {', '.join(words)}" if words else ""
