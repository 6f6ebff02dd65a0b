"""The faults, one function each: it lets the run come to a moment and strikes. `KINDS` says how often, and what must
come of it. The order of the random draws is part of a case: a seed and a number give the same case again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tortured import damage
from tortured.scene import HANG_SECONDS, HERE, NAME, TOTAL, Scene, may_mount, mount

MIXED = {"stand-in": 12, "torch": 6, "world model": 2}
REAL = {"torch": 8, "world model": 2}
LIGHT = {"stand-in": 1}
DEAD, ENDED, ALIVE = ("failed",), ("failed", "stopped"), ("succeeded",)


@dataclass(frozen=True)
class Kind:
    """A kind of fault. `ends`: the states that may follow (a run that was through when it struck has succeeded, and is
    held to that); `limit`: seconds for which a status may be wrong; `again`: how the run is taken up."""

    name: str
    share: int
    strike: Callable[[Scene], None]
    ends: tuple[str, ...] = DEAD
    trainers: Mapping[str, int] = field(default_factory=lambda: MIXED)
    limit: float = 5.0
    config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    words: str = ""  # in the reason of the status
    refused: str = ""  # what a resume must say that cannot go ahead
    prepare: Callable[[Scene], None] = lambda scene: None
    cure: Callable[[Scene], None] = lambda scene: None
    again: Callable[[Scene], None] | None = None
    needs: Callable[[], str] = lambda: ""


def kill_trainer(scene: Scene) -> None:
    scene.moment()
    scene.await_role("trainer")
    scene.send("trainer", signal.SIGKILL)


def kill_saving(scene: Scene) -> None:
    """In the very write of a checkpoint."""
    scene.await_step(scene.random.randint(5, TOTAL - 12))
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and not any(scene.run.checkpoints.glob(".tmp-*")):
        pass
    scene.send("trainer", signal.SIGKILL)


def kill_supervisor(scene: Scene) -> None:
    scene.moment()
    scene.send("supervisor", signal.SIGKILL)


def kill_both(scene: Scene) -> None:
    scene.moment()
    roles = scene.random.sample(["trainer", "supervisor"], 2)
    scene.send(roles[0], signal.SIGKILL)
    time.sleep(scene.random.choice([0.0, scene.random.uniform(0, 0.05)]))
    scene.send(roles[1], signal.SIGKILL)


def hang(scene: Scene) -> None:
    scene.await_step(scene.random.randint(3, TOTAL - 15))
    scene.send("trainer", signal.SIGSTOP)


def freeze(scene: Scene) -> None:
    """Stopped and let run again before anybody calls it a hang: the trainer, the supervisor or both."""
    scene.moment()
    roles = scene.random.choice([("trainer",), ("supervisor",), ("trainer", "supervisor")])
    for role in roles:
        scene.send(role, signal.SIGSTOP)
    time.sleep(scene.random.uniform(0.1, 1.0))
    for role in roles:
        scene.send(role, signal.SIGCONT)


def storm(scene: Scene) -> None:
    """Twenty signals within a second and a half, to both."""
    scene.moment()
    for pause in [scene.random.uniform(0, 0.15) for _ in range(20)]:
        number = scene.random.choice([signal.SIGTERM, signal.SIGTERM, signal.SIGTERM, signal.SIGINT])
        scene.send(scene.random.choice(["trainer", "supervisor"]), number)
        time.sleep(scene.random.choice([0.0, pause]))


def stop_and_kill(scene: Scene) -> None:
    """`runctl stop`, and a kill while it saves."""
    scene.moment()
    stopping = scene.start("stop", NAME, "--json")
    time.sleep(scene.random.uniform(0, 0.6))
    if scene.random.random() < 0.7:
        scene.send(scene.random.choice(["trainer", "supervisor"]), signal.SIGKILL)
    scene.finish(stopping, "stop", NAME, "--json")


def fill_disk(scene: Scene) -> None:
    scene.moment()
    chunk = 1 << 20
    with (scene.folder / "runs" / ".filler").open("wb", buffering=0) as file:
        while chunk:
            try:
                file.write(b"\0" * chunk)
            except OSError:
                chunk //= 2
    if scene.random.random() < 0.3:
        scene.send(
            scene.random.choice(["trainer", "supervisor"]), scene.random.choice([signal.SIGKILL, signal.SIGTERM])
        )


def small_disk(scene: Scene) -> None:
    (scene.folder / "runs").mkdir()
    mount("-t", "tmpfs", "-o", "size=24m", "tmpfs", scene.folder / "runs")


def free_disk(scene: Scene) -> None:
    (scene.folder / "runs" / ".filler").unlink(missing_ok=True)


def freeze_disk(scene: Scene) -> None:
    """The run's folder becomes read-only, as when the kernel finds errors on its disk."""
    scene.moment()
    mount("--bind", scene.run.path, scene.run.path)
    deadline = time.monotonic() + 10
    while True:
        try:
            mount("-o", "remount,bind,ro", scene.run.path)
            return
        except subprocess.CalledProcessError:  # a file was opened for writing in between
            if time.monotonic() > deadline:
                raise


