"""One small real run under torture: its project folder, the command line, its processes as /proc shows them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runctl import record

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
NAME = "small"
TOTAL, CADENCE = 60, 8  # steps
HANG_SECONDS = 1.5
TRAINERS = {"stand-in": HERE / "trainer.py", "torch": HERE.parent / "tiny_job.py", "world model": None}
PACES = {"stand-in": 0.03, "torch": 0.03, "world model": 0.0}  # seconds that each batch takes longer
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str

    def data(self) -> Any:
        return json.loads(self.out)

    def __str__(self) -> str:
        return f"`runctl {' '.join(self.words)}`: exit {self.code}: {(self.err or self.out)[-600:]}"


@dataclass
class Scene:
    """A project with one run. `complaints` are what did not hold."""

    folder: Path
    trainer: str
    random: random.Random
    config: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    damaged: set[str] = field(default_factory=set)
    lost: int = 0  # checkpoints that the fault itself destroyed
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.run = record.RunDir(self.folder / "runs" / NAME)
        self.strangers = set(os.listdir("/proc"))  # what lives already is none of this run's
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "runctl.yaml").write_text("{}\n")
        config = settings()
        for section, keys in self.config.items():
            config[section] |= keys
        (self.folder / f"{NAME}.yaml").write_text(json.dumps(config, indent=1))

    def environment(self, pace: bool) -> dict[str, str]:
        own = {"PACE": str(PACES[self.trainer] if pace else 0.0), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
        paths = [self.env.get("PYTHONPATH", ""), str(ROOT)]
        own["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        if TRAINERS[self.trainer] is not None:
            own["TORTURE_TRAINER"] = str(TRAINERS[self.trainer])
        return {**os.environ, **{key: value for key, value in self.env.items() if key != "PYTHONPATH"}, **own}

    def start(self, *words: str, pace: bool = False) -> subprocess.Popen[str]:
        """A command of runctl's, not waited for. Only a launch needs another trainer put in place."""
        program = [str(HERE / "cli.py")] if words[0] == "launch" else ["-m", "runctl"]
        argv = [sys.executable, *program, *words]
        pipe = subprocess.PIPE
        made = subprocess.Popen(
            argv,
            cwd=self.folder,
            env=self.environment(pace),
            stdout=pipe,
            stderr=pipe,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        self.started.append(made)
        return made

    def finish(self, process: subprocess.Popen[str], *words: str, seconds: float = PATIENCE_SECONDS) -> Done:
        """Wait for a command. One that breaks (a traceback, an internal error) or does not end is complained of."""
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            self.complain(f"`runctl {' '.join(words)}` did not end in {seconds:g} s: {err[-300:]}")
        done = Done(words, process.returncode, out, err)
        if "Traceback" in err or "internal error" in err or done.code == 3:
            self.complain(f"{done} broke")
        return done

    def call(self, *words: str, pace: bool = False) -> Done:
        return self.finish(self.start(*words, pace=pace), *words)

    def launch(self) -> subprocess.Popen[str]:
        return self.start("launch", f"{NAME}.yaml", "--name", NAME, "--detach", "--json", pace=True)

    def complain(self, text: str) -> None:
        self.complaints.append(text)

    def processes(self) -> dict[str, list[int]]:
        """The living processes of the run by role: supervisor, closer, trainer, other."""
        found: dict[str, list[int]] = {"supervisor": [], "closer": [], "trainer": [], "other": []}
        needle = os.fsencode(self.run.path)
        for name in os.listdir("/proc"):
            if not name.isdigit() or name in self.strangers:
                continue
            try:
                command = Path("/proc", name, "cmdline").read_bytes()
                mine = needle in command or needle in Path("/proc", name, "environ").read_bytes()
                if not mine or Path("/proc", name, "stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                    continue
            except OSError:
                continue
            role = "other"
            if b"runctl.supervisor" in command:
                role = "closer" if b"--close" in command else "supervisor"
            elif needle in command and b"--attempt" in command:
                role = "trainer"
            found[role].append(int(name))
        return found

    def send(self, role: str, number: signal.Signals) -> bool:
        """Signal all living processes of a role; False if there is none."""
        pids = self.processes()[role]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return bool(pids)

    def await_role(self, role: str) -> None:
        """Wait until a process of the role lives; the launch may fail or end before."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.processes()[role] and not self.ended() and time.monotonic() < deadline:
            time.sleep(0.04)

    def reached(self) -> int:
        """The last step known to be done: by the rows of metrics and the heartbeats."""
        rows = [row.get("step", 0) for row in record.read_lines(self.run.metrics)]
        beats = [record.read_object(attempt.heartbeat).get("step", 0) for attempt in self.run.attempts()]
        return max([0, *(step for step in [*rows, *beats] if isinstance(step, int))])

    def await_step(self, step: int) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.reached() < step and not self.ended() and time.monotonic() < deadline:
            time.sleep(0.04)

    def await_end(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.ended() and time.monotonic() < deadline:
            time.sleep(0.05)

    def ended(self) -> bool:
        attempts = self.run.attempts()
        return bool(attempts) and attempts[-1].exit.exists()

    def moment(self) -> None:
        """Let the run come to a random moment: now and then while it starts, mostly somewhere in its steps."""
        self.await_role("supervisor")
        if self.random.random() < 0.12:
            time.sleep(self.random.uniform(0.0, 1.5))
            return
        self.await_step(self.random.randint(1, TOTAL - 12))
        time.sleep(self.random.uniform(0.0, 0.1))

    def whole_steps(self) -> list[Path]:
        """The checkpoints that have a manifest, oldest first."""
        return sorted(path for path in self.run.checkpoints.glob("step-*") if (path / "manifest.json").exists())

    def clean(self) -> None:
        """Kill what was started here, by process id, and unmount what was mounted."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.communicate()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and (pids := [pid for group in self.processes().values() for pid in group]):
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        unmount_under(self.folder)


def settings() -> dict[str, Any]:
    """The config of every run here, by sections: some seconds of the built-in world model."""
    model = {
        "d_model": 16,
        "n_layers": 2,
        "d_state": 8,
        "headdim": 8,
        "context_len": 6,
        "chunk_size": 6,
        "dropout": 0.1,
    }
    training = {"steps": TOTAL, "batch_size": 24, "lr": 2e-3, "warmup_steps": 10, "threads": 1, "log_every": 3}
    training |= {"validate_every": "15 steps", "validation_windows": 48, "seed": 4, "device": "cpu"}
    training |= {"scheduled_sampling": 0.5, "ss_anneal_epochs": 2.0}
    return {
        "name": NAME,
        "task": "worldmodel",
        "data": {"simulate": {"games": 4, "seconds": 5, "seed": 2}},
        "encoding": {"hitstun": True},
        "model": model,
        "training": training,
        "checkpoint": {"every": f"{CADENCE} steps", "keep_last": 3, "keep_best": 1},
        "compute": {"hang_after": "5m"},
        "tracking": {},
    }


def history(run: record.RunDir) -> dict[str, float]:
    """`step name` → value of all that does not depend on the clock; of a step that was run again, the last row."""
    found: dict[str, float] = {}
    for row in record.read_lines(run.metrics):
        for name, value in row.items():
            if name.startswith(("train/", "val/", "baseline/")):
                found[f"{row.get('step')} {name}"] = value
    return found


def may_mount() -> str:
    """Why file systems cannot be mounted here; "" if they can."""
    if os.geteuid() != 0:
        return "needs root, to mount a small file system"
    return "" if os.access("/proc/self/mounts", os.R_OK) and _capable() else "this container may not mount"


def _capable() -> bool:
    status = Path("/proc/self/status").read_text()
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> 21 & 1)  # CAP_SYS_ADMIN


def mount(*words: object) -> None:
    subprocess.run(["mount", *map(str, words)], check=True, capture_output=True, timeout=20)


def unmount_under(folder: Path) -> None:
    """Unmount all that is mounted in or below a folder, the innermost first."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    points = [line.split()[1].replace("\\040", " ") for line in lines]
    for point in sorted((path for path in points if Path(path).is_relative_to(folder)), key=len, reverse=True):
        subprocess.run(["umount", "-l", point], check=False, capture_output=True, timeout=20)
