"""What `runctl preflight` does to files: `--fix`, `--diff` and `--create-baseline`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from runctl import preflight, surveys, view
from runctl import project as projects
from runctl.cli import _checking as checking
from runctl.errors import Exit, RunctlError, UsageError
from runctl.mending import fix
from runctl.preflight import Options, Report
from runctl.team import baseline
from runctl.units import counted


@dataclass(frozen=True)
class Ask:
    fix: bool = False
    unsafe: bool = False
    diff: bool = False
    create_baseline: bool = False


def run(paths: Sequence[Path], options: Options, choice: checking.Choice, ask: Ask) -> int | None:
    """Do what is asked; None where the usual report comes after it, else the exit code. Raises UsageError."""
    only = checking.chosen(choice)
    if ask.create_baseline:
        if ask.fix or ask.diff or ask.unsafe:
            raise UsageError("--create-baseline and --fix are two steps", hint="fix first, then make the baseline")
        return _create(paths, options, only)
    if ask.unsafe and not (ask.fix or ask.diff):
        raise UsageError("--unsafe says which changes --fix may make", hint="give --fix --unsafe, or --diff --unsafe")
    return _fix(preflight.expand(paths), options, only, ask)


def _fix(files: Sequence[Path], options: Options, only: set[str] | None, ask: Ask) -> int | None:
    mended = []
    for file in files:
        if file.name == projects.FILE:
            continue
        try:
            mended.append(fix.mend(file, options, only, unsafe=ask.unsafe))
        except UsageError:
            if options.overrides:
                raise
            continue  # what cannot be read, the report says
    if not ask.diff:
        for one in mended:
            if one.changed:
                fix.write(one)
    for one in mended if ask.diff else ():
        typer.echo(one.diff(), nl=False)
    lines = fix.told(mended)
    if ask.diff:
        lines = [line.replace("fixed ", "would fix ", 1) if line.startswith("fixed ") else line for line in lines]
    for line in lines:
        typer.echo(line, err=True)
    if more := sum(one.unsafe for one in mended):
        typer.echo(f"{counted(more, 'more change')} with --unsafe", err=True)
    if not ask.diff:
        return None
    return Exit.FINDINGS if any(one.changed for one in mended) else Exit.OK


def _create(paths: Sequence[Path], options: Options, only: set[str] | None) -> int:
    files = preflight.expand(paths)
    roots = {projects.root(file): projects.load(file) for file in files}
    if len(roots) > 1:
        hint = "make one baseline for each project"
        raise UsageError("these configs belong to several projects", hint=hint)
    (project,) = roots.values()
    given = Path(options.known) if options.known else None
    target = given or baseline.place(project) or project.root / baseline.FILE
    reports: list[Report] = []
    errors: list[RunctlError] = []
    for found in surveys.survey(files, replace(options, known=""), only):
        if isinstance(found, Report):
            reports.append(found)
        else:
            errors.append(found)
    for error in errors:
        view.print_error(error)
    if errors:
        raise UsageError("no baseline was written: some of the files cannot be read")
    configs = [report for report in reports if report.kind != "project"]
    fresh = [mark for report in configs for mark in baseline.fingerprints(report.findings, project.root)]
    judged = {(baseline.relative(one.path, project.root), rule) for one in configs for rule in one.coverage.checked}
    before = baseline.rows(target)
    kept = [
        row
        for row in before
        if (row.get("path"), row.get("rule")) not in judged and (project.root / str(row.get("path"))).exists()
    ]
    count = baseline.write(target, fresh, kept, project.root)
    gone = {row["fingerprint"] for row in before} - {row["fingerprint"] for row in baseline.rows(target)}
    shown = baseline.relative(str(target))
    dropped = f", {len(gone)} dropped" if gone else ""
    typer.echo(f"{shown}: {counted(count, 'known finding')}{dropped}", err=True)
    hard = [finding for finding, _ in fresh if finding.rule in preflight.UNWAIVABLE]
    if hard:
        rules = ", ".join(sorted({finding.rule for finding in hard}))
        typer.echo(f"not in it, since no baseline hides them: {counted(len(hard), 'finding')} of {rules}", err=True)
    if given is None and project.baseline is None:
        name = target.relative_to(project.root).as_posix()
        typer.echo(f"add to {projects.FILE}, so that every preflight reads it:  baseline: {name}", err=True)
    return Exit.OK
