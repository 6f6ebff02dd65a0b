"""`runctl adapt`: how is this config read, and what adapter would read all of it?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runctl.cli.options import Json, Set, complete_config


def command(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="The config.", autocompletion=complete_config)
    ] = None,
    adapter: Annotated[
        str | None,
        typer.Option("--adapter", metavar="NAME|FILE", help="How to read it; without it that is recognised."),
    ] = None,
    overlays: Annotated[
        list[Path] | None,
        typer.Option("--with", metavar="BASE", help="A file that lies under the config. Repeatable, lowest first."),
    ] = None,
    settings: Set = None,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What the proposed adapter is called.")] = "ours",
    write: Annotated[
        Path | None,
        typer.Option("--write", metavar="FILE", help="Write the proposed adapter there; - for stdout alone."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file of --write.")] = False,
    facts: Annotated[bool, typer.Option("--facts", help="List every fact that an adapter may give.")] = False,
    as_json: Json = False,
) -> None:
    """Show how a config is read, fact by fact, and propose an adapter for what is not recognised.

    An adapter is data: which key of your configs is which fact. docs/adapters.md tells its language.

    \b
    Examples:
      runctl adapt exp.yaml                                which dialect, which facts, which keys nobody reads
      runctl adapt exp.yaml --write adapters/ours.yaml     write the proposed adapter
      runctl adapt exp.yaml --adapter adapters/ours.yaml   and try it
      runctl adapt --facts                                 every fact that an adapter may give
    """
    from runctl import adapt, proposal, record, view
    from runctl.errors import UsageError
    from runctl.light import asdict
    from runctl.preflight import Options
    from runctl.view import adapt as show

    if facts:
        listed = list(adapt.words())
        if as_json:
            view.print_json({"facts": [dict(zip(("name", "value", "meaning"), row, strict=True)) for row in listed]})
        else:
            show.words(listed)
        return
    if config is None:
        raise UsageError("no config was given", hint="runctl adapt CONFIG; runctl adapt --facts lists the facts")
    alone = write is not None and str(write) == "-"
    if write is not None and not alone and write.exists() and not force:
        raise UsageError(f"{write} exists, and nothing was written", hint="add --force to overwrite it")
    found = adapt.read(config, Options(settings or (), None, adapter, tuple(overlays or ())))
    text = "" if found.dialect == "native" or found.foreign_to_training else proposal.adapter(found, name)
    if write is not None and not text:
        why = "it is runctl's own" if found.dialect == "native" else found.kind_why
        raise UsageError(f"{config} needs no adapter: {why}")
    if write is not None and alone:
        typer.echo(text, nl=False)
        return
    if as_json:
        unsaid = ("taken", "match", "extends", "foreign_to_training")
        given = {key: value for key, value in asdict(found).items() if key not in unsaid}
        for one in given["unread"]:
            del one["value"]  # it may be a secret
        view.print_json({**given, "adapter": text or None})
    else:
        show.adapted(found)
    if write is not None:
        record.write_text(write, text)
        view.say(f"wrote {write}: check it, and name it under adapters: in runctl.yaml")
    elif text and not as_json:
        typer.echo(f"\n{text}", nl=False)
