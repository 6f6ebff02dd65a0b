"""Reports as plain text for people: the view's lines without colour (`runctl.view.report` prints them)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from runctl.errors import RunctlError
from runctl.estimate.memory import Memory
from runctl.estimate.time_ import Range
from runctl.facts import Fact, Facts, Finding
from runctl.preflight import Report
from runctl.reporting._coverage import lines as _coverage_lines
from runctl.reporting._coverage import unknown
from runctl.reporting._guards import lines as _guards_of
from runctl.units import counted, format_bytes, format_count, format_duration, format_usd

if TYPE_CHECKING:
    from runctl.base import Comparison

Span = tuple[str, str]  # style ("" for none), text
Line = list[Span]
BRIEF = 3  # more reports than that are told in short
SHORT = 40  # letters of a reason that may be said twice

_STYLE = {"error": "bad", "warning": "warn", "note": "note"}
VERDICT = {
    "ok": ("good", "ok"),
    "warn": ("warn", "warnings"),
    "fail": ("bad", "refused"),
    "other": ("dim", "not a training config"),
    "incomplete": ("warn", "incomplete"),
}


def render(
    reports: Sequence[Report], unreadable: Sequence[RunctlError] = (), comparison: Comparison | None = None
) -> str:
    """The reports, and what is `unreadable`: on a terminal that is told on stderr."""
    told = [f"cannot be read: {error.message}" for error in unreadable]
    return "\n".join([*told, *("".join(text for _, text in line) for line in lines(reports, comparison))])


def lines(reports: Sequence[Report], comparison: Comparison | None = None) -> Iterator[Line]:
    """The whole report, verdict first, as styled lines; against a base, only what differs."""
    if comparison is not None:
        from runctl.reporting import _compared  # which reads this module

        yield from _compared.lines(comparison)
        return
    brief = len(reports) > BRIEF
    told: set[str] = set()
    last_line = 0
    for index, report in enumerate(reports):
        shown = list(one(report, brief, told))
        if index and max(last_line, len(shown)) > 1:
            yield []  # single lines stand together
        last_line = len(shown)
        yield from shown
    configs = [report for report in reports if report.kind == "training"]
    if brief and configs:
        yield []
        yield from _unchecked(configs)
    if len(reports) > 1:
        failed = sum(bool(report.refusals) for report in configs)
        others = len(reports) - len(configs)
        yield []
        if not configs:
            yield [("", "no training config among them"), ("dim", f"  {counted(others, 'other file')}")]
            return
        broken = any(report.kind == "project" and report.errors for report in reports)
        last = "pass" if any(report.facts.foreign for report in configs) else "would launch here"
        yield [
            ("bad" if failed or broken else "good", f"{len(configs) - failed} of {len(configs)} configs {last}"),
            ("bad", ", but the project's own settings are refused" if broken else ""),
            ("dim", f"{_totals(reports)}; {counted(others, 'other file')}" if others else _totals(reports)),
        ]


def one(report: Report, brief: bool, told: set[str] | None = None) -> Iterator[Line]:
    """One report. A `brief` one of a config that passes is its verdict only, and what was not checked is told for all
    of them together. `told` are rules whose reason was given already."""
    told = set() if told is None else told
    style, word = VERDICT[report.verdict]
    yield [(style, word), ("", "  "), ("name", report.path), ("dim", _counts(report))]
    if report.why and report.kind in ("incomplete", "other"):
        kind = "" if report.verdict == report.kind else f"{VERDICT[report.kind][1]}: "
        yield [("dim", f"  {kind}{report.why}")]
    if report.at_launch and not report.facts.foreign:  # which nothing here launches
        yield [("warn", f"  would be refused at launch here: {refusals(report.at_launch)}")]
    for finding in report.findings:
        yield []
        yield from finding_lines(finding, report, again=finding.rule in told)
        told.add(finding.rule)
    if brief and report.verdict == "ok":
        return
    if report.kind == "other":
        yield from _waived(report)
        return
    if report.estimates and report.kind != "incomplete":
        yield []
        yield from estimate_lines(report)
    if brief:
        yield from _waived(report)
        return
    if report.kind != "incomplete":
        yield from _guards(report)
    yield []
    yield from _coverage(report)


def refusals(findings: Sequence[Finding]) -> str:
    """Findings in one line: each rule with what it found."""
    return "; ".join(f"{finding.rule} {finding.message}" for finding in findings)


def finding_lines(finding: Finding, report: Report, *, again: bool = False) -> Iterator[Line]:
    """A finding like a compiler's: what, where, the line with a caret, why (not `again`), and what to do."""
    style = _STYLE[finding.severity or "error"]
    yield [(style, f"{finding.severity} {finding.rule}"), ("", f" {finding.message}")]
    if finding.key == "":  # about the file as a whole, wherever it is said to stand
        yield [("dim", f"  --> {finding.file}")]
        yield from _advice(finding, again)
        return
    yield [("dim", f"  --> {finding.where()}")]
    source = report.document.line(finding.line, finding.file) if report.document and finding.line else ""
    if source.strip() and finding.line and finding.column:
        shown, column = _window(source, finding.column)
        margin = f"{finding.line:>5} | "
        yield [("dim", margin), ("", shown)]
        yield [("dim", " " * 5 + " | "), ("", " " * (column - 1)), (style, "^")]
    yield from _advice(finding, again)


def _advice(finding: Finding, again: bool) -> Iterator[Line]:
    if finding.why and not again:
        yield [("dim", "  why: "), ("", finding.why)]
    if finding.fix:
        yield [("note", "  fix: "), ("", finding.fix)]


