"""`runctl preflight`: is this config safe, will it fit, how long, how much?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runctl.cli.options import Gpu, Json, Set, complete_config


def command(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="CONFIG...", help="YAML files, or folders of them.", autocompletion=complete_config),
    ],
    settings: Set = None,
    gpu: Gpu = None,
    adapter: Annotated[
        str | None,
        typer.Option("--adapter", metavar="NAME|FILE", help="How to read the configs; without it they are recognised."),
    ] = None,
    overlays: Annotated[
        list[Path] | None,
        typer.Option("--with", metavar="BASE", help="A file that lies under every config. Repeatable, lowest first."),
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--source", metavar="DIR", help="The training code: finds keys that it never reads.")
    ] = None,
    online: Annotated[
        bool, typer.Option("--online", help="Also look at what is in no file: credentials, uncommitted work.")
    ] = False,
    select: Annotated[str | None, typer.Option("--select", metavar="RULES", help="Only these rules: CK,ME101.")] = None,
    ignore: Annotated[str | None, typer.Option("--ignore", metavar="RULES", help="Not these rules: CK103,TM.")] = None,
    fail_on: Annotated[
        str, typer.Option("--fail-on", metavar="SEVERITY", help="Exit 1 on: error, warning or never.")
    ] = "error",
    forms: Annotated[
        list[str] | None,
        typer.Option("--format", metavar="FORMAT", help="text, json, github, sarif, markdown or comment. Repeatable."),
    ] = None,
    outputs: Annotated[
        list[Path] | None,
        typer.Option("--output", metavar="FILE", help="Where the --format before it goes; without it: stdout."),
    ] = None,
    base: Annotated[
        str | None, typer.Option("--base", metavar="REF", help="Show what differs from this git ref: origin/main.")
    ] = None,
    new_only: Annotated[
        bool, typer.Option("--new-only", help="With --base: only findings that it did not have fail.")
    ] = False,
    baseline: Annotated[
        Path | None,
        typer.Option("--baseline", metavar="FILE", help="Findings that are known; without it: as runctl.yaml says."),
    ] = None,
    create_baseline: Annotated[
        bool, typer.Option("--create-baseline", help="Write what is found now to the baseline: only new findings fail.")
    ] = False,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended without changing what is meant.")] = False,
    unsafe: Annotated[bool, typer.Option("--unsafe", help="With --fix: also what changes how the run goes.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Show what --fix would change, and change nothing.")] = False,
    as_json: Json = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="The whole page of every rule that found something.")
    ] = False,
) -> None:
    """Check configs before a cent is spent: every rule, the estimates, and what could not be checked.

    It reads runctl's own configs and other trainers'. Files of one call are also compared with each other.

    \b
    Exit codes: 0 no errors · 1 errors found (with --fail-on warning: or warnings) · 2 missing or not YAML.

    \b
    Examples:
      runctl preflight configs/quickstart.yaml
      runctl preflight configs/                               every config of a folder
      runctl preflight configs/big.yaml --gpu T4 --set training.batch_size=4096
      runctl preflight configs/*.yaml --json --fail-on warning
      runctl preflight axolotl.yml --gpu A100-80GB:2          another trainer's config
      runctl preflight configs/ --format text --format sarif --output runctl.sarif
      runctl preflight configs/ --base origin/main            what a change does to cost, memory, findings
      runctl preflight configs/ --diff --unsafe               what could be mended, as a diff
      runctl preflight configs/ --create-baseline             from now on, only new findings fail
    """
    from runctl.cli import _checking as checking
    from runctl.preflight import Options

    if as_json and forms and set(forms) != {"json"}:
        from runctl.errors import UsageError

        other = next(form for form in forms if form != "json")
        hint = f"for both: --format json --format {other} --output FILE"
        raise UsageError("--json is --format json, and --format says otherwise", hint=hint)
    known = str(baseline) if baseline is not None else None
    options = Options(settings or (), gpu, adapter, tuple(overlays or ()), source, online=online, known=known)
    choice = checking.Choice(select, ignore)
    if fix or diff or unsafe or create_baseline:
        from runctl.cli import _mending as mending

        code = mending.run(paths, options, choice, mending.Ask(fix, unsafe, diff, create_baseline))
        if code is not None:
            raise typer.Exit(code)
    code = checking.run(
        paths,
        options,
        checking.Show(
            ("json",) if as_json else tuple(forms or ("text",)), tuple(outputs or ()), fail_on, explain, base, new_only
        ),
        choice,
    )
    if code:
        raise typer.Exit(code)
