"""The run directory: the only module that knows its paths.

    runs/<run>/
      run.json                written once by launch
      code.diff               what was not committed at launch
      events.jsonl            appended by the supervisor only
      attempts/<n>/           start.json (launch or resume), log.txt, resumed.json, heartbeat.json and
                              result.json (trainer), exit.json (supervisor)
      metrics.jsonl           appended by rank 0 of the trainer
      checkpoints/step-…/     manifest.json is written last; `checkpoints/latest` names the newest whole one
      summary.json            the result contract, written once, at the end

One writer per file. Whole or absent: every file but the two logs is written under a temporary name, flushed and
renamed; a line of a log without its newline does not exist yet.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from runctl.errors import UsageError, did_you_mean
from runctl.light import dataclass
from runctl.names import RUN_NAME

SCHEMA_VERSION = 1
MOST_BYTES = 64 << 20  # of a file that holds one JSON object
_MOST_LINE = 4 << 20  # of a JSON-lines file


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
    def files(self) -> tuple[Path, ...]:
        """All that an attempt may leave."""
        ended = (self.stacks, self.hang, self.asked, self.exit, self.claim, self.container)
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
        folder = self.path / "attempts"
        numbers = sorted(int(entry.name) for entry in folder.glob("*") if _is_number(entry.name))
        return [self.attempt(number) for number in numbers]

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


def check_name(name: str) -> str:
    """The name itself if a run may bear it; raises UsageError if it could leave its folder or confuse a shell."""
    if RUN_NAME.fullmatch(name) and ".." not in name:
        return name
    shown = name if len(name) <= 60 else f"{name[:57]}… ({len(name)} characters)"
    raise UsageError(
        f"{shown!r} cannot be a run's name",
        hint="use up to 100 letters, digits, '.', '_' and '-', beginning with a letter or digit, without '..'",
    )


def find(project: Path, name: str) -> RunDir:
    """The run of that name; raises UsageError naming the nearest ones."""
    root = runs_root(project)
    run = RunDir(root / check_name(name))
    if _is_run(run.path):
        return run
    if run.path.is_dir() and not os.access(run.path, os.R_OK | os.X_OK):
        hint = "its owner can share it with a group: share: group in runctl.yaml, before the launch"
        raise UsageError(f"{name} is another user's run: you may not look into {run.path}", hint=hint)
    known = [other.name for other in list_runs(project)]
    if not known:
        raise UsageError(
            f"no run '{name}': there are no runs under {root}", hint="start one with: runctl launch CONFIG"
        )
    raise UsageError(f"no run '{name}' under {root}", hint=did_you_mean(name, known) or "see: runctl status --all")


def list_runs(project: Path) -> list[RunDir]:
    """All runs of a project, oldest first; one that has lost its run.json is still a run."""
    root = runs_root(project)
    entries = [entry for entry in root.iterdir() if not entry.name.startswith(".")] if root.is_dir() else []
    return sorted((RunDir(entry) for entry in entries if _is_run(entry)), key=lambda run: (_made(run), run.name))


def glance(project: Path, fits: Callable[[str], bool] | None = None) -> Iterator[tuple[RunDir, float | None]]:
    """The runs of a project in no order, each with the time of its summary if that is its last word: no folder of an
    attempt is younger. Paths are text here: of ten thousand runs, making them is most of the time."""
    root = str(runs_root(project))
    try:
        names = [name for name in os.listdir(root) if not name.startswith(".") and (fits is None or fits(name))]
    except OSError:
        return
    for name in names:
        folder = f"{root}/{name}"
        try:
            summary = os.stat(f"{folder}/summary.json")
            last = summary.st_size > 2 and os.stat(f"{folder}/attempts").st_mtime_ns < summary.st_mtime_ns
        except OSError:
            last = False
        path = Path(folder)
        if last or _is_run(path):
            yield RunDir(path), summary.st_mtime if last else None


HELD = {"config": dict, "digest": str, "guards": list, "command": list}  # what a resume may change of run.json
CARRIED = (*HELD, "accepted")


def content(run: RunDir, number: int | None = None) -> dict[str, Any]:
    """run.json as it holds for an attempt, by default the newest: with what resumes have changed since the launch."""
    return changed(read_object(run.run), started(run, number))


def started(run: RunDir, number: int | None = None) -> dict[str, Any]:
    """start.json of an attempt, by default the newest; where that is lost, the one before it. It carries on what
    earlier ones have changed."""
    known = [attempt for attempt in run.attempts() if number is None or attempt.number <= number]
    starts = (read_object(attempt.start) for attempt in reversed(known))
    return next((start for start in starts if start), {})


def carried(run: RunDir, number: int | None = None) -> dict[str, Any]:
    """What of an attempt's start.json holds for the next one too."""
    start = started(run, number)
    return {key: start[key] for key in CARRIED if key in start}


