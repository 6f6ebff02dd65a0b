"""What goes into the judgement of a run, and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runctl.evidence import Life
from runctl.light import dataclass
from runctl.supervisor.verdict import ENDED

ACTIVE = ("queued", "starting", "restarting", "running", "stalled", "stopping")
STATES = (*ACTIVE, *ENDED, "lost")


@dataclass(frozen=True)
class Records:
    """What the files of a run say; each may be None, torn or nonsense. `events` are the newest attempt's,
    `checkpoint` is the newest whole one on the disk, `damage` what is wrong with run.json, `lock` the
    identity of the supervisor that took the run's lock last, `earlier` the exit records of the attempts before,
    `changed` how the config differs from the launch's, `remote` the ids of a run on a provider's machines and what was
    last seen of it, `container` which of those machines took the newest attempt, `dearer_usd` what the attempts before
    it have cost beyond the price of the launch."""

    run: Mapping[str, Any]
    attempt: int = 0
    start: Any = None
    events: Sequence[Mapping[str, Any]] = ()
    heartbeat: Any = None
    result: Any = None
    exit: Any = None
    resumed: Any = None
    checkpoint: Any = None
    damage: str = ""
    summary: Any = None
    lock: Any = None
    changed: str = ""
    earlier: Sequence[Any] = ()
    remote: Any = None
    container: Any = None
    dearer_usd: float = 0.0


@dataclass(frozen=True)
class Evidence:
    """What the machine says of the processes that the records name. `no_room` if the run's disk is full,
    `written` is when its file system says that the heartbeat was replaced: a second clock."""

    launcher: Life = Life.UNKNOWN
    supervisor: Life = Life.UNKNOWN
    trainer: Life = Life.UNKNOWN
    no_room: str = ""
    written: float | None = None


@dataclass(frozen=True)
class RunStatus:
    """One run, now. Times are unix seconds; what is not known is None. `step` is the last one known to be done:
    the heartbeat's, or a later checkpoint's. `seconds` are those of the newest attempt, as are the rates and the ETA;
    `total_seconds` those of all attempts. `guard` is the last to trip in a running attempt. `damage` says what is
    wrong with run.json, `changed` how its config differs from the launch's, `resume` whether a running attempt was
    found to go on where the one before it stood ({"verified": bool, "words": str}). `source` is "output" where progress
    is read from what the program prints. `disk` says that the disk of a running run is foreseen to be full."""

    run: str
    task: str | None
    state: str
    reason: str
    attempt: int
    phase: str | None
    message: str
    step: int | None
    total_steps: int | None
    progress: float | None
    eta_seconds: float | None
    loss: float | None
    examples_per_second: float | None
    steps_per_second: float | None
    memory_bytes: int | None
    device: str | None
    data_source: str | None
    tracking: dict[str, Any]
    checkpoint_step: int | None
    checkpoint_age_seconds: float | None
    heartbeat_age_seconds: float | None
    first_step: bool
    cost_usd: float | None
    created: float | None
    started: float | None
    ended: float | None
    seconds: float | None
    total_seconds: float | None
    interruptions: int
    failures: int
    exit_code: int | None
    failure: str | None
    guard: str
    host: str | None
    leftover: bool
    damage: str
    changed: str = ""
    resume: dict[str, Any] | None = None
    source: str | None = None
    disk: str = ""

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    @property
    def over(self) -> bool:
        """Whether nothing more will happen by itself."""
        return not self.active

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "tracking": dict(self.tracking)}