def thaw_disk(scene: Scene) -> None:
    subprocess.run(["umount", "-l", str(scene.run.path)], check=True, capture_output=True)


def checkpoints(scene: Scene) -> None:
    """The newest one or two checkpoints of a killed run are cut, flipped, emptied or gone."""
    scene.await_step(scene.random.randint(18, TOTAL - 12))
    _kill_all(scene)
    saved = scene.whole_steps()
    for folder in saved[-min(scene.random.choice([1, 1, 2]), len(saved) - 1) :]:
        files = sorted(path for path in folder.iterdir() if path.stat().st_size)
        how = scene.random.choice(["cut", "flip", "flip", "empty", "delete"])
        damage.spoil(scene, scene.random.choice(files), how)
        scene.lost += 1


def all_checkpoints(scene: Scene) -> None:
    scene.await_step(scene.random.randint(18, TOTAL - 12))
    _kill_all(scene)
    for folder in scene.whole_steps():
        name = "model.safetensors"
        damage.spoil(scene, folder / name, scene.random.choice(["cut", "flip", "flip", "empty", "delete"]))


def pointer(scene: Scene) -> None:
    """`latest` is gone, garbled or names nothing; half-written folders lie about."""
    scene.await_step(scene.random.randint(18, TOTAL - 12))
    if scene.random.random() < 0.5:
        _kill_all(scene)
    else:
        scene.send("trainer", signal.SIGKILL)
    if scene.run.latest.exists():
        damage.spoil(scene, scene.run.latest, scene.random.choice(["cut", "empty", "delete", "noise"]))
    (scene.run.checkpoints / ".tmp-step-000000099-1").mkdir(parents=True, exist_ok=True)
    (scene.run.checkpoint(99) / "sub").mkdir(parents=True, exist_ok=True)


def records_running(scene: Scene) -> None:
    scene.moment()
    for _ in range(scene.random.choice([1, 1, 2])):
        damage.record_file(scene, ["heartbeat", "events", "start", "measured", "latest", "lock"])


def records_dead(scene: Scene) -> None:
    scene.moment()
    scene.random.choice([_kill_all, lambda scene: scene.send("trainer", signal.SIGKILL)])(scene)
    _gone(scene)
    for _ in range(scene.random.choice([1, 2, 3])):
        damage.record_file(scene, ["heartbeat", "events", "start", "exit", "summary", "result", "resumed", "lock"])


def records_done(scene: Scene) -> None:
    """Of a run that has succeeded. What is left of the evidence decides whether that can still be said."""
    scene.await_end()
    _gone(scene)
    for _ in range(scene.random.choice([1, 1, 2])):
        damage.record_file(scene, ["heartbeat", "events", "start", "exit", "summary", "result", "measured"])


def run_json(scene: Scene) -> None:
    scene.moment()
    if scene.random.random() < 0.5:
        _kill_all(scene)
    damage.spoil(scene, scene.run.run, scene.random.choice(["cut", "empty", "noise", "delete", "list", "deep"]))


def torn_tails(scene: Scene) -> None:
    """As after a power cut: what was written last is cut; rows before the newest checkpoint were flushed with it."""
    scene.moment()
    _kill_all(scene)
    damage.tear(scene, scene.run.events)
    damage.tear_metrics(scene)


def clock_jump(scene: Scene) -> None:
    scene.moment()
    _set_clock(scene, scene.random.choice([-1, 1]) * scene.random.choice([90, 3600, 86_400, 400 * 86_400]))
    if scene.random.random() < 0.4:
        time.sleep(scene.random.uniform(0, 1.5))
        kill_both(scene)
        if scene.random.random() < 0.5:
            _set_clock(scene, 0)


def own_clock(scene: Scene) -> None:
    _set_clock(scene, 0)


def times(scene: Scene) -> None:
    """Times in the records of a dead run lie in the far past or future, in the files and of the files."""
    scene.moment()
    _kill_all(scene)
    _gone(scene)
    damage.shift_times(scene)


