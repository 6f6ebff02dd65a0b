"""Stories of a run on Modal, for trouble to be told with them (`modal_faults`): what comes before, the command that is
meant, and what must not be wrong once it has ended and the trouble is over."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from modal_proto import api_pb2
from modal_scene import WAITING, Done, Scene
from plane import Plane, state_name

LIMIT = 150.0  # seconds for a command
SOON = ", grace: 5s"  # so that a stop which nobody answers gives up early


@dataclass(frozen=True)
class Story:
    """`ready` comes before the trouble; `act` is the command; `left` says what is wrong afterwards."""

    name: str
    ready: Callable[[Bench], Scene]
    act: Callable[[Bench, Scene], Done]
    left: Callable[[Bench, Scene, Done], Iterator[str]]
    who: str = "client"
    fine: tuple[int, ...] = (0,)
    told: tuple[int, ...] = (5,)
    http: bool = False  # it reads or writes files


class Bench:
    """A plane without free GPUs, a place for projects, and a run that has ended, made once."""

    def __init__(self, plane: Plane, root: Path) -> None:
        self.plane, self.root, self.count = plane, root, 0
        self.before: set[str] = set()

    def fresh(self) -> Scene:
        """A project with a volume of its own."""
        self.count += 1
        scene = Scene(self.plane, self.root / f"p{self.count}")
        scene.settings(f"{{volume: v{self.count}}}")
        return scene

    def ended(self, snapshot: str) -> Scene:
        """A project of a run that has ended: `open` where nobody has seen its end, `attached` on another machine."""
        if not (self.root / "attached").exists():
            scene = self.fresh()
            good(scene.do("launch", scene.config(steps=10), "--no-wait"))
            shutil.copytree(scene.folder, self.root / "open")
            good(scene.do("wait", "job"))
            other = Scene(self.plane, self.root / "attached")
            shutil.copy(scene.folder / "runctl.yaml", other.folder / "runctl.yaml")
            good(other.do("attach", "job"))
        for app in self.plane.world.apps.values():
            if snapshot == "open":  # as if nobody had closed the run
                app.state = api_pb2.APP_STATE_DETACHED_DISCONNECTED
        self.count += 1
        folder = self.root / f"p{self.count}"
        shutil.copytree(self.root / snapshot, folder)
        settings = (folder / "runctl.yaml").read_text()
        scene = Scene(self.plane, folder)
        (folder / "runctl.yaml").write_text(settings)
        return scene

    def queued(self) -> Scene:
        scene = self.fresh()
        good(scene.do("launch", scene.config(compute=WAITING + SOON), "--no-wait"))
        return scene

    def begin(self) -> None:
        self.plane.faults.armed.clear()
        self.plane.ledger.seen.clear()
        self.before = set(self.plane.world.apps)
        self.calls = set(self.plane.world.calls)

    def living(self, scene: Scene) -> list[str]:
        return [app for app in scene.living() if app not in self.before]

    def spawned(self) -> list[str]:
        return [call for call in self.plane.world.calls if call not in self.calls]

    def clear(self) -> None:
        """End what the story has left on the plane."""
        for app in list(self.plane.world.apps.values()):
            with suppress(Exception):
                self.plane._do(self.plane.apps.stop(app, "the test"))


def good(done: Done) -> Done:
    assert done.code == 0, done
    return done


# --- the stories -----------------------------------------------------------------------------------------------------


def launch(bench: Bench, scene: Scene) -> Done:
    return scene.do("launch", "job.yaml", "--no-wait", seconds=LIMIT)


def after_launch(bench: Bench, scene: Scene, done: Done) -> Iterator[str]:
    if len(bench.spawned()) > 1:
        yield f"{len(bench.spawned())} calls"
    if done.code == 0:
        if (state := scene.status()["state"]) != "queued":
            yield f"it is {state}"
        if len(bench.living(scene)) != 1:
            yield f"{len(bench.living(scene))} living apps"
        return
    if (scene.folder / "runs" / "job" / "run.json").exists() and (state := scene.status()["state"]) != "failed":
        yield f"after a failed launch it is {state}"
    if bench.living(scene):
        if "runctl reconcile" not in done.err:
            yield "an app lives that nobody was told of"
        scene.do("reconcile", "--yes")
        if bench.living(scene):
            yield "an app lives that reconcile does not end"
    again = scene.do("launch", "job.yaml", "--name", "job-2", "--no-wait")
    if again.code:
        yield f"the next launch: exit {again.code}"


def configured(bench: Bench) -> Scene:
    scene = bench.fresh()
    scene.config(compute=WAITING)
    return scene


def look(bench: Bench, scene: Scene) -> Done:
    return scene.do("status", "job", "--json", seconds=LIMIT)


def still_queued(bench: Bench, scene: Scene, done: Done) -> Iterator[str]:
    if (state := scene.status()["state"]) != "queued":
        yield f"afterwards it is {state}"


def closed(bench: Bench, scene: Scene, done: Done) -> Iterator[str]:
    if (state := scene.status()["state"]) != "succeeded":
        yield f"afterwards it is {state}"
    app = bench.plane.app(scene.remote()["app"])
    if app.id in scene.living():
        yield "its app lives"


def follow(bench: Bench, scene: Scene) -> Done:
    """The call is ended from outside while its output is followed."""
    app = bench.plane.app(scene.remote()["app"])
    timers = (
        threading.Timer(2.5, lambda: bench.plane._do(bench.plane.apps.stop(app, "somebody"))),
        threading.Timer(12.0, bench.plane.faults.armed.clear),  # it would be waited for until the trouble is over
    )
    for timer in timers:
        timer.start()
    try:
        return scene.do("logs", "job", "-f", "--raw", seconds=LIMIT)
    finally:
        for timer in timers:
            timer.cancel()
            timer.join()


def over(bench: Bench, scene: Scene, done: Done) -> Iterator[str]:
    if (state := scene.status()["state"]) != "killed":
        yield f"afterwards it is {state}"


def stop(bench: Bench, scene: Scene) -> Done:
    return scene.do("stop", "job", "--yes", seconds=LIMIT)


def stopped(bench: Bench, scene: Scene, done: Done) -> Iterator[str]:
    again = scene.do("stop", "job", "--yes", seconds=LIMIT)
    if again.code:
        yield f"the next stop: exit {again.code}"
    if (state := scene.status()["state"]) != "stopped":
        yield f"afterwards it is {state}"
    if scene.remote()["app"] in scene.living():
        yield "its app lives"


def unattached(bench: Bench) -> Scene:
    scene = bench.ended("attached")
    shutil.rmtree(scene.folder / "runs")
    return scene


def attach(bench: Bench, scene: Scene) -> Done:
    return scene.do("attach", "job", seconds=LIMIT)


def attached(bench: Bench, scene: Scene, done: Done) -> Iterator[str]:
    if done.code and scene.do("attach", "job").code:
        yield "the next attach fails"
    if (state := scene.status()["state"]) != "succeeded":
        yield f"afterwards it is {state}"


def pull(bench: Bench, scene: Scene) -> Done:
    return scene.do("pull", "job", "out", "--checkpoint", "latest", seconds=LIMIT)


def pulled(bench: Bench, scene: Scene, done: Done) -> Iterator[str]:
    if done.code:
        if (scene.folder / "out" / "job").exists():
            yield "a part of it was left"
        if scene.do("pull", "job", "out", "--checkpoint", "latest").code:
            yield "the next pull fails"
    if not (scene.folder / "out" / "job" / "checkpoints" / "step-000000010" / "model.safetensors").exists():
        yield "no checkpoint came"


def with_dataset(bench: Bench) -> Scene:
    from test_data_volume import CONFIG, make

    scene = bench.fresh()
    (scene.folder / "job.yaml").write_text(CONFIG)
    make(scene.folder / "data" / "melee")
    return scene


def push(bench: Bench, scene: Scene) -> Done:
    return scene.do("data", "push", "job.yaml", seconds=LIMIT)


def pushed(bench: Bench, scene: Scene, done: Done) -> Iterator[str]:
    if done.code and scene.do("data", "push", "job.yaml").code:
        yield "the next push fails"
    if (code := scene.do("data", "check", "job.yaml").code) != 0:
        yield f"data check: exit {code}"


def with_pushed(bench: Bench) -> Scene:
    scene = with_dataset(bench)
    good(scene.do("data", "push", "job.yaml"))
    return scene


def check(bench: Bench, scene: Scene) -> Done:
    return scene.do("data", "check", "job.yaml", seconds=LIMIT)


def with_replays(bench: Bench) -> Scene:
    import slp_writer

    scene = bench.fresh()
    (scene.folder / "job.yaml").write_text("name: job\ndata: {encoded: data/melee}\ntraining: {steps: 100, seed: 1}\n")
    (scene.folder / "replays").mkdir()
    slp_writer.write(scene.folder / "replays" / "a.slp", slp_writer.Replay(frames=250))
    slp_writer.write(scene.folder / "replays" / "b.slp", slp_writer.Replay(frames=250, seed=1))
    return scene


def encode(bench: Bench, scene: Scene) -> Done:
    return scene.do("encode", "job.yaml", "--replays", "replays", "--on", "modal", seconds=LIMIT)


def encoded(bench: Bench, scene: Scene, done: Done) -> Iterator[str]:
    living = [state_name(bench.plane.app(app)) for app in bench.living(scene)]
    if [state for state in living if state != "EPHEMERAL"]:  # such a one ends when its client is gone
        yield "its app lives"
    if done.code and scene.do("encode", "job.yaml", "--replays", "replays", "--on", "modal", seconds=LIMIT).code:
        yield "the next encode fails"
    listed = scene.do("data", "ls", "--json")
    if listed.code or [one["games"] for one in listed.json["datasets"]] != [2]:
        yield "the dataset is not there"


def with_stray(bench: Bench) -> Scene:
    scene = bench.fresh()
    request = api_pb2.AppCreateRequest(description="runctl-lost", app_state=api_pb2.APP_STATE_DETACHED)
    request.tags["runctl.run"] = "lost"
    bench.before = set(bench.plane.world.apps)
    bench.plane._do(bench.plane.apps.AppCreate(request, None))
    return scene


def reconcile(bench: Bench, scene: Scene) -> Done:
    return scene.do("reconcile", "--yes", seconds=LIMIT)


def reconciled(bench: Bench, scene: Scene, done: Done) -> Iterator[str]:
    if done.code and scene.do("reconcile", "--yes").code:
        yield "the next reconcile fails"
    stray = [app for app in bench.plane.world.apps.values() if app.description == "runctl-lost"]
    if any(app.id in scene.living() for app in stray):
        yield "the stray lives"


def training(bench: Bench) -> Scene:
    scene = bench.fresh()
    scene.config(steps=10, every=5, retries=1)
    return scene


def live(bench: Bench, scene: Scene) -> Done:
    """A whole run, as its launcher sees it: the trouble is the container's."""
    begun = scene.do("launch", "job.yaml", "--no-wait", seconds=LIMIT)
    return begun if begun.code else scene.do("wait", "job", "--timeout", "8m", seconds=500)


