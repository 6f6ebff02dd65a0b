"""A running plane: its own thread and loop, and the handle by which a test steers and questions it."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from modal_proto import api_pb2

from plane import box
from plane.apps import Apps
from plane.billing import Billing
from plane.calls import Calls
from plane.containers import Containers
from plane.copies import Volume
from plane.faults import Fault, Faults
from plane.functions import Functions
from plane.images import Images
from plane.ledger import Ledger
from plane.logs import Logs
from plane.server import Front
from plane.state import App, Call, Settings, Task, World
from plane.stores import Stores
from plane.volumes import Volumes
from plane.web import Web


class Plane:
    """Use as a context manager. Everything public may be called from the test's thread."""

    def __init__(self, root: Path | None = None, *, way: str | None = None, **settings: Any) -> None:
        self._own = root is None
        self.root = Path(tempfile.mkdtemp(prefix="plane-")) if root is None else root
        self.settings = Settings(**settings)
        self.way = way or os.environ.get("PLANE_WAY") or box.best_way()
        self.ledger, self.faults = Ledger(), Faults()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="plane", daemon=True)
        self._failure: BaseException | None = None

    def __enter__(self) -> Plane:
        self._thread.start()
        self._ready.wait(20)
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        if self._own:
            shutil.rmtree(self.root, ignore_errors=True)
        if self.front.defects:
            raise AssertionError("the plane itself went wrong:\n" + "\n".join(self.front.defects))

    # --- running -----------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # told to the test's thread
            self._failure = error
            self._ready.set()

    async def _main(self) -> None:
        self.loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.root.mkdir(parents=True, exist_ok=True)
        self.world = World(self.root, self.settings)
        self.front = Front(self.world, self.ledger, self.faults)
        self.web = Web(self.root / "web", self.ledger, self.control)
        self.containers = Containers(self.world, self.front, self.way)
        functions = Functions(self.world)
        self.images, self.volumes = Images(self.world, self.web), Volumes(self.world, self.web)
        self.apps = Apps(self.world, self.containers)
        self.calls = Calls(self.world, functions, self.containers)
        services = (self.apps, self.calls, functions, self.images, self.volumes)
        self.front.services = (*services, Logs(self.world), Stores(self.world), Billing(self.world))
        await self.front.open()
        await self.web.open()
        self._ready.set()
        await self._stop.wait()
        await self.containers.shut_down()
        await self.front.close()
        await self.web.close()
        self.front.remove_sockets()

    def _do(self, coroutine: Coroutine[Any, Any, Any], seconds: float = 30) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(seconds)

    # --- for clients -------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.front.port}"

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of a client process: this plane, its token, and no configuration of this machine's user."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MODAL_")}
        return {
            **kept,
            "MODAL_SERVER_URL": self.url,
            "MODAL_TOKEN_ID": self.settings.token_id,
            "MODAL_TOKEN_SECRET": self.settings.token_secret,
            "MODAL_CONFIG_PATH": str(self.root / "no-such-modal.toml"),
            "PLANE_CONTROL": f"{self.web.url}/control",
            **more,
        }

    # --- what a test asks --------------------------------------------------------------------------------------------

    def until(self, true: Callable[[], Any], seconds: float = 10.0, what: str = "") -> Any:
        """Wait until something is true and return it; raises AssertionError with the logs where it never is."""
        end = time.monotonic() + seconds
        while not (value := true()):
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds} s: {what or 'what was waited for'}\n{self.log()}")
            time.sleep(0.01)
        return value

    def log(self, call: Call | None = None) -> str:
        """The text of all containers, or of one call's."""
        return "".join(line.text for line in list(self.world.lines) if call is None or line.call == call.id)

    def app(self, id: str = "") -> App:
        """An app by id, or the only one."""
        return self.world.apps[id] if id else _only(self.world.apps)

    def call(self, id: str = "") -> Call:
        """A call by id, or the only one."""
        return self.world.calls[id] if id else _only(self.world.calls)

    def running(self, id: str = "", seconds: float = 10.0) -> Task:
        """The container of a call that has taken its input; waits for it."""

        def found() -> Task | None:
            calls = [self.world.calls[id]] if id else list(self.world.calls.values())
            return next((call.task for call in calls if call.task and call.task.input_started), None)

        task: Task = self.until(found, seconds, "a running container")
        return task

    def files(self, volume: str) -> dict[str, bytes]:
        """The committed files of a volume."""
        folder = self.volume(volume).folder
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def volume(self, name: str) -> Volume:
        found: Volume = next(one for one in self.world.volumes.values() if one.name == name)
        return found

    def leaks(self, secret: str) -> list[str]:
        """Where a secret's value shows: RPCs and uploads that came in, and the containers' logs."""
        found = [f"{entry.rpc} by {entry.who}" for entry in self.ledger.holding(secret)]
        return found + (["logs"] if secret in self.log() else [])

    # --- what a test does --------------------------------------------------------------------------------------------

    def make_volume(self, name: str, version: int = 1) -> Volume:
        async def made() -> Volume:
            return self.volumes.make(name, version)

        volume: Volume = self._do(made())
        return volume

    def make_secret(self, name: str, **values: str) -> None:
        self.world.secrets[self.world.new("st")] = (name, values)

    def fail_image(self, line: str, said: str = "build failed") -> None:
        """Let every image fail whose Dockerfile has this text in it."""
        self.images.failing[line] = said

    def fail(self, rpc: str, status: str | None = "UNAVAILABLE", **how: Any) -> Fault:
        return self.faults.arm(rpc, status, **how)

    def preempt(self, call: str = "") -> None:
        """SIGINT, the grace, SIGKILL; the same call starts again on the same input."""
        self._do(self.containers.end(self.running(call), "preempt", interrupt=True))

    def kill(self, call: str = "", how: str = "crash") -> None:
        """SIGKILL to everything in the container, without a warning. `how`: "crash", "oom" or "preempt"."""
        self._do(self.containers.end(self.running(call), how, interrupt=False))

    def expire(self, call: str = "") -> None:
        """What time does to a result after seven days."""
        self.call(call).expired = True

    def set(self, **settings: Any) -> None:
        """Change how the plane behaves, such as queue=0.0 once a GPU is to be free."""
        for name, value in settings.items():
            if not hasattr(self.settings, name):
                raise TypeError(f"no such setting: {name}")
            setattr(self.settings, name, value)
        self.loop.call_soon_threadsafe(self.world.changed)

    def unplug(self) -> None:
        """The service cannot be reached any more (running containers go on). `plug` undoes it."""
        self._do(self.front.close())

    def plug(self) -> None:
        self._do(self.front.open())

    async def control(self, verb: str, given: dict[str, Any]) -> Any:
        """The same from another process: POST /control/VERB with the arguments as JSON."""
        if verb not in ("preempt", "kill", "expire", "set", "fail", "fail_image", "make_secret", "log", "seen"):
            raise LookupError(f"no such control: {verb}")
        if verb == "seen":
            return self.ledger.names()
        answer = await asyncio.to_thread(getattr(self, verb), **given)
        return answer if isinstance(answer, str) else None


def _only(found: dict[str, Any]) -> Any:
    if len(found) != 1:
        raise LookupError(f"{len(found)} of them: {sorted(found)}")
    return next(iter(found.values()))


def state_name(app: App) -> str:
    """STOPPED, DETACHED, ..."""
    return api_pb2.AppState.Name(app.state).removeprefix("APP_STATE_")
