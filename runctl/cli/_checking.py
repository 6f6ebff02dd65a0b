"""The course of one `runctl preflight`: check the configs, show the reports in each format, and say the exit code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from runctl import preflight, record, reporting, rules, view
from runctl.errors import Exit, RunctlError, UsageError, did_you_mean
from runctl.preflight import Options, Report
from runctl.view import report as report_view


@dataclass(frozen=True)
class Show:
    """`outputs` are the files of the formats, in order; a format without one goes to stdout, which only one may."""

    formats: tuple[str, ...]
    outputs: tuple[Path, ...] = ()
    fail_on: str = "error"
    explain: bool = False


@dataclass(frozen=True)
class Choice:
    """Which rules: ids or their beginnings, separated by commas."""

    select: str | None = None
    ignore: str | None = None


def run(paths: Sequence[Path], options: Options, show: Show, choice: Choice) -> int:
    """Check, show, and return the exit code. Raises UsageError for options that cannot be meant."""
    if show.fail_on not in ("error", "warning", "never"):
        raise UsageError(f"--fail-on is '{show.fail_on}'; it can be error, warning or never")
    targets = _targets(show)
    only = chosen(choice)
    reports: list[Report] = []
    unreadable: list[RunctlError] = []
    for found in preflight.survey(preflight.expand(paths), options, only):
        if isinstance(found, Report):
            reports.append(found)
        else:
            unreadable.append(found)
            view.print_error(found)
    for form, render, output in targets:
        if output is not None:
            text = render(reports, unreadable)
            record.write_text(output, text if text.endswith("\n") or not text else f"{text}\n")
        elif form == "text":
            report_view.report(reports)
        elif text := render(reports, unreadable):
            typer.echo(text)
    if show.explain:
        for rule in sorted({finding.rule for report in reports for finding in report.findings}):
            typer.echo(f"\n{rules.find(rule).page}")
    if unreadable:
        return Exit.USAGE
    counts = {"error": ("error",), "warning": ("error", "warning"), "never": ()}[show.fail_on]
    return Exit.FINDINGS if any(report.counts[name] for report in reports for name in counts) else Exit.OK


def _targets(show: Show) -> list[tuple[str, Callable[..., str], Path | None]]:
    """Each format with its renderer and its file. The files belong to the last formats: the first may go to stdout."""
    if len(show.outputs) > len(show.formats):
        raise UsageError("there are more --output than --format", hint="give one --format for each --output")
    free = len(show.formats) - len(show.outputs)
    if free > 1:
        raise UsageError("two formats cannot both go to stdout", hint="add --output FILE for all but one of them")
    files = [None] * free + list(show.outputs)
    return [(form, reporting.load(form), file) for form, file in zip(show.formats, files, strict=True)]


def chosen(choice: Choice) -> set[str] | None:
    """The ids that `--select` and `--ignore` leave; None where neither was given."""
    if choice.select is None and choice.ignore is None:
        return None
    known = list(rules.known())
    selected = _named(choice.select, known, "--select") if choice.select is not None else set(known)
    return selected - (_named(choice.ignore, known, "--ignore") if choice.ignore is not None else set())


def _named(text: str, known: Sequence[str], option: str) -> set[str]:
    found: set[str] = set()
    for part in filter(None, (part.strip().upper() for part in text.split(","))):
        matching = {rule for rule in known if rule.startswith(part)}
        if not matching:
            hint = did_you_mean(part, known) or "runctl rules lists them"
            raise UsageError(f"{option}: no rule begins with '{part[:20]}'", hint=hint)
        found |= matching
    return found
