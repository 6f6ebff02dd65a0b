"""Where a run goes on: its newest whole checkpoint, the same in all processes that share it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runctl import config as configs
from runctl import record
from runctl.config import RunConfig
from runctl.errors import CheckpointError
from runctl.train import checkpoint, sharing
from runctl.train.checkpoint import Loaded
from runctl.train.ranks import Ranks


def take_up(
    run: record.RunDir, config: RunConfig, identity: Mapping[str, str], accepted: Any, ranks: Ranks
) -> tuple[Loaded | None, list[str]]:
    """(the checkpoint, None if there never was one; half-written ones that were removed). The first process looks,
    sets damaged ones aside and names the one that all read. Raises CheckpointError, also for one of another number of
    processes where that would change what is drawn at random."""
    removed: list[str] = []
    if ranks.seat.first:
        removed = checkpoint.clean(run)
        loaded = checkpoint.load_newest(run, identity, accepted)
        ranks.told(loaded.path.name if loaded else "")
    else:
        name = ranks.told()
        loaded = checkpoint.load(run.checkpoints / name, identity, accepted) if name else None
    if loaded is not None:
        _check_processes(loaded, config, accepted, ranks.seat.size)
    return loaded, removed


def _check_processes(loaded: Loaded, config: RunConfig, accepted: Any, size: int) -> None:
    before = int(loaded.manifest.get("surroundings", {}).get("processes", "1"))
    if before == size or (
        isinstance(accepted, list) and not {"training.processes", "compute.gpu"}.isdisjoint(accepted)
    ):
        return
    if drawn := sharing.draws(configs.to_effective(config)):
        raise CheckpointError(
            f"checkpoint {loaded.path.name} is of a run of {before} processes, and here are {size}: each draws its own "
            f"random numbers for {drawn}, so that this would not be the same run",
            hint=f"resume it with training.processes={before}; or accept that these draws go on otherwise: --set "
            f"training.processes={size} --accept-changes",
        )
