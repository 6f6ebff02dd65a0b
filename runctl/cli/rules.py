"""`runctl rules`: every rule, or the page of one."""

from __future__ import annotations

from typing import Annotated

import typer

from runctl.cli.options import Json


def complete_rule(incomplete: str) -> list[str]:
    from runctl import rules

    return [rule for rule in rules.known() if rule.startswith(incomplete.upper())]


def command(
    rule: Annotated[
        str | None, typer.Argument(metavar="[RULE]", help="Print this rule's page.", autocompletion=complete_rule)
    ] = None,
    as_json: Json = False,
) -> None:
    """List the rules of preflight, or print the page of one: why it exists, examples, what to do.

    \b
    Examples:
      runctl rules
      runctl rules CK101
    """
    from runctl import project, rules, view
    from runctl.rules import pages
    from runctl.team import policy

    chosen = [rules.find(rule)] if rule else list(rules.known().values())
    if as_json:
        keys = ("id", "title", "severity", "page")
        view.print_json({"rules": [{key: getattr(one, key) for key in keys} for one in chosen]})
    elif rule:
        typer.echo(pages.page(chosen[0]), nl=False)
    else:
        view.table(["rule", "severity", "finds"], [[one.id, one.severity, one.title] for one in chosen])
        current = policy.read(project.load().policy)
        rows = [[name, current.show(name), value.meaning] for name, value in policy.VALUES.items()]
        view.table(["policy value", "is", "meaning"], rows)
