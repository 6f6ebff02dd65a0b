"""Logs: every line of every container, by app, function, call and container; fetched, counted and streamed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from modal_proto import api_pb2

from plane.state import Line, Task, World


class Logs:
    def __init__(self, world: World) -> None:
        self.world = world

    def _lines(self, request: Any) -> list[Line]:
        """The lines that a request's filters let through, and that are still kept."""
        oldest = time.time_ns() - int((self.world.settings.retention or 10**9) * 1e9)
        wanted = {
            "app": request.app_id,
            "function": request.function_id,
            "call": request.function_call_id,
            "task": request.task_id,
        }
        source = getattr(request, "source", 0) or getattr(request, "file_descriptor", 0)
        text = getattr(request, "search_text", "")
        return [
            line
            for line in self.world.lines
            if all(not value or getattr(line, name) == value for name, value in wanted.items())
            and line.time_ns >= oldest
            and (not source or line.descriptor == source)
            and text in line.text
        ]

    async def AppFetchLogs(self, request: Any, task: Task | None) -> Any:
        since, until = request.since.ToNanoseconds(), request.until.ToNanoseconds() + 10**9
        within = [line for line in self._lines(request) if since <= line.time_ns <= until]
        return api_pb2.AppFetchLogsResponse(batches=_batches(within[-request.limit :] if request.limit else within))

    async def AppCountLogs(self, request: Any, task: Task | None) -> Any:
        width = request.bucket_secs * 10**9
        start, end = request.since.ToNanoseconds() // width * width, request.until.ToNanoseconds()
        response = api_pb2.AppCountLogsResponse()
        lines = [line for line in self._lines(request) if start <= line.time_ns <= end + 10**9]
        for bucket in range(start, end + 1, width):
            inside = [line for line in lines if bucket <= line.time_ns < bucket + width]
            entry = response.buckets.add(
                stdout_logs=sum(line.descriptor == api_pb2.FILE_DESCRIPTOR_STDOUT for line in inside),
                stderr_logs=sum(line.descriptor == api_pb2.FILE_DESCRIPTOR_STDERR for line in inside),
                system_logs=sum(line.descriptor == api_pb2.FILE_DESCRIPTOR_INFO for line in inside),
            )
            entry.bucket_start_at.FromNanoseconds(bucket)
        return response

    async def AppGetLogs(self, request: Any, task: Task | None) -> AsyncIterator[Any]:
        short = self.world.settings.quirks.short_streams
        end = time.monotonic() + (0.0 if short else request.timeout or 55.0)
        seen = int(request.last_entry_id.partition("-")[0] or 0)
        app = self.world.apps.get(request.app_id)
        while True:
            fresh = [line for line in self._lines(request) if line.number > seen]
            for batch in _batches(fresh):
                yield batch
            seen = fresh[-1].number if fresh else seen
            if app is not None and app.over and not self._running(app.id):
                yield api_pb2.TaskLogsBatch(entry_id=f"{seen}-0", app_done=True)
                return
            left = end - time.monotonic()
            if left <= 0:
                return
            count = len(self.world.lines)
            await self.world.until(
                lambda count=count: len(self.world.lines) > count or (app is not None and app.over), min(left, 0.5)
            )

    def _running(self, app: str) -> bool:
        return any(call.task is not None for call in self.world.calls.values() if call.function.app.id == app)


def _batches(lines: list[Line]) -> list[Any]:
    """One batch for each run of lines of one container."""
    batches: list[Any] = []
    for line in lines:
        if not batches or batches[-1].task_id != line.task:
            batches.append(api_pb2.TaskLogsBatch(task_id=line.task, input_id=line.input))
        item = batches[-1].items.add(
            data=line.text, file_descriptor=line.descriptor, timestamp=line.time_ns / 1e9, timestamp_ns=line.time_ns
        )
        for name, value in (("function_call_id", line.call), ("input_id", line.input), ("container_id", line.task)):
            if name in item.DESCRIPTOR.fields_by_name:
                setattr(item, name, value)
        batches[-1].entry_id = f"{line.number}-0"
    return batches
