"""What the plane knows: apps, functions, calls, containers, volumes, secrets. Changed only on the plane's loop."""

from __future__ import annotations

import asyncio
import secrets as randoms
import string
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modal_proto import api_pb2

from plane.quirks import Quirks

_LETTERS = string.ascii_letters + string.digits


@dataclass
class Settings:
    """How this plane behaves. Seconds are real; the scales shorten what Modal counts in minutes and hours."""

    token_id: str = "ak-plane"
    token_secret: str = "as-plane-secret"
    workspace: str = "plane-workspace"
    grace: float = 1.5  # between SIGINT and SIGKILL; 30 s on Modal
    timeout_scale: float = 1.0  # a Function's timeout, in real seconds
    delay_scale: float = 0.05  # pauses between retries
    background_commit: float | None = None  # seconds between them; None: only explicit commits and the one at exit
    crash_limit: int = 3  # containers that may die without an answer before the call is given up
    timeout_signal: str = "kill"  # or "interrupt": SIGINT, grace, SIGKILL. Modal's own way is not known
    stop_signal: str = "interrupt"  # of App.stop: not known either
    queue: float = 0.0  # seconds that a GPU container waits for its GPU; float("inf"): for ever
    image_seconds: float = 0.0  # how long an image takes to build
    interrupt_all: bool = False  # SIGINT to every process of a container, not only to its program: not known either
    upgrade: dict[str, str] = field(default_factory=dict)  # GPU asked for -> GPU given, such as {"H100": "H200"}
    busy: set[str] = field(default_factory=set)  # GPU kinds that are never free: the next fallback is given
    retention: float | None = None  # seconds that logs are kept; None: for ever
    rates: dict[str, float] = field(default_factory=dict)  # resource -> USD per hour, for billing
    quirks: Quirks = field(default_factory=Quirks)  # what it does otherwise than others may expect


@dataclass
class App:
    id: str
    description: str
    state: int
    tags: dict[str, str]
    created: float
    stopped: float = 0.0
    stopped_by: str = ""
    name: str = ""  # of a deployed app
    functions: dict[str, str] = field(default_factory=dict)
    disconnected: bool = False

    @property
    def over(self) -> bool:
        return self.state in (api_pb2.APP_STATE_STOPPED, api_pb2.APP_STATE_STOPPING)


@dataclass
class Function:
    id: str
    app: App
    name: str
    request: Any = None  # FunctionCreateRequest
    ranked: list[Any] = field(default_factory=list)  # api_pb2.Function, one for each GPU in order of preference

    @property
    def first(self) -> Any:
        return self.ranked[0]


@dataclass
class Task:
    """One container: one attempt at a call."""

    id: str
    call: Call
    definition: Any  # the api_pb2.Function of the GPU that it got
    retry: int
    gpu: str
    gpus: int
    enqueued: float
    folder: Path
    started: float = 0.0  # its process
    input_started: float = 0.0  # it took the input: the timeout counts from here
    ended: float = 0.0
    process: asyncio.subprocess.Process | None = None
    ended_how: str = ""  # "", success, failure, timeout, preempted, terminated, crashed, oom
    output: Any = None  # FunctionPutOutputsItem
    intent: str = ""  # what the plane is doing to it: preempt, timeout, terminate
    cancelled: bool = False  # the input is to be cancelled: told by the next heartbeat
    volumes: dict[str, Any] = field(default_factory=dict)  # volume id -> its private copy


@dataclass
class Call:
    id: str
    function: Function
    input_id: str
    input: Any  # FunctionInput
    created: float
    tasks: list[Task] = field(default_factory=list)
    retry: int = 0
    crashes: int = 0
    result: Any = None  # GenericResult
    data_format: int = 0
    finished: float = 0.0
    expired: bool = False
    worker: asyncio.Task[None] | None = None

    @property
    def task(self) -> Task | None:
        """The container that runs now."""
        return self.tasks[-1] if self.tasks and not self.tasks[-1].ended else None


@dataclass
class Line:
    number: int
    time_ns: int
    descriptor: int
    text: str
    app: str
    function: str
    call: str
    input: str
    task: str


class World:
    def __init__(self, root: Path, settings: Settings) -> None:
        self.root, self.settings = root, settings
        self.apps: dict[str, App] = {}
        self.functions: dict[str, Function] = {}
        self.calls: dict[str, Call] = {}
        self.volumes: dict[str, Any] = {}
        self.secrets: dict[str, tuple[str, dict[str, str]]] = {}  # id -> (name, environment)
        self.dicts: dict[str, tuple[str, dict[bytes, bytes]]] = {}
        self.images: dict[str, Any] = {}
        self.mounts: dict[str, Any] = {}
        self.lines: list[Line] = []
        self._waiting: set[asyncio.Future[None]] = set()

    def new(self, prefix: str) -> str:
        return f"{prefix}-" + "".join(randoms.choice(_LETTERS) for _ in range(22))

    def log(self, task: Task, descriptor: int, text: str) -> None:
        call = task.call
        ids = (call.function.app.id, call.function.id, call.id, call.input_id, task.id)
        self.lines.append(Line(len(self.lines) + 1, time.time_ns(), descriptor, text, *ids))
        self.changed()

    def changed(self) -> None:
        """Wake all that wait for something."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def until(self, true: Callable[[], Any], seconds: float | None = None) -> bool:
        """Wait until something is true; False where `seconds` passed first."""
        end = None if seconds is None else time.monotonic() + seconds
        while not true():
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return False
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(future)
            try:
                await asyncio.wait([future], timeout=left)
            finally:
                self._waiting.discard(future)
        return True
