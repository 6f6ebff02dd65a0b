"""Config → the whole request that would be sent to Modal, as printable data. Nothing here imports modal or asks it.

One run is one detached app with one function and one call. Everything that the client would otherwise choose by
itself (timeout 300 s, an eighth of a core) or that the service refuses late or never (an unknown GPU, eleven retries,
nine tags) is stated or refused here.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from runctl import hardware
from runctl.backends.modal.recipe import Step, recipe
from runctl.errors import ProviderError, UsageError, did_you_mean
from runctl.light import asdict, dataclass, field, pattern, replace
from runctl.units import format_duration

if TYPE_CHECKING:
    from runctl.backends.modal.shipping import Shipment
    from runctl.config import RunConfig

ENTRY = "runctl.remote.entry:main"
SOURCE = ("runctl",)
MOUNT = "/vol"
SAVE_SECONDS = 10.0  # of the provider's grace: for the commit of what the trainer saved, and the container's own end
BEAT_SECONDS = 10.0  # between two heartbeats on the volume
CHANNEL = "runctl"  # the dictionary by which a run is asked to stop
_CORES, _GIB = (4, 4), (8, 16)  # without a GPU, and for each GPU, where the config states none
_NAME_LENGTH, _TAG_LENGTH = 64, 63
_NOT_IN_TAG = pattern(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True)
class Place:
    """What a project says of Modal, for all its runs. `secrets` are names; their values are never read here."""

    volume: str = "runctl"
    volume_version: int | None = None
    environment: str | None = None
    secrets: tuple[str, ...] = ()
    python: str = "3.12"
    packages: tuple[str, ...] = ()
    requirements: str | None = None
    kernels: bool = True
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Request:
    """What would be sent. `gpu` is in order of preference; `cpu` in cores; `spec` is the call's one argument; `code` is
    what of the project goes along, for a program of its own."""

    run: str
    run_dir: str
    attempt: int
    app: str
    tags: dict[str, str]
    environment: str | None
    image: tuple[Step, ...]
    gpu: tuple[str, ...]
    cpu: float
    memory_mib: int
    disk_mib: int | None
    timeout_seconds: int
    retries: dict[str, float]
    volume: dict[str, Any]
    secrets: tuple[str, ...]
    spec: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    backend: str = "modal"
    entry: str = ENTRY
    source: tuple[str, ...] = SOURCE
    single_use_containers: bool = True  # each attempt a fresh container, and no idle one is paid for
    max_containers: int = 1
    include_source: bool = False
    folder: str = ""  # of the run on this machine
    code: Shipment | None = None

    @property
    def grace_seconds(self) -> float:
        return float(self.spec["grace_seconds"])

    def to_json(self) -> dict[str, Any]:
        return {**asdict(replace(self, code=None)), "code": self.code.to_json() if self.code else None}


def plan(
    config: RunConfig,
    *,
    run: str,
    attempt: int,
    digest: str,
    version: str,
    grace_seconds: float,
    place: Place,
    folder: str = "",
    code: Shipment | None = None,
) -> Request:
    """The request for an attempt of a run; raises UsageError for a GPU that Modal does not have, ProviderError for a
    limit that the service would refuse."""
    compute, notes = config.compute, list[str]()
    gpu = gpus(compute.gpu)
    count = max((hardware.split(one)[1] for one in gpu), default=0)
    cores, gib = _CORES[bool(gpu)] * (count or 1), _GIB[bool(gpu)] * (count or 1)
    if compute.cpu is None:
        notes.append(f"compute.cpu is not set: {cores} cores are asked for")
    if compute.memory is None:
        notes.append(f"compute.memory is not set: {gib} GiB are asked for")
    timeout, grace = _timeout(compute.timeout, notes), _limits().grace or grace_seconds
    run_dir = f"{MOUNT}/runs/{run}"
    return Request(
        run=run,
        run_dir=run_dir,
        attempt=attempt,
        app=app_name(run),
        tags={**_tags(run=run, config=digest[:12], version=version), **dict(place.tags)},
        environment=place.environment,
        image=recipe(
            gpu=bool(gpu),
            kernels=place.kernels and config.task == "worldmodel",
            python=place.python,
            packages=place.packages,
            program=config.task == "command",
            requirements=place.requirements,
        ),
        gpu=gpu,
        cpu=float(compute.cpu or cores),
        memory_mib=-(-int(compute.memory or gib << 30) // (1 << 20)),
        disk_mib=None if compute.disk is None else -(-int(compute.disk) // (1 << 20)),
        timeout_seconds=timeout,
        retries={"max_retries": _retries(compute.retries), "initial_delay": 0.0, "backoff_coefficient": 1.0},
        volume={"name": place.volume, "version": place.volume_version, "mount": MOUNT},
        secrets=place.secrets,
        spec={
            "schema_version": 1,
            "run": run,
            "run_dir": run_dir,
            "attempt": attempt,
            "digest": digest,
            "volume": place.volume,
            "environment": place.environment,
            "mount": MOUNT,
            "channel": CHANNEL,
            "timeout_seconds": timeout,
            "retries": _retries(compute.retries),
            "grace_seconds": max(1.0, min(grace_seconds, grace - SAVE_SECONDS)),
            "save_seconds": SAVE_SECONDS,
            "beat_seconds": BEAT_SECONDS,
            "gpu": list(gpu),
            "usd_per_hour": {},
        },
        notes=notes,
        folder=folder,
        code=code,
    )


def gpus(text: str | None) -> tuple[str, ...]:
    """`H100!, A100-80GB:2` → the names as Modal spells them, in order of preference; none for the CPU.

    Raises UsageError for one that it does not offer, or that many of it on one machine."""
    return tuple(_gpu(one.strip()) for one in text.split(",")) if text else ()


def _gpu(text: str) -> str:
    name, count = hardware.split(text)
    written = name.strip().upper()
    known = offered()
    if written not in known:
        found = hardware.find(name).name
        if found not in known:
            hint = did_you_mean(found, known) or f"it has {', '.join(known)}"
            raise UsageError(f"modal does not offer the GPU '{name[:60]}'", hint=hint)
        written = found
    most = hardware.catalogue().providers["modal"].most_gpus
    if most and count > (limit := most.of.get(written.rstrip("!+"), most.count)):
        raise UsageError(f"'{text[:60]}': a machine of modal has at most {limit} {written}", hint=f"{written}:{limit}")
    return written if count == 1 else f"{written}:{count}"


def offered() -> list[str]:
    """The GPU names that Modal takes: those with a price, those that it may swap, and the pinned H100."""
    catalogue = hardware.catalogue()
    priced = {gpu.name for gpu in catalogue.gpus.values() if "modal" in gpu.prices}
    return sorted(priced | catalogue.providers["modal"].swaps.keys() | {"H100!"})


def _limits() -> hardware.Limits:
    limits = hardware.catalogue().providers["modal"].limits
    assert limits is not None
    return limits


def _timeout(seconds: float | None, notes: list[str]) -> int:
    limits = _limits()
    if seconds is None:
        notes.append(f"compute.timeout is not set: an attempt may take {format_duration(limits.timeout)}")
        return int(limits.timeout)
    if not limits.least_timeout <= seconds <= limits.timeout:
        least, most = format_duration(limits.least_timeout), format_duration(limits.timeout)
        raise ProviderError(
            f"compute.timeout is {format_duration(seconds)}, but modal takes {least} to {most}",
            hint="a longer run is several attempts: compute.retries, each goes on from the last checkpoint",
        )
    return int(seconds)


def _retries(count: int) -> int:
    most = _limits().retries
    if count > most:
        raise ProviderError(f"compute.retries is {count}, but modal tries again {most} times at most")
    return count


def _tags(**values: str) -> dict[str, str]:
    """App tags, by which strays are found and bills are grouped. The service takes 8 of 63 characters."""
    return {f"runctl.{key}": tag(value) for key, value in values.items()}


def tag(value: str) -> str:
    """A text as a tag can hold it."""
    return short(_NOT_IN_TAG.sub("-", value), _TAG_LENGTH)


def app_name(run: str) -> str:
    return short(f"runctl-{run}", _NAME_LENGTH)


def short(name: str, most: int) -> str:
    """A name of at most so many characters; a cut one ends in a hash of the whole, so that no two become one."""
    if len(name) <= most:
        return name
    return f"{name[: most - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
