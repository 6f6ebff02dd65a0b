"""Reports as Markdown, for a job's summary: the verdict and the money first, one table, the details folded away.

Text of a config is never markup here: it cannot add links, tags, mentions or table cells. GitHub takes 1 MiB for a
step's summary; what does not fit is left out as whole parts, and said.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from runctl import base
from runctl.errors import RunctlError
from runctl.facts import Finding
from runctl.preflight import Report
from runctl.reporting import _cards, _guards, _places, _words
from runctl.units import counted, format_usd

if TYPE_CHECKING:
    from runctl.base import Change, Comparison

LIMIT = 1_000_000  # bytes; GitHub's is 1 MiB
CARDS = "**run cards**\n\n"
_ROOM = 300  # for the notice of what was left out
_MARKUP = re.compile(r"([\\`*\[\]|~])|(?<![^\W_])_|_(?![^\W_])")
_LIVE = re.compile(r"@(?=\w)|:(?=//)|www(?=\.)", re.IGNORECASE)  # what GitHub makes a mention or a link of


def render(
    reports: Sequence[Report],
    unreadable: Sequence[RunctlError] = (),
    comparison: Comparison | None = None,
    limit: int = LIMIT,
) -> str:
    parts = [_head(reports, unreadable, comparison)]
    parts += [f"- **cannot be read**: {plain(error.message)}\n" for error in unreadable]
    if comparison is None:
        parts += _table(("config", "verdict", "GPU", "time", "cost", "memory", "findings"), map(_row, reports))
        parts += _board(reports, comparison)
        parts += [_details(report) for report in reports if report.findings or report.waived]
    else:
        if comparison.note:
            parts.append(f"{plain(comparison.note)}\n\n")
        columns = ("config", "verdict", "cost", "time", "memory", "parameters", "new", "fixed", "kept")
        parts += _table(columns, map(_changed_row, comparison.changes)) if comparison.changes else []
        if left := _words.left_out(comparison):
            parts.append(f"{plain(left)}.\n\n")
        parts += _board(reports, comparison)
        parts += [_changed_details(change) for change in comparison.changes]
    parts.append(_watched(reports if comparison is None else [one.now for one in comparison.changes if one.now]))
    parts.append(_not_checked(reports))
    return _fitted([part for part in parts if part], limit)


def plain(text: str) -> str:
    """Text as it is, whatever markup it seems to hold; on one line."""
    text = html.escape(" ".join(text.split()), quote=False)
    return _LIVE.sub(r"\g<0><!-- -->", _MARKUP.sub(r"\\\g<0>", text))


def code(text: str) -> str:
    """Text in the font of code, in a table too."""
    shown = html.escape(" ".join(text.split()), quote=False).replace("|", "&#124;").replace("`", "&#96;")
    dead = _LIVE.sub(r"\g<0><!-- -->", _MARKUP.sub(_entity, shown))
    return f"<code>{dead}</code>"


def _entity(match: re.Match[str]) -> str:
    return f"&#{ord(match[0])};"


def _head(reports: Sequence[Report], unreadable: Sequence[RunctlError], comparison: Comparison | None) -> str:
    configs = [one for one in reports if one.verdict == "fail" or one.kind not in ("project", "other")]
    failed = sum(report.verdict == "fail" for report in configs) + len(unreadable)
    total = len(configs) + len(unreadable)
    if comparison is not None:
        moved = len(comparison.changes)
        words = f"{counted(moved, 'config')} changed" if moved else "no config changed"
        words += f", {counted(len(comparison.new), 'new finding')}" if comparison.new else ""
        words += f"; {failed} of {counted(total, 'config')} refused" if failed else ""
    else:
        words = f"{failed} of {counted(total, 'config')} refused" if failed else f"{counted(total, 'config')} pass"
    text = f"### runctl preflight: {words}\n\n"
    if cost := _cost(reports, comparison):
        text += f"**{cost}**\n\n"
    if comparison is not None:
        text += f"Compared with {code(comparison.ref)} ({code(comparison.commit[:10])}).\n\n"
    return text


def _cost(reports: Sequence[Report], comparison: Comparison | None) -> str:
    """What the runs cost together, with a base only the changed ones and what it was before."""
    if comparison is None:
        now, unknown = _words.total_cost(reports)
        before = None
    else:
        now, unknown = _words.total_cost(change.now for change in comparison.changes if change.now)
        before, _ = _words.total_cost(change.before for change in comparison.changes if change.before)
    if now is None:
        return ""
    was = "" if before is None or base.same(before, now) else f"{format_usd(before)} → "
    suffix = f" ({counted(unknown, 'config')} of unknown cost not counted)" if unknown else ""
    return f"likely cost {was}{format_usd(now)}{suffix}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table: its head first, so that it can be cut after any row."""
    yield f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"
    for row in rows:
        yield f"| {' | '.join(row)} |\n"
    yield "\n"


def _row(report: Report) -> tuple[str, ...]:
    found = base.measures(report)
    cells = [_words.shown(name, found[name]) for name in ("gpu", "time", "cost", "memory")]
    if report.kind != "training":
        cells = ["" for _ in cells]
    return (code(report.path), plain(_words.VERDICTS[report.verdict]), *map(plain, cells), _words.counts(report))


