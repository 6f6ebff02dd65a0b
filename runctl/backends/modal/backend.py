"""Modal as a backend: what launch, the supervisor and the other verbs call. It only says where the work is done."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runctl.backends.modal.plan import Request
from runctl.backends.modal.plan import plan as _plan

if TYPE_CHECKING:
    from runctl.config import RunConfig
    from runctl.evidence import Identity
    from runctl.record import RunDir

_COMMIT_SECONDS = 55.0
_LOOK_SECONDS = 0.05


def plan(config: RunConfig, run_dir: Path, attempt: int, project: Path, grace_seconds: float) -> Request:
    """What would be sent for an attempt. Raises UsageError and ProviderError for what Modal would refuse, and for a
    program that would lack there what it has here."""
    from runctl import __version__, prices
    from runctl import project as projects
    from runctl.backends.modal import costs, place
    from runctl.config import digest
    from runctl.light import replace

    root = run_dir.parent.parent  # of this machine: a run may have been launched on another one
    here = projects.load(root / projects.FILE)
    about, code, notes = place.of(here), None, list[str]()
    if config.task == "command":
        from runctl.backends.modal import program, shipping

        code = shipping.look(root)
        about = replace(about, requirements=shipping.requirements(root, about.requirements))
        notes = program.check(config, code, run_dir, attempt)
    found = _plan(
        config,
        run=run_dir.name,
        attempt=attempt,
        digest=digest(config),
        version=__version__,
        grace_seconds=grace_seconds,
        place=about,
        folder=str(run_dir),
        code=code,
    )
    rates = prices.of("modal", here.prices, prices.live(root, "modal"))
    found.spec["usd_per_hour"] = costs.of_choices(found.gpu, found.cpu, found.memory_mib, rates)
    found.notes.extend(notes)
    return found


def submit(request: Request) -> int:
    """Send it; raises ProviderError, and UsageError for a name that is taken on the volume."""
    from runctl.backends.modal import send

    return send.submit(request)


def stop(supervisor: Identity) -> bool:
    """Nothing of a run on Modal is a process of this machine: `request_stop` is the way."""
    return False


def end_leftover(run: RunDir, attempt: int, grace_seconds: float) -> None:
    """Nothing: a container takes all its processes with it."""


def commit(run: RunDir) -> None:
    """By the supervisor in the container: have its entry commit, and wait for that. Raises OSError where it fails."""
    from runctl.remote.entry import COMMITS

    if COMMITS not in os.environ:
        return
    folder, name = Path(os.environ[COMMITS]), f"{os.getpid()}-{time.monotonic_ns()}"
    begun = folder / f".{name}"
    begun.touch()
    os.replace(begun, folder / f"asked-{name}")
    done, end = folder / f"done-{name}", time.monotonic() + _COMMIT_SECONDS
    while not done.exists():
        if time.monotonic() >= end:
            raise OSError("the volume was not committed in time")
        time.sleep(_LOOK_SECONDS)
    said = json.loads(done.read_text()).get("error")
    done.unlink(missing_ok=True)
    if said:
        raise OSError(said)


def refresh(run: RunDir, seconds: float = 8.0, *, whole: bool = False) -> None:
    from runctl.backends.modal import look

    look.refresh(run, seconds)
    if whole:
        look.whole(run, seconds)


def request_stop(run: RunDir, how: str) -> None:
    from runctl.backends.modal import steer

    steer.request_stop(run, how)


def request_save(run: RunDir, request: dict[str, Any]) -> None:
    from runctl.backends.modal import steer

    steer.request_save(run, request)


def withdraw_save(run: RunDir) -> None:
    from runctl.backends.modal import steer

    steer.withdraw_save(run)


def remove(run: RunDir, inside: str) -> None:
    from runctl.backends.modal import removing

    removing.remove(run, inside)


def give(run: RunDir) -> None:
    from runctl.backends.modal import removing

    removing.give(run)


def stream(run: RunDir) -> Iterator[str]:
    from runctl.backends.modal import steer

    return steer.stream(run)


def fetch(run: RunDir, folder: Path) -> None:
    from runctl.backends.modal import client, copies, look

    client.ask(lambda: copies.fetch(run, look.where(run), client.connect(), folder), client.FETCH_SECONDS)
