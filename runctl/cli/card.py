"""`runctl card`: what a run is for, who agreed to it, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runctl.cli.options import ConfigPath, Json, complete_run

app = typer.Typer(help="Draft, check, sign and close run cards.", no_args_is_help=True)


def complete_card(incomplete: str) -> list[str]:
    """Names of cards, for shell completion."""
    from runctl import project
    from runctl.cards import card

    return [path.stem for path in card.every(project.load()) if path.stem.startswith(incomplete)]


Name = Annotated[str, typer.Argument(metavar="CARD", help="A card's name or path.", autocompletion=complete_card)]
By = Annotated[str | None, typer.Option("--as", metavar="NAME", help="Who; without it, the account's name.")]
Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, kept in the card.")]


@app.command()
def new(
    config: ConfigPath,
    baseline: Annotated[
        list[str] | None,
        typer.Option("--baseline", metavar="RUN", help="What it is compared with.", autocompletion=complete_run),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="The card's name; without it, the run's.")] = None,
    as_json: Json = False,
) -> None:
    """Draft a card for a config, with everything in it that can be computed.

    \b
    Examples:
      runctl card new configs/quickstart.yaml
      runctl card new configs/big.yaml --baseline big-1 --name wider
    """
    from runctl import view
    from runctl.cards import desk

    path = desk.new(config, baseline or [], name)
    if as_json:
        view.print_json({"path": str(path), "name": path.stem})
        return
    typer.echo(path)
    view.say(f"now say what the run is for, its targets and its kill thresholds; then: runctl card check {path.stem}")
    view.say(f"and name it in the config: card: {path.parent.name}/{path.name}")


@app.command()
def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CARD]...", help="Cards; without any, all.", autocompletion=complete_card),
    ] = None,
    as_json: Json = False,
) -> None:
    """Hold cards against their configs: exit 1 where one is not in order, says otherwise than its config, or was signed
    for another state of it. A closed card is held to what it said when it was closed.

    \b
    Examples:
      runctl card check wider
      runctl card check
    """
    from runctl import project, view
    from runctl.cards import card, desk
    from runctl.errors import Exit, RunctlError
    from runctl.view import cards as card_view

    found: list[desk.Read | tuple[str, RunctlError]] = []
    for name in names or [str(path) for path in card.every(project.load())]:
        try:
            found.append(desk.read(name))
        except RunctlError as error:
            if names and len(names) == 1:
                raise
            found.append((name, error))
    if as_json:
        cards = [
            {"path": one[0], "error": one[1].to_json()} if isinstance(one, tuple) else one.to_json() for one in found
        ]
        view.print_json({"cards": cards})
    else:
        card_view.checked(found)
    if any(isinstance(one, tuple) or card_view.faults(one) or one.broken for one in found):
        raise typer.Exit(Exit.FINDINGS)


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """Show a card: what it is for, who agreed and whether that still holds, and what is wrong with it.

    \b
    Examples:
      runctl card show wider
      runctl card show runcards/wider.md --json
    """
    from runctl import view
    from runctl.cards import desk
    from runctl.view import cards as card_view

    found = desk.read(name)
    if as_json:
        view.print_json({"card": found.to_json()})
    else:
        card_view.card(found)


@app.command()
def diff(
    name: Name,
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="What ran by it.", autocompletion=complete_run)
    ] = None,
    whole: Annotated[bool, typer.Option("--all", help="Also the rows that agree.")] = False,
    as_json: Json = False,
) -> None:
    """Compare a card with its config and with what ran, tables and every key of the config: exit 1 where they differ.

    \b
    Examples:
      runctl card diff wider
      runctl card diff wider wider-2
    """
    from runctl import record, view
    from runctl.cards import desk, differing
    from runctl.errors import Exit, UsageError

    if run is not None and not run.strip():
        raise UsageError("RUN is empty", hint=f"runctl card diff {name} compares with the config only")
    found = desk.read(name)
    closed = found.card.contract.closed
    rows = differing.rows(found, record.find(found.project.root, run) if run else None)
    shown, besides = [row for row in rows if whole or row.differs], differing.texts(found)
    if as_json:
        names = ("table", "name", "card", "config", "ran", "differs")
        listed = [{key: getattr(row, key) for key in names} for row in shown]
        view.print_json({"rows": listed, "besides": besides})
    else:
        if shown:
            columns = ["", "card, as signed", "config", *([run] if run else [])]
            view.table(columns, [[row.name, row.card, row.config, *([row.ran] if run else [])] for row in shown])
        for one in besides:
            typer.echo(one)
        if not shown and not besides:
            typer.echo(_agree(found.card.name, closed, run))
    if any(row.differs for row in rows) or besides:
        raise typer.Exit(Exit.FINDINGS)


def _agree(name: str, closed: bool, run: str | None) -> str:
    if closed:
        return f"{name} is closed, and held to no config any more" + (f"; {run} ran so" if run else "")
    return "card and config agree" + (f", and {run} ran so" if run else "")


@app.command("list")
def list_cards(as_json: Json = False) -> None:
    """The board: every card with its state, its signatures and its verdict.

    \b
    Examples:
      runctl card list
      runctl card list --json
    """
    from runctl import project, view
    from runctl.cards import card, desk
    from runctl.errors import RunctlError
    from runctl.view import cards as card_view

    found: list[desk.Read | tuple[str, RunctlError]] = []
    for path in card.every(project.load()):
        try:
            found.append(desk.read(str(path)))
        except RunctlError as error:
            found.append((str(path), error))
    if as_json:
        cards = [
            {"path": one[0], "error": one[1].to_json()} if isinstance(one, tuple) else one.to_json() for one in found
        ]
        view.print_json({"cards": cards})
    else:
        card_view.board(found)


@app.command()
def sign(
    name: Name,
    verdict: Annotated[str, typer.Option("--verdict", metavar="VERDICT", help="approve, block or comment.")],
    by: By = None,
    comment: Annotated[str | None, typer.Option("-m", "--message", metavar="TEXT", help="What you say to it.")] = None,
    as_json: Json = False,
) -> None:
    """Sign a card: for its text, its config and its dataset as they are now. A change of any of them voids it.

    \b
    Exit codes: 0 signed · 4 refused: the card disagrees with its config, or its run is over.

    \b
    Examples:
      runctl card sign wider --as Ada --verdict approve
      runctl card sign wider --as Bo --verdict block -m "the batch does not fit"
    """
    from runctl import view
    from runctl.cards import desk, launched
    from runctl.errors import UsageError
    from runctl.view import cards as card_view

    if verdict not in ("approve", "block", "comment"):
        raise UsageError(f"--verdict is '{verdict}'", hint="it can be approve, block or comment")
    found = desk.sign(name, by or desk.someone(), verdict, comment)  # type: ignore[arg-type]
    begun = launched.begun(found.card, found.project.root)
    if as_json:
        view.print_json({"card": found.to_json(), "after": begun})
    else:
        card_view.signed(found, begun)


@app.command()
def amend(
    name: Name,
    why: Why,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="CONFIG", help="Where the card's config lies now.")
    ] = None,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Change what was agreed before results are seen: the tables are computed anew, and who signed signs again.

    \b
    Exit codes: 0 amended · 4 refused: a run by the card has begun, or it is closed.

    \b
    Examples:
      runctl card amend wider --why "4,096 does not fit: back to 1,024" --as Ada
      runctl card amend wider --config configs/old/wider.yaml --why "it was moved"
    """
    from runctl import view
    from runctl.cards import desk
    from runctl.view import cards as card_view

    found, differs = desk.amend(name, by or desk.someone(), why, config)
    if as_json:
        view.print_json({"card": found.to_json(), "changed": list(differs)})
    else:
        card_view.amended(found, differs)