def _changed_row(change: Change) -> tuple[str, ...]:
    name = code(change.path) + (f"<br>was {code(change.was)}" if change.was else "")
    if change.now is None:
        return (name, "deleted", "", "", "", "", "", "", "")
    found = base.measures(change.now)
    moved = {row.name: row.arrow for row in _words.rows(change)}
    cells = [moved.get(one) or _words.shown(one, found[one]) for one in ("cost", "time", "memory", "parameters")]
    if change.now.kind != "training":
        cells = ["" for _ in cells]
    verdict = _words.VERDICTS[change.now.verdict]
    before = _words.VERDICTS[change.before.verdict] if change.before else change.state
    verdict = verdict if before == verdict else f"{before} → {verdict}"
    numbers = [str(len(found)) if found else "" for found in (change.new, change.fixed, change.kept)]
    return (name, plain(verdict), *(plain(cell) for cell in cells), *numbers)


def _changed_details(change: Change) -> str:
    lines = [f"**{plain(_words.headline(change))}**\n\n"]
    if change.broken:
        lines.append(f"The base version could not be judged: {plain(change.broken)}\n\n")
    for word, findings in (("New", change.new), ("Fixed", change.fixed), ("Kept", change.kept)):
        if findings and change.state != "deleted":
            show = _gone if word == "Fixed" else _finding
            lines.append(f"{word}:\n\n" + "".join(map(show, findings)) + "\n")
    if change.waived:
        lines.append(f"Waived or known now: {plain(_words.titles(change.waived))}\n\n")
    if change.now is not None and change.now.at_launch:
        lines.append(_refused(change.now))
    return _folded(f"{code(change.path)}: {change.state}", "".join(lines))


def _board(reports: Sequence[Report], comparison: Comparison | None) -> Iterator[str]:
    """The run cards: what each is at, who signed and whether that holds, and whether the run may start."""
    found = _cards.rows(reports, comparison)
    if not found:
        return
    yield CARDS
    rows = [
        (
            code(row.card),
            code(row.config) if row.config else "",
            plain(row.state),
            "<br>".join(plain(one.words) for one in row.signed) or "nobody",
            "may be launched" if row.refusal is None else plain(row.refusal),
            plain(row.goal),
        )
        for row in found
    ]
    yield from _table(("card", "config", "state", "signed", "launch", "goal"), rows)
    lines = [
        f"- {code(row.card)}: {plain(one.by)}’s {one.verdict} was for another state: {plain('; '.join(one.void))}\n"
        for row, one in _cards.voids(found)
    ]
    if lines:
        yield _folded("signatures that no longer hold", "".join(lines) + "\n")


def _details(report: Report) -> str:
    lines = [_finding(finding) for finding in report.findings]
    lines += [f"- waived {one.rule}: {plain(one.message)} — {plain(waiver.reason)}\n" for one, waiver in report.waived]
    if report.at_launch:
        lines.append("\n" + _refused(report))
    return _folded(f"{code(report.path)}: {_words.counts(report)}", "".join(lines) + "\n")


def _refused(report: Report) -> str:
    told = "; ".join(f"{one.rule} {one.message}" for one in report.at_launch)
    return f"Would be refused at launch here: {plain(told)}\n\n"


def _finding(finding: Finding) -> str:
    page = _places.page(finding.rule)
    rule = f"[{finding.rule}]({page})" if page else finding.rule
    where = f" ({code(f'line {finding.line}')})" if finding.line else ""
    fix = f"<br>fix: {plain(finding.fix)}" if finding.fix else ""
    return f"- **{finding.severity} {rule}** {plain(finding.message)}{where}{fix}\n"


def _gone(finding: Finding) -> str:
    return f"- {finding.severity} {finding.rule} {plain(finding.message)}\n"


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{text}</details>\n\n"


def _watched(reports: Sequence[Report]) -> str:
    """The guards of the runs, in words; configs with the same guards share a list."""
    lists: dict[tuple[str, ...], list[str]] = {}
    for report in reports:
        said = _guards.lines(report.facts) if report.kind == "training" else []
        told = tuple(f"- {plain(text)}" + (f" ({code(origin)})" if origin else "") + "\n" for _, text, origin in said)
        if told:
            lists.setdefault(told, []).append(code(report.path))
    if not lists:
        return ""
    text = "".join(f"{', '.join(paths)}:\n\n{''.join(told)}\n" for told, paths in lists.items())
    return _folded("what would watch these runs", text)


def _not_checked(reports: Sequence[Report]) -> str:
    """Why rules could not judge, each reason once with its rules and in how many configs."""
    reasons: dict[str, dict[str, int]] = {}
    for report in reports:
        for rule, why in report.coverage.not_checked.items():
            rules = reasons.setdefault(why, {})
            rules[rule] = rules.get(rule, 0) + 1
    if not reasons:
        return ""
    lines = [
        f"- {plain(why)}: {' '.join(rules)} ({counted(max(rules.values()), 'config')})\n"
        for why, rules in sorted(reasons.items(), key=lambda item: -max(item[1].values()))
    ]
    return _folded(f"not checked: {counted(len(lines), 'reason')}", "".join(lines) + "\n")


def _fitted(parts: Sequence[str], limit: int) -> str:
    """As many whole parts, in order, as fit; then what was left out."""
    sizes = [len(part.encode("utf-8", "backslashreplace")) for part in parts]
    if sum(sizes) <= limit:
        return "".join(parts)
    kept: list[str] = []
    room = limit - _ROOM
    for part, size in zip(parts, sizes, strict=True):
        if size > room:
            break
        room -= size
        kept.append(part)
    missing = len(parts) - len(kept)
    return (
        "".join(kept)
        + f"\n\n> **Cut here**: {counted(missing, 'part')} of this report did not fit. `runctl preflight` prints all.\n"
    )
