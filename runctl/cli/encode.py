"""`runctl encode`: replays or simulated games → an encoded dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runctl.cli.options import ConfigPath, Json, Set, overrides

if TYPE_CHECKING:
    from runctl.config import LoadedConfig


def command(
    config: ConfigPath,
    replays: Annotated[
        list[Path] | None,
        typer.Option("--replays", metavar="PATH", help="A replay, or a folder of .slp and .slp.gz files. Repeatable."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Default: data.encoded.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse if any replay would be skipped.")] = False,
    workers: Annotated[int | None, typer.Option("--workers", min=1, max=256, help="Default: one per core.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a dataset of another encoding.")] = False,
    on: Annotated[
        str, typer.Option("--on", metavar="BACKEND", help="Where: local, or modal in CPU containers beside each other.")
    ] = "local",
    containers: Annotated[
        int, typer.Option("--containers", min=1, max=100, help="With --on modal: at most so many at once.")
    ] = 8,
    settings: Set = None,
    as_json: Json = False,
) -> None:
    """Encode replays (or, without --replays, the config's simulated games) into a dataset.

    Ctrl-C keeps what is done; the same command continues it.

    \b
    Examples:
      runctl encode configs/melee-small.yaml --replays replays/
      runctl encode configs/quickstart.yaml --out data/simulated
      runctl encode configs/melee-small.yaml --replays replays/ --strict --json
      runctl encode configs/melee-small.yaml --replays replays/ --on modal    onto the volume of runctl.yaml
    """
    from runctl import config as configs
    from runctl import install, project, view
    from runctl.errors import UsageError
    from runctl.view import encode as encode_view

    loaded = configs.load(config, overrides(settings))
    data = loaded.config.data
    if out is None and data.encoded is None:
        raise UsageError(f"{config} has no data.encoded", hint="say where to put the dataset with --out DIR")
    if not replays and data.simulate is None:
        raise UsageError(f"nothing to encode: {config} simulates no games", hint="give replays with --replays PATH")
    try:
        from runctl.tasks.worldmodel import encode, sources
    except ModuleNotFoundError as missing:
        message = f"encoding needs {missing.name}, which is not installed"
        hint = f"{install.hint('train')}; for real replays: {install.hint('melee')}"
        raise UsageError(message, hint=hint) from None

    if on != "local":
        _elsewhere(on, config, loaded, replays or [], strict, overwrite, containers, out, as_json)
        return
    target = out if out is not None else project.root(config) / str(data.encoded)
    found = sources.simulated(data.simulate) if data.simulate and not replays else sources.replays(replays or [])
    try:
        with encode_view.bar(len(found), simulated=not replays) as advance:
            report = encode.encode(
                found,
                loaded.config.encoding,
                target,
                workers=workers,
                strict=strict,
                overwrite=overwrite,
                max_games=data.max_games,
                train_split=data.train_split,
                progress=advance,
            )
    except KeyboardInterrupt:
        view.say(f"\nwhat is done is kept beside [name]{target}[/name]; the same command continues it")
        raise
    if as_json:
        view.print_json(
            {
                "path": str(report.out),
                "simulated": report.simulated,
                "up_to_date": report.up_to_date,
                "games": report.games,
                "frames": report.frames,
                "bytes_per_frame": report.record_bytes,
                "seconds": round(report.seconds, 3),
                "frames_per_second": round(report.frames_per_second),
                "sources_taken_over": report.continued,
                "encoding_digest": report.encoding_digest,
                "skipped_counts": report.skipped_counts,
                "skipped": [
                    {"source": skip.source, "reason": skip.reason, "detail": skip.detail} for skip in report.skipped
                ],
            }
        )
        return
    encode_view.report(report)


def _elsewhere(
    on: str,
    config: Path,
    loaded: LoadedConfig,
    replays: list[Path],
    strict: bool,
    overwrite: bool,
    containers: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Encode in a provider's containers, onto its volume."""
    from dataclasses import asdict

    from runctl import project as projects
    from runctl import view
    from runctl.errors import UsageError
    from runctl.view import data as data_view

    if on != "modal":
        raise UsageError(f"--on {on[:40]}: it can be local or modal")
    if out is not None or not replays:
        what = "the place on the volume follows from data.encoded" if out else "simulated games are encoded in the run"
        raise UsageError(f"--on modal: {what}", hint="leave --out away" if out else "give replays with --replays PATH")
    from runctl.backends.modal import encoding, place

    project = projects.load(config)
    with data_view.steps() as advance:
        done = encoding.encode(
            loaded.config,
            project.root,
            place.of(project),
            replays,
            strict=strict,
            overwrite=overwrite,
            containers=containers,
            progress=advance,
        )
    if as_json:
        view.print_json(asdict(done))
        return
    data_view.encoded(done)