def lived(bench: Bench, scene: Scene, done: Done) -> Iterator[str]:
    if len(bench.spawned()) != 1:
        yield f"{len(bench.spawned())} calls"
    if done.code == 0 and scene.status()["state"] != "succeeded":
        yield "it has not succeeded"
    if bench.living(scene):
        yield "its app lives"
    running = [call.task for call in bench.plane.world.calls.values() if call.id in bench.spawned() and call.task]
    if running and not _ends(bench, running):
        yield "a container goes on"


def _ends(bench: Bench, tasks: Sequence[object]) -> bool:
    end = time.monotonic() + 30
    while any(not task.ended for task in tasks):  # type: ignore[attr-defined]
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def running(bench: Bench) -> Scene:
    scene = bench.fresh()
    good(scene.do("launch", scene.config(steps=100000, every=1000, compute=SOON), "--detach", seconds=LIMIT))
    return scene


STORIES = (
    Story("launch", configured, launch, after_launch),
    Story("status", lambda bench: bench.queued(), look, still_queued),
    Story("end", lambda bench: bench.ended("open"), look, closed, http=True),
    Story("follow", lambda bench: bench.queued(), follow, over),
    Story("stop", lambda bench: bench.queued(), stop, stopped),
    Story("attach", unattached, attach, attached, http=True),
    Story("pull", lambda bench: bench.ended("attached"), pull, pulled, http=True),
    Story("push", with_dataset, push, pushed),
    Story("check", with_pushed, check, lambda bench, scene, done: iter(()), http=True),
    Story("encode", with_replays, encode, encoded),
    Story("reconcile", with_stray, reconcile, reconciled),
    Story("container", training, live, lived, who="container", told=(6,)),
    Story("save", running, stop, stopped, told=(5, 8)),
)
