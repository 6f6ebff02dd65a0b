"""Where everything of a run lies; nothing is read or created by naming it."""

from __future__ import annotations

import os
from pathlib import Path

from runctl.errors import UsageError
from runctl.light import dataclass


@dataclass(frozen=True)
class Attempt:
    """The files of one start of the trainer; `number` counts from 1."""

    path: Path
    number: int

    @property
    def start(self) -> Path:
        """Who asked for the attempt, when, and from which step; there before the supervisor is."""
        return self.path / "start.json"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def save(self) -> Path:
        """Asks for a checkpoint; written by whoever asks, taken away by the supervisor (`supervisor/saving.py`)."""
        return self.path / "save.json"

    @property
    def log_times(self) -> Path:
        """When the log grew (`marks.py`); by the supervisor."""
        return self.path / "log.times"

    @property
    def heartbeat(self) -> Path:
        return self.path / "heartbeat.json"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def resumed(self) -> Path:
        """Where the trainer went on, and which checkpoints it had to pass over; written before the first step.

        {"schema_version": 1, "step": 90, "checkpoint": "step-000000090",
         "passed_over": [{"checkpoint": "step-000000095", "why": "…"}]}
        """
        return self.path / "resumed.json"

    @property
    def measured(self) -> Path:
        """What a step, a validation and a checkpoint really took (`estimate/calibration.py`); by the trainer."""
        return self.path / "measured.json"

    @property
    def stacks(self) -> Path:
        """Where the trainer's threads stood, by itself when asked (SIGUSR2); empty or absent of one never asked."""
        return self.path / "stacks.txt"

    @property
    def ranks(self) -> Path:
        """Of an attempt of several processes: how far each is, and why one failed (`train/presence.py`)."""
        return self.path / "ranks"

    @property
    def of_ranks(self) -> tuple[Path, ...]:
        """The files in `ranks`."""
        return tuple(sorted(self.ranks.glob("*"))) if self.ranks.is_dir() else ()

    @property
    def hang(self) -> Path:
        """Of an attempt that hung: where all its processes stood, by the supervisor."""
        return self.path / "hang.txt"

    @property
    def asked(self) -> Path:
        """That `runctl stop` asked for the end, by whom and when; without it a signal is another's."""
        return self.path / "asked.json"

    @property
    def exit(self) -> Path:
        return self.path / "exit.json"

    @property
    def claim(self) -> Path:
        """Of an attempt on a provider's machines: which launch or resume it belongs to; by whoever asked for it."""
        return self.path / "claim.json"

    @property
    def container(self) -> Path:
        """Of an attempt on a provider's machines: the container that lives it, and its GPUs; by that container."""
        return self.path / "container.json"

    @property
    def sent(self) -> Path:
        """Of an attempt of a program of one's own on a provider's machines: which files of the project went there, with
        the sha256 of each; by whoever asked for it."""
        return self.path / "sent.json"

    @property
    def files(self) -> tuple[Path, ...]:
        """All that an attempt may leave."""
        ended = (self.stacks, self.hang, self.asked, self.exit, self.claim, self.sent, self.container)
        return (self.start, self.log, self.log_times, self.heartbeat, self.result, self.resumed, self.measured, *ended)


@dataclass(frozen=True)
class RunDir:
    """The paths of one run; nothing is read or created by naming them."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def run(self) -> Path:
        return self.path / "run.json"

    @property
    def code_diff(self) -> Path:
        return self.path / "code.diff"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def saved(self) -> Path:
        """The checkpoints of a program of one's own that were seen whole (`supervisor/kept.py`); by the supervisor."""
        return self.path / "saved.json"

    @property
    def config(self) -> Path:
        """The effective config, for a program whose arguments name `{config}`; by the supervisor."""
        return self.path / "config.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def latest(self) -> Path:
        return self.checkpoints / "latest"

    @property
    def dataset(self) -> Path:
        """The encoded dataset of a run that simulates its games."""
        return self.path / "dataset"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def supervisor_log(self) -> Path:
        return self.path / "supervisor.log"

    @property
    def remote(self) -> Path:
        """Of a run on a provider's machines: its ids there, and what was last seen of it (`backends/modal/ids.py`)."""
        return self.path / "remote.json"

    @property
    def lock(self) -> Path:
        """Held (flock) by the supervisor for as long as it lives; names it."""
        return self.path / "supervisor.lock"

    def attempt(self, number: int) -> Attempt:
        return Attempt(self.path / "attempts" / str(number), number)

    def attempts(self) -> list[Attempt]:
        try:
            names = os.listdir(self.path / "attempts")
        except OSError:
            return []
        return [self.attempt(number) for number in sorted(int(name) for name in names if _is_number(name))]

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"step-{step:09d}"


def runs_root(project: Path) -> Path:
    return project / "runs"


def own(project: Path) -> Path:
    """`.runctl/`, where runctl keeps what it learns of a project; git is told to leave it out. Raises UsageError
    where something else has that name, and OSError."""
    folder = project / ".runctl"
    try:
        folder.mkdir(exist_ok=True)
    except FileExistsError:
        raise UsageError(f"{folder} is no folder", hint="runctl keeps calibrations there: move it away") from None
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("# what runctl measured on this machine; to share it all the same: git add -f\n*\n")
    return folder


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal() and name[0] != "0"