def _window(line: str, column: int, width: int = 100) -> tuple[str, int]:
    """A part of a long line around `column`, and the column in it; tabs become spaces."""
    line = line.replace("\t", " ")
    start = max(0, column - 1 - width // 2) if len(line) > width else 0
    part = line[start : start + width]
    part = f"…{part[1:]}" if start else part
    return (f"{part[:-1]}…" if start + width < len(line) else part), column - start


def estimate_lines(report: Report) -> Iterator[Line]:
    """Parameters, length, memory, time and cost: each with its basis, or unknown with why."""
    facts = report.facts
    reasons = unknown(report)
    if len(reasons) == 1 and len(next(iter(reasons.values()))) == len(report.estimates) + 1:
        yield [("dim", f"  nothing is estimated: {next(iter(reasons))}")]
        return
    for name, found in report.estimates.items():
        if isinstance(found, Fact):
            yield _estimate(name, found.value, facts)
        else:
            first = reasons[found.why][0]
            why = found.why if first == name or len(found.why) <= SHORT else f"as the {first}"
            yield [_label(name), ("dim", f"unknown: {why}")]
        if name == "parameters":
            yield _length(facts)
        if name == "cost":
            yield from _worst(facts)


def _worst(facts: Facts) -> Iterator[Line]:
    """What is paid at most, where anything is paid."""
    worst, price = facts.get("estimate.worst_cost"), facts.get("compute.price")
    if worst is not None and worst.usd:
        yield [_label("worst case"), ("", f"{format_usd(worst.usd)}: {worst.words}")]
    elif worst is None and price is not None and price.usd:
        yield [_label("worst case"), ("warn", f"without limit: {facts.why('estimate.worst_cost')}")]


def _estimate(name: str, value: object, facts: Facts) -> Line:
    if isinstance(value, Memory):
        text = f"{format_bytes(value.likely)} ({format_bytes(value.low)} to {format_bytes(value.high)})"
        gpu = facts.get("gpu")
        room = f" of {format_bytes(gpu.usable_bytes)} on {gpu.name}" if gpu else " on the CPU"
        return [_label(name), ("", text + room), ("dim", f"  {value.basis}")]
    if isinstance(value, Range):
        show = format_duration if name == "time" else format_usd
        text = (
            show(value.likely)
            if value.low == value.high
            else f"{show(value.low)} to {show(value.high)}, likely {show(value.likely)}"
        )
        return [_label(name), ("", text), ("dim", f"  {value.basis}")]
    if isinstance(value, int):
        source = facts.source("model.parameters") if facts.get("model.declared") else None
        basis = source.detail if source else "exact"
        return [_label(name), ("", f"{value:,}"), ("dim", f"  {format_count(value)}, {basis}")]
    return [_label(name), ("", str(value))]


def _length(facts: Facts) -> Line:
    steps, epochs, step = facts.get("run.steps"), facts.get("run.epochs"), facts.get("run.step_examples")
    if steps is None:
        return [_label("length"), ("dim", f"unknown: {facts.why('run.steps')}")]
    unit = "window" if not facts.foreign and facts.get("task") != "command" else "example"
    text = counted(steps, "step") + (f" of {counted(step, unit)}" if step else "")
    text += f", {counted(epochs, 'epoch')}" if epochs else ""
    source = facts.source("run.steps")
    detail = source.detail if source else ""
    return [_label("length"), ("", text), ("dim", f"  {detail}" if detail else "")]


def _guards(report: Report) -> Iterator[Line]:
    """What watches the run once it runs, in words."""
    if found := _guards_of(report.facts):
        yield []
        yield [("dim", "  guards")]
    for on, said, origin in found:
        yield [("" if on else "warn", f"    {said}"), ("dim", f"  {origin}" if origin else "")]


def _label(name: str) -> Span:
    return ("", f"  {name:<11}")


def _coverage(report: Report) -> Iterator[Line]:
    coverage = report.coverage
    head = f"  checked {counted(len(coverage.checked), 'rule')}"
    if coverage.not_checked:
        head += f", not checked {len(coverage.not_checked)}:"
    yield [("dim", head)]
    yield from ([("dim", f"    {line}")] for line in _coverage_lines([report]))
    if coverage.off:
        yield [("dim", f"  switched off by the project: {' '.join(coverage.off)}")]
    yield from _waived(report)


def _unchecked(reports: Sequence[Report]) -> Iterator[Line]:
    """The coverage of many configs together."""
    off = sorted({rule for report in reports for rule in report.coverage.off})
    if listed := _coverage_lines(reports):
        yield [("dim", f"not checked in {counted(len(reports), 'config')}:")]
        yield from ([("dim", f"  {line}")] for line in listed)
    if off:
        yield [("dim", f"switched off by the project: {' '.join(off)}")]


def _waived(report: Report) -> Iterator[Line]:
    for finding, waiver in report.waived:
        yield [("dim", f"  waived {finding.rule} ({finding.message}): {waiver.reason}")]


def _counts(report: Report) -> str:
    words = [counted(count, name) for name, count in report.counts.items() if count]
    words += [f"{len(report.waived)} waived"] if report.waived else []
    return f"  {', '.join(words)}" if words else ""


def _totals(reports: Sequence[Report]) -> str:
    sums = [(sum(report.counts[name] for report in reports), name) for name in ("error", "warning")]
    return "  " + ", ".join(counted(number, name) for number, name in sums)
