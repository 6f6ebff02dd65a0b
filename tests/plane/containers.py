"""The life of a call: its containers one after another, until there is an answer that stays.

A container is the client's own entrypoint (`python -m modal._container_entrypoint`), unchanged, as a process of this
machine, with its private copies of the volumes at their paths (box.py), the uploaded source on its path, the secrets in
its environment and a control plane of its own on a Unix socket, so that the plane knows which container speaks.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import shutil
import signal
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modal_proto import api_pb2

from plane import boot, processes
from plane.state import Call, Task, World

if TYPE_CHECKING:
    from plane.server import Front

_HOW = {
    api_pb2.GenericResult.GENERIC_STATUS_SUCCESS: "success",
    api_pb2.GenericResult.GENERIC_STATUS_FAILURE: "failure",
    api_pb2.GenericResult.GENERIC_STATUS_TERMINATED: "terminated",
    api_pb2.GenericResult.GENERIC_STATUS_TIMEOUT: "timeout",
}


class Containers:
    def __init__(self, world: World, front: Front, way: str) -> None:
        self.world, self.front, self.way = world, front, way
        self._aside: set[asyncio.Task[None]] = set()

    def begin(self, call: Call) -> None:
        call.worker = asyncio.create_task(self._live(call), name=call.id)

    async def _live(self, call: Call) -> None:
        """Containers for one call until it has its result."""
        world, settings = self.world, self.world.settings
        while call.result is None:
            definition, kind, count = await self._place(call)
            if call.result is not None:
                return
            task = Task(world.new("ta"), call, definition, call.retry, kind, count, time.time(), Path())
            task.folder = world.root / "containers" / task.id
            call.tasks.append(task)
            await self._run(task)
            world.changed()
            if call.result is not None:
                return
            if task.ended_how in ("crashed", "oom"):
                call.crashes += 1
                if call.crashes >= settings.crash_limit:
                    name = "KERNEL_OOM_KILL" if task.ended_how == "oom" else "INTERNAL_FAILURE"
                    status = api_pb2.GenericResult.GenericStatus.Value(f"GENERIC_STATUS_{name}")
                    self.finish(call, status, f"Container crashed {call.crashes} times")
            elif task.ended_how in ("failure", "timeout"):
                policy = call.function.first.retry_policy
                if call.retry >= policy.retries:
                    self._conclude(call, task)
                else:
                    pause = policy.initial_delay_ms * max(policy.backoff_coefficient, 1.0) ** call.retry / 1000
                    call.retry += 1
                    await asyncio.sleep(min(pause, policy.max_delay_ms / 1000 or pause) * settings.delay_scale)
            # preempted: the same input once more, and no retry is used up

    async def _place(self, call: Call) -> tuple[Any, str, int]:
        """Wait for a GPU; returns the definition whose GPU it is, the kind really given, and how many."""
        settings, since = self.world.settings, time.monotonic()

        def free() -> Any:
            kinds = ((one, one.resources.gpu_config.gpu_type) for one in call.function.ranked)
            return next((one for one, kind in kinds if kind not in settings.busy), None)

        def placed() -> bool:
            waits = free() is None or (
                free().resources.gpu_config.gpu_type and time.monotonic() - since < settings.queue
            )
            return call.result is not None or not waits

        while not await self.world.until(placed, settings.queue if 0 < settings.queue < math.inf else None):
            pass
        definition = free() or call.function.first
        wanted = definition.resources.gpu_config
        return definition, settings.upgrade.get(wanted.gpu_type, wanted.gpu_type), wanted.count

    async def _run(self, task: Task) -> None:
        settings = self.world.settings
        try:
            await boot.start(self.world, task, await self.front.listen(task), self.way)
        except (OSError, ValueError) as error:
            self.world.log(task, api_pb2.FILE_DESCRIPTOR_INFO, f"container could not start: {error}\n")
            await self.front.hang_up(task)
            task.ended_how, task.ended = "crashed", time.time()
            return
        assert task.process is not None
        streams = (
            (task.process.stdout, api_pb2.FILE_DESCRIPTOR_STDOUT),
            (task.process.stderr, api_pb2.FILE_DESCRIPTOR_STDERR),
        )
        beside = [asyncio.create_task(self._pump(task, stream, number)) for stream, number in streams]
        keeper = asyncio.create_task(self._keep(task))
        limit = task.definition.timeout_secs * settings.timeout_scale
        try:
            while task.process.returncode is None:
                left = limit - (time.time() - task.input_started) if task.input_started else 0.05
                if left <= 0 and not task.intent and task.output is None:
                    await self.end(task, "timeout", interrupt=settings.timeout_signal == "interrupt")
                await _gone(task, left if left > 0 else 0.05)
        finally:
            keeper.cancel()
            processes.end_all(task.id)  # whatever it started and left behind
            await asyncio.wait([*beside, keeper])
            await self.front.hang_up(task)
            task.ended_how, task.ended = self._how(task), time.time()
            self.world.log(task, api_pb2.FILE_DESCRIPTOR_INFO, f"container {task.id} ended: {task.ended_how}\n")
            shutil.rmtree(task.folder, ignore_errors=True)

    def _how(self, task: Task) -> str:
        if task.output is not None:
            return _HOW.get(task.output.result.status, "failure")
        return {"preempt": "preempted", "timeout": "timeout", "terminate": "terminated", "oom": "oom"}.get(
            task.intent, "crashed"
        )

    async def _pump(self, task: Task, stream: asyncio.StreamReader | None, descriptor: int) -> None:
        assert stream is not None
        rest = b""
        while data := await stream.read(65536):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self.world.log(task, descriptor, line.decode(errors="replace") + "\n")
        if rest:
            self.world.log(task, descriptor, rest.decode(errors="replace"))

    async def _keep(self, task: Task) -> None:
        """Background commits, where they are on."""
        while True:
            await asyncio.sleep(self.world.settings.background_commit or 0.1)
            if self.world.settings.background_commit:
                for copy in task.volumes.values():
                    copy.commit("background")

    async def end(self, task: Task, intent: str, *, interrupt: bool) -> None:
        """End a container: SIGINT to its program, and SIGKILL to all of it once the grace is over."""
        task.intent = task.intent or intent
        if interrupt and task.process is not None and task.process.returncode is None:
            whom = processes.of(task.id) if self.world.settings.interrupt_all else [task.process.pid]
            for pid in whom:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGINT)
            if await _gone(task, self.world.settings.grace):
                return
        processes.end_all(task.id)

    def conclude_early(self, call: Call, task: Task) -> None:
        """An answer came in: a success and a cancellation are final at once, before the container has gone."""
        how, spent = self._how(task), call.retry >= call.function.first.retry_policy.retries
        if how in ("success", "terminated") or (how == "failure" and spent):
            self._conclude(call, task)

    def _conclude(self, call: Call, task: Task) -> None:
        if task.output is not None:
            call.data_format = task.output.data_format
            self.settle(call, task.output.result)
        else:
            seconds = task.definition.timeout_secs
            text = f"Task's current input hit its timeout of {seconds}s"
            self.finish(call, api_pb2.GenericResult.GENERIC_STATUS_TIMEOUT, text)

    def finish(self, call: Call, status: int, text: str = "") -> None:
        self.settle(call, api_pb2.GenericResult(status=status, exception=text))

    def settle(self, call: Call, result: api_pb2.GenericResult) -> None:
        if call.result is None:
            call.result, call.finished = result, time.time()
            self.world.changed()

    def soon(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Do something beside the RPC that asked for it."""
        task = asyncio.create_task(coroutine)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    async def shut_down(self) -> None:
        """End every container and every call's worker."""
        workers = [call.worker for call in self.world.calls.values() if call.worker is not None]
        for call in self.world.calls.values():
            self.finish(call, api_pb2.GenericResult.GENERIC_STATUS_TERMINATED, "the plane ended")
            if call.task is not None:
                await self.end(call.task, "terminate", interrupt=False)
        if workers:
            await asyncio.wait(workers, timeout=5)
        for left in [*workers, *self._aside]:
            left.cancel()
        await asyncio.gather(*workers, *self._aside, return_exceptions=True)

    async def cancel(self, call: Call, *, terminate: bool) -> None:
        """Cancel a call: at once while it waits, else by the next heartbeat of its container (or by force)."""
        task = call.task
        running = task is not None and bool(task.input_started)
        if terminate or not running:
            self.finish(call, api_pb2.GenericResult.GENERIC_STATUS_TERMINATED)
        if task is not None and (terminate or not running):
            await self.end(task, "terminate", interrupt=False)
        elif task is not None:
            task.cancelled = True  # told with every heartbeat from now on: the first may come before the input
        self.world.changed()


async def _gone(task: Task, seconds: float) -> bool:
    """Wait for a container's program to end, for so long."""
    assert task.process is not None
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.shield(task.process.wait()), seconds)
    return task.process.returncode is not None
