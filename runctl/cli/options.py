"""Arguments and options that several commands share, so that one thing has one name and one help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def complete_run(incomplete: str) -> list[tuple[str, str]]:
    """Names of runs, those that go on and then the newest first, each with its state as far as a list is read."""
    from runctl import project
    from runctl.status import listing

    found = listing.named(project.root(), incomplete, _WITH_STATE)
    return [(name, " ".join(words.split())) for name, words in found]


_WITH_STATE = 40


def complete_config(incomplete: str) -> list[str]:
    """YAML files and folders that begin with what was typed, for shell completion."""
    base = Path(incomplete)
    folder = base if incomplete.endswith("/") else base.parent
    found = sorted(folder.glob("*")) if folder.is_dir() else []
    wanted = (".yaml", ".yml", ".json", "")
    names = [f"{entry}/" if entry.is_dir() else str(entry) for entry in found if entry.suffix in wanted]
    return [name for name in names if name.startswith(incomplete)]


ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="The YAML file.", autocompletion=complete_config)]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="The run's name.", autocompletion=complete_run)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, with a schema_version.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting: training.batch_size=256. Repeatable."),
]
Gpu = Annotated[
    str | None, typer.Option("--gpu", metavar="NAME[:N]", help="Where it would run: a GPU of runctl gpus, or none.")
]


def overrides(settings: list[str] | None, gpu: str | None = None) -> list[str]:
    """`--set` and `--gpu` as one list of overrides; raises UsageError where `--gpu` is not NAME or NAME:COUNT."""
    from runctl.adapters import overlay

    return overlay.native(settings or [], gpu)
