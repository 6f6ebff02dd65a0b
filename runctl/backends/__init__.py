"""Backends: where a run executes. One file each, named like the backend, found by being there; or a room with
`backend.py` in it.

A backend module offers five functions:

    plan(config, run_dir, attempt, project, grace_seconds) -> Request   pure: what would be started, printable
    submit(request) -> int                                start it, detached; returns the supervisor's pid
    stop(supervisor) -> bool                              ask it to stop its trainer; False: it does not live here
    end_leftover(run, attempt, grace_seconds)             end what a lost supervisor left behind
    commit(run)                                           make durable what the run directory holds; by the supervisor,
                                                          after each checkpoint and once an attempt has ended

One whose runs are on a provider's machines (their folder here holds `remote.json`) also offers those of `Remote`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from runctl.errors import UsageError, did_you_mean
from runctl.light import asdict, dataclass, field

if TYPE_CHECKING:
    from runctl.config import RunConfig
    from runctl.evidence import Identity
    from runctl.record import RunDir


@dataclass(frozen=True)
class Request:
    """What a backend would start. `supervisor` and `trainer` are argument lists, never shell strings; `notes` say
    what of the config this backend does not act on."""

    backend: str
    run: str
    run_dir: str
    attempt: int
    supervisor: list[str]
    trainer: list[str]
    cwd: str
    log: str
    timeout_seconds: float | None
    grace_seconds: float
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Backend(Protocol):
    def plan(self, config: RunConfig, run_dir: Path, attempt: int, project: Path, grace_seconds: float) -> Request: ...

    def submit(self, request: Request) -> int: ...

    def stop(self, supervisor: Identity) -> bool: ...

    def end_leftover(self, run: RunDir, attempt: int, grace_seconds: float) -> None: ...

    def commit(self, run: RunDir) -> None: ...


class Remote(Backend, Protocol):
    """A backend whose runs are elsewhere: their records here are copies, and someone else's service is asked."""

    def refresh(self, run: RunDir, seconds: float = 8.0, *, whole: bool = False) -> None:
        """Bring the records up to date; never raises for what cannot be learned. `whole`: large logs, too."""

    def request_stop(self, run: RunDir, how: str) -> None:
        """Ask for the end: `gently` (save, then end), `cancel` (the same, by the service's own means), or `now`."""

    def request_save(self, run: RunDir, request: dict[str, Any]) -> None:
        """Have a request for a checkpoint laid before the run's supervisor (`supervisor/saving.py`); raises
        ProviderError."""

    def withdraw_save(self, run: RunDir) -> None:
        """Take such a request back, as far as nobody has it yet."""

    def remove(self, run: RunDir, inside: str) -> None:
        """Delete what lies at a path within a closed run there, or all of it (`""`). Raises ProviderError, and
        RefusedError where the run goes on or was resumed elsewhere."""

    def give(self, run: RunDir) -> None:
        """Put the records of a closed run there as they are here now; raises ProviderError."""

    def stream(self, run: RunDir) -> Iterator[str]:
        """What the machines of a run that goes on print, from the service itself; raises ProviderError."""

    def fetch(self, run: RunDir, folder: Path) -> None:
        """Bring the files of a checkpoint here."""


def remote(name: str) -> Remote:
    """The backend of a run that has a `remote.json`."""
    return cast(Remote, load(name))


def grace(config: RunConfig) -> float:
    """Seconds from the request to stop to the kill: what the config says, else what the provider gives, else 60."""
    return grace_of(config.compute.backend, config.compute.grace)


def grace_of(backend: str, said: float | None) -> float:
    """`grace` of a config that says `said`."""
    from runctl import hardware
    from runctl.supervisor.supervise import GRACE_SECONDS

    provider = hardware.catalogue().providers.get(backend)
    given = provider.limits.grace if provider and provider.limits else None
    return said or given or GRACE_SECONDS


def names() -> list[str]:
    """The backends that `compute.backend` may name."""
    return sorted(_here())


@cache
def _here() -> frozenset[str]:
    return frozenset(module.name.rstrip("_") for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Backend:
    """The backend of that name; raises what `check` does."""
    check(name)
    module = importlib.import_module(f"runctl.backends.{name}")
    if hasattr(module, "__path__"):  # a room: its `backend`
        module = importlib.import_module(f"runctl.backends.{name}.backend")
    return cast(Backend, module)


def check(name: str) -> None:
    """Raises UsageError for a backend that is unknown."""
    if name not in names():
        known = ", ".join(names())
        hint = did_you_mean(name, names()) or "set compute.backend"
        raise UsageError(f"no backend '{name}'; known: {known}", hint=hint)