@app.command()
def close(
    name: Name,
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run that has ended.", autocompletion=complete_run)],
    by: By = None,
    again: Annotated[
        str | None,
        typer.Option("--again", metavar="WHY", help="Close a closed card anew; its verdict so far is kept beside."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fill in what came of a run: targets met, missed or within noise, the baseline, estimate against actual.

    \b
    Judged is by what was agreed when the run started; what the card says since stands beside it, as not agreed.

    \b
    Exit codes: 0 closed, whatever the verdict · 2 the run goes on · 4 the card was closed with another run, or is
    closed and would say something else now.

    \b
    Examples:
      runctl card close wider wider-2
      runctl card close wider wider-2 --again "two more seeds have ended"
    """
    from runctl import view
    from runctl.cards import closing, desk
    from runctl.errors import UsageError
    from runctl.view import cards as card_view

    if again is not None and not again.strip():
        raise UsageError("--again is empty", hint="say why the card is closed anew")
    found, outcome = closing.close(name, run, by or desk.someone(), again)
    if as_json:
        view.print_json({"card": found.to_json(), "outcome": outcome.to_json()})
    else:
        card_view.closed(found, outcome)


@app.command()
def deviate(name: Name, why: Why, by: By = None, as_json: Json = False) -> None:
    """Write down that something was done otherwise than agreed, after results could be seen.

    \b
    Examples:
      runctl card deviate wider --why "the GPU was an H100, not an A100" --as Ada
    """
    from runctl import view
    from runctl.cards import closing, desk

    found = closing.deviate(name, by or desk.someone(), why)
    if as_json:
        view.print_json({"card": found.to_json()})
    else:
        typer.echo(found.card.path)