def wandb(scene: Scene) -> None:
    """Its folder is cut, flipped, removed or a file, while wandb writes into it (offline)."""
    scene.await_step(6)
    deadline = time.monotonic() + 20
    folder = scene.run.path / "wandb"
    while not list(folder.rglob("*.wandb")) and not scene.ended() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(scene.random.uniform(0, 1))
    how = scene.random.choice(["files", "files", "gone", "file"])
    for path in (
        [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()] if how == "files" else []
    ):
        damage.spoil(scene, path, scene.random.choice(["cut", "flip", "empty", "delete"]))
    if how != "files":
        shutil.rmtree(folder, ignore_errors=True)
    if how == "file" and not folder.exists():
        folder.write_text("in its place")


def files_gone(scene: Scene) -> None:
    scene.moment()
    for name in scene.random.sample(
        ["heartbeat", "events", "latest", "lock", "attempt", "attempts", "supervisor.log"], 2
    ):
        places = {"latest": scene.run.latest, "events": scene.run.events, "lock": scene.run.lock}
        places |= {"heartbeat": scene.run.attempt(1).heartbeat, "attempt": scene.run.attempt(1).path}
        damage.remove(scene, places.get(name, scene.run.path / name))


def two_supervisors(scene: Scene) -> None:
    when = scene.random.choice(["running", "unlocked", "end", "after"])
    if when in ("running", "unlocked"):
        scene.moment()
    elif when == "end":
        scene.await_step(TOTAL - 3)
        time.sleep(scene.random.uniform(0, 0.3))
    else:
        scene.await_end()
    if when == "unlocked":
        scene.run.lock.unlink(missing_ok=True)
    argv = [sys.executable, "-P", "-m", "runctl.supervisor", str(scene.run.path), "--attempt", "1", "--grace", "60"]
    silent = subprocess.DEVNULL
    second = subprocess.Popen(
        argv,
        env=scene.environment(pace=True),
        stdin=silent,
        stdout=silent,
        stderr=silent,
        start_new_session=True,
        text=True,
    )
    scene.started.append(second)
    scene.notes.append(when)


def log_filled(scene: Scene) -> None:
    scene.moment()
    log = scene.run.attempt(1).log
    how = scene.random.choice(["flood", "flood", "cut", "noise", "delete"])
    if how != "flood" and log.exists():
        damage.spoil(scene, log, how)


def launcher_killed(scene: Scene) -> None:
    """At any time, or once the run's folder is there and its supervisor starts."""
    if scene.random.random() < 0.7:
        _await(scene.run.path)
    time.sleep(scene.random.uniform(0.0, 0.5))
    scene.started[0].kill()


def two_launches(scene: Scene) -> None:
    time.sleep(scene.random.uniform(0, 0.2))
    first, second = scene.started[0], scene.launch()
    codes = [scene.finish(second, "launch", NAME).code]
    codes.append(scene.finish(first, "launch", NAME).code)
    if sorted(codes) != [0, 2]:
        scene.complain(f"two launches of one name gave exit codes {codes}")


def two_resumes(scene: Scene) -> None:
    first = scene.start("resume", NAME, "--detach")
    time.sleep(scene.random.uniform(0, 0.3))
    second = scene.start("resume", NAME, "--detach")
    done = [scene.finish(process, "resume", NAME) for process in (first, second)]
    if sorted(one.code for one in done) not in ([0, 2], [0, 4]):
        scene.complain(f"two resumes at once: {done[0]}; {done[1]}")


def resumer_killed(scene: Scene) -> None:
    process = scene.start("resume", NAME, "--detach", pace=True)
    if scene.random.random() < 0.7:
        _await(scene.run.attempt(2).path)
    time.sleep(scene.random.uniform(0, 0.5))
    process.kill()
    process.communicate()


