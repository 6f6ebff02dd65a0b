"""The course of one `runctl preflight`: check the configs, show the reports in each format, and say the exit code."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from runctl import preflight, record, reporting, rules, surveys, view
from runctl.errors import Exit, RunctlError, UsageError, did_you_mean
from runctl.light import dataclass
from runctl.preflight import Options, Report
from runctl.view import report as report_view

if TYPE_CHECKING:
    from runctl.base import Comparison


@dataclass(frozen=True)
class Show:
    """`outputs` are the files of the formats, in order; a format without one goes to stdout, which only one may.
    `base` is a git ref to compare with; with `new_only`, what the base had already does not fail."""

    formats: tuple[str, ...]
    outputs: tuple[Path, ...] = ()
    fail_on: str = "error"
    explain: bool = False
    base: str | None = None
    new_only: bool = False


@dataclass(frozen=True)
class Choice:
    """Which rules: ids or their beginnings, separated by commas."""

    select: str | None = None
    ignore: str | None = None


def run(paths: Sequence[Path], options: Options, show: Show, choice: Choice) -> int:
    """Check, show, and return the exit code. Raises UsageError for options that cannot be meant."""
    if show.fail_on not in ("error", "warning", "never"):
        raise UsageError(f"--fail-on is '{show.fail_on}'; it can be error, warning or never")
    _collect_seldom()
    targets = _targets(show)
    only = chosen(choice)
    if show.new_only and show.base is None:
        raise UsageError("--new-only needs a base to know what is new", hint="add --base origin/main")
    brief = not set(show.formats) - {"text", "github", "sarif"}
    reports, unreadable, comparison = _judged(paths, options, only, show.base, brief)
    for error in unreadable:
        view.print_error(error)
    for form, render, output in targets:
        if output is not None:
            text = view.writable(render(reports, unreadable, comparison))
            record.write_text(output, text if text.endswith("\n") or not text else f"{text}\n")
        elif form == "text":
            report_view.report(reports, comparison)
        elif text := render(reports, unreadable, comparison):
            typer.echo(view.writable(text))
    if show.explain:
        for rule in sorted({finding.rule for report in reports for finding in report.findings}):
            typer.echo(f"\n{rules.find(rule).page}")
    if unreadable:
        return Exit.USAGE
    counts = {"error": ("error",), "warning": ("error", "warning"), "never": ()}[show.fail_on]
    counted = comparison.new if comparison and show.new_only else [one for report in reports for one in report.findings]
    return Exit.FINDINGS if any(finding.severity in counts for finding in counted) else Exit.OK


def _judged(
    paths: Sequence[Path], options: Options, only: set[str] | None, ref: str | None, brief: bool
) -> tuple[list[Report], list[RunctlError], Comparison | None]:
    """The reports, the errors of files that cannot be read, and how the reports differ from the base's."""
    comparison: Comparison | None = None
    found: Iterable[Report | RunctlError]
    for path in paths:
        if path.name.upper() in rules.known() and not path.exists():
            hint = f"runctl rules {path.name.upper()} prints a rule's page; --explain adds those of what is found"
            raise UsageError(f"no such file: {path}", hint=hint)
    if ref is None:
        found = surveys.survey(preflight.expand(paths), options, only, processes=_processes(), brief=brief)
    else:
        from runctl import base  # a comparison is asked for in CI only

        judged = base.compare(paths, ref, options, only)
        found, comparison = (*judged.reports, *judged.unreadable), judged.comparison
    reports: list[Report] = []
    unreadable: list[RunctlError] = []
    for one in found:
        if not isinstance(one, Report):
            unreadable.append(one)
        elif one.kind != "project" or one.findings:
            reports.append(one)
    return reports, unreadable, comparison


def _processes() -> int:
    """How many may judge a long list: two, where this process may use two processors."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(1)
    return min(2, len(usable))


def _collect_seldom() -> None:
    """A survey makes millions of objects that stay until its end; looking through them for circles took a third of its
    time. What circles there are is still found, now and then."""
    gc.freeze()
    gc.set_threshold(200_000, 50, 1_000)


def _targets(show: Show) -> list[tuple[str, Callable[..., str], Path | None]]:
    """Each format with its renderer and its file. The files belong to the last formats: the first may go to stdout."""
    for output in show.outputs:
        if output.is_dir():
            raise UsageError(f"--output {output} is a folder", hint="name a file in it")
        above = next((folder for folder in output.absolute().parents if folder.exists()), None)
        if above is not None and not above.is_dir():
            raise UsageError(f"--output {output}: {above.name} is a file, not a folder", hint="give another place")
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
    if not selected:
        raise UsageError("--select names no rule, so that nothing would be checked", hint="runctl rules lists them")
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