def changed(launched: dict[str, Any], start: dict[str, Any]) -> dict[str, Any]:
    """run.json's content with what a start.json holds in its place; {} stays so."""
    kept = {key: start[key] for key, kind in HELD.items() if isinstance(start.get(key), kind)}
    return {**launched, **kept} if launched else {}


def damage(path: Path) -> str:
    """What is wrong with a file that should hold a JSON object, as a sentence; "" if nothing is."""
    try:
        data = _read(path)
        content = json.loads(data.decode("utf-8"))
    except FileNotFoundError:
        return f"{path.name} is missing"
    except OSError as error:
        return f"{path.name} cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        return f"{path.name} is damaged: its {len(data):,} bytes are not text"
    except json.JSONDecodeError as error:
        return f"{path.name} is damaged: " + (f"{error.msg} at line {error.lineno}" if data.strip() else "it is empty")
    except (ValueError, RecursionError) as error:
        return f"{path.name} is damaged: {error}"
    return "" if isinstance(content, dict) else f"{path.name} is damaged: it holds no JSON object"


def write_text(path: Path, text: str) -> None:
    """Replace `path` atomically and durably: temporary file, fsync, rename, fsync of the folder."""
    if not path.name:  # `.`, `/`
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8", opener=no_link) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, data: Any, *, durable: bool = True) -> None:
    """Replace `path` atomically with JSON; `durable=False` leaves out the fsyncs (heartbeats)."""
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if durable:
        write_text(path, text)
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8", opener=no_link) as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def open_file(path: Path, *, links: bool = True) -> BinaryIO:
    """A file, to be read. Raises OSError for anything else in its place: a named pipe would never answer. A link may
    lead out of the run: it is followed unless not `links`."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return os.fdopen(descriptor, "rb")


def _read(path: Path) -> bytes:
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST_BYTES:
            raise OSError(errno.EFBIG, f"it is larger than {MOST_BYTES >> 20} MiB", str(path))
        return file.read(size)  # asked for more, Python makes room for all of it first


def read_json(path: Path) -> Any | None:
    """The JSON in `path`; None if it is absent or damaged (a reader never fails on a run's files)."""
    try:
        return json.loads(_read(path))
    except (OSError, ValueError, RecursionError):
        return None


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; {} if there is none."""
    content = read_json(path)
    return content if isinstance(content, dict) else {}


def append_line(path: Path, row: dict[str, Any]) -> None:
    """Append one JSON line with a single write, healing a torn last line left by a kill."""
    line = json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab", opener=no_link) as file:
        if file.tell() and not _ends_whole(path):
            line = "\n" + line
        file.write(line.encode())


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole, valid rows of a JSON-lines file; torn or damaged lines are left out."""
    try:
        file = open_file(path)
    except OSError:
        return
    with file:
        whole = True
        while line := file.readline(_MOST_LINE):
            ends = line.endswith(b"\n")
            if whole and ends:
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    row = None
                if isinstance(row, dict):
                    yield row
            whole = ends  # else the rest of a line that is too long


@contextmanager
def private(shared: bool = False) -> Iterator[None]:
    """What is written meanwhile is for this user only; `shared`: for the group to read. Not for threads."""
    before = os.umask(0o027 if shared else 0o077)
    try:
        yield
    finally:
        os.umask(before)


def private_as(folder: Path) -> int:
    """The umask under which a run's files are for whom its folder is: nobody else, or its group."""
    try:
        mode = folder.stat().st_mode
    except OSError:
        return 0o077
    return 0o077 & ~(mode & 0o055)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal() and name[0] != "0"


def _is_run(folder: Path) -> bool:
    """False also for another user's run that may not be looked into."""
    with suppress(PermissionError):
        return any((folder / name).exists() for name in ("run.json", "attempts", "events.jsonl"))
    return False


def no_link(path: str, flags: int) -> int:
    """Open a file to be written, never through a link that was put in its place, never a named pipe."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.set_blocking(descriptor, True)
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is no file", str(path))


def _made(run: RunDir) -> int:
    """When a run was launched, in ns: the time of its run.json, else of its folder."""
    for path in (run.run, run.path):
        try:
            return path.stat().st_mtime_ns
        except OSError:
            continue
    return 0


def _ends_whole(path: Path) -> bool:
    with open_file(path) as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