def two_at_once(scene: Scene) -> None:
    """Two faults, one right after the other."""
    acts: dict[str, Callable[[], Any]] = {
        "kill the trainer": lambda: scene.send("trainer", signal.SIGKILL),
        "kill the supervisor": lambda: scene.send("supervisor", signal.SIGKILL),
        "stop the trainer for good": lambda: scene.send("trainer", signal.SIGSTOP),
        "SIGTERM to the trainer": lambda: scene.send("trainer", signal.SIGTERM),
        "SIGTERM to the supervisor": lambda: scene.send("supervisor", signal.SIGTERM),
        "spoil the heartbeat": lambda: damage.record_file(scene, ["heartbeat"]),
        "spoil the events": lambda: damage.record_file(scene, ["events"]),
        "spoil the start": lambda: damage.record_file(scene, ["start"]),
        "remove the lock": lambda: damage.remove(scene, scene.run.lock),
        "remove the log": lambda: damage.remove(scene, scene.run.attempt(1).log),
        "remove the attempt": lambda: damage.remove(scene, scene.run.attempt(1).path),
    }
    chosen = scene.random.sample(list(acts), 2)
    scene.await_step(scene.random.randint(2, TOTAL - 15))
    scene.notes.append(" + ".join(chosen))
    for name in chosen:
        acts[name]()
        time.sleep(scene.random.choice([0.0, scene.random.uniform(0, 0.3)]))


def _kill_all(scene: Scene) -> None:
    scene.send("supervisor", signal.SIGKILL)
    scene.send("trainer", signal.SIGKILL)


def _gone(scene: Scene) -> None:
    deadline = time.monotonic() + 15
    while any(scene.processes().values()) and time.monotonic() < deadline:
        time.sleep(0.05)


def _await(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.002)


def _set_clock(scene: Scene, seconds: int) -> None:
    temporary = scene.folder / ".clock"
    temporary.write_text(str(seconds))
    os.replace(temporary, scene.folder / "clock")


def _wandb() -> str:
    import importlib.util

    return "" if importlib.util.find_spec("wandb") else "needs wandb"


HANGS = {"compute": {"hang_after": f"{HANG_SECONDS}s"}}
CLOCK = {"PYTHONPATH": str(HERE / "clock")}
KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("kill -9 the trainer", 16, kill_trainer, words="SIGKILL"),
        Kind("kill -9 it while it saves", 5, kill_saving, trainers=REAL),
        Kind("kill -9 the supervisor", 12, kill_supervisor),
        Kind("kill -9 both", 12, kill_both),
        Kind("kill -9, restarted by itself", 4, kill_trainer, ALIVE, config={"compute": {"retries": 1}}),
        Kind("SIGSTOP for good (hang)", 7, hang, words="hung", config=HANGS),
        Kind("SIGSTOP and SIGCONT", 7, freeze, ALIVE),
        Kind("twenty SIGTERM and SIGINT", 8, storm, ENDED),
        Kind("stop, and a kill in it", 5, stop_and_kill, ENDED),
        Kind("full disk", 8, fill_disk, ENDED, prepare=small_disk, cure=free_disk, needs=may_mount),
        Kind("read-only disk", 5, freeze_disk, ENDED, cure=thaw_disk, needs=may_mount),
        Kind("checkpoints damaged", 10, checkpoints, trainers=REAL),
        Kind("all checkpoints damaged", 4, all_checkpoints, refused="no whole checkpoint is left"),
        Kind("latest and leftovers garbled", 3, pointer),
        Kind("records damaged, running", 10, records_running, ALIVE),
        Kind("records damaged, dead", 8, records_dead, ENDED),
        Kind("records damaged, finished", 5, records_done, (*ALIVE, "failed", "lost"), LIGHT),
        Kind("run.json damaged", 4, run_json, ("lost", "failed", "stopped"), refused="run.json"),
        Kind("torn tails, as by a power cut", 4, torn_tails),
        Kind("clock jumps", 6, clock_jump, (*ALIVE, *DEAD), env=CLOCK, prepare=own_clock, limit=12),
        Kind("times in records false", 4, times, trainers=LIGHT, limit=12),
        Kind(
            "wandb folder corrupted",
            3,
            wandb,
            ALIVE,
            {"torch": 1},
            config={"tracking": {"wandb": "offline"}},
            needs=_wandb,
        ),
        Kind("files deleted, running", 7, files_gone, ALIVE),
        Kind("two supervisors", 6, two_supervisors, ALIVE, limit=8),
        Kind("two launches at once", 2, two_launches, ALIVE, LIGHT),
        Kind("two resumes at once", 4, kill_both, trainers=LIGHT, again=two_resumes),
        Kind("launcher killed", 6, launcher_killed, (*ALIVE, *DEAD, "absent"), limit=12),
        Kind("resume killed", 4, kill_both, trainers=MIXED, limit=12, again=resumer_killed),
        Kind("log filled or lost", 3, log_filled, ALIVE, LIGHT, env={"TORTURE_CHATTER": "200000"}),
        Kind("two faults at once", 18, two_at_once, (*ALIVE, *ENDED), config=HANGS),
    )
}
