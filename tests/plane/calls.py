"""Calls: spawned, waited for, cancelled, asked about by clients; fetched and answered by containers."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from plane.containers import Containers
from plane.functions import Functions
from plane.state import Call, Task, World

_HEARTBEAT = 8.0  # seconds that a container's heartbeat is held, to tell it at once of a cancellation


class Calls:
    def __init__(self, world: World, functions: Functions, containers: Containers) -> None:
        self.world, self.functions, self.containers = world, functions, containers

    def get(self, id: str) -> Call:
        if id not in self.world.calls:
            raise GRPCError(Status.NOT_FOUND, f"Function call '{id}' not found")
        return self.world.calls[id]

    # --- by clients --------------------------------------------------------------------------------------------------

    async def FunctionMap(self, request: Any, task: Task | None) -> Any:
        function = self.functions.get(request.function_id)
        if function.app.over:
            raise GRPCError(Status.FAILED_PRECONDITION, f"App '{function.app.id}' is stopped")
        if not request.pipelined_inputs:
            raise GRPCError(Status.UNIMPLEMENTED, "FunctionMap without its inputs")
        item = request.pipelined_inputs[0]
        call = Call(self.world.new("fc"), function, self.world.new("in"), item.input, time.time())
        self.world.calls[call.id] = call
        self.containers.begin(call)
        given = api_pb2.FunctionPutInputsResponseItem(idx=item.idx, input_id=call.input_id, input_jwt=call.input_id)
        return api_pb2.FunctionMapResponse(
            function_call_id=call.id,
            pipelined_inputs=[given],
            retry_policy=function.first.retry_policy,
            function_call_jwt=call.id,
        )

    async def FunctionGetOutputs(self, request: Any, task: Task | None) -> Any:
        call = self.get(request.function_call_id)
        await self.world.until(lambda: call.result is not None, min(request.timeout, 55.0))
        response = api_pb2.FunctionGetOutputsResponse(last_entry_id="1-0")
        if call.result is None:
            response.num_unfinished_inputs = 1
        elif not call.expired:
            response.outputs.add(
                result=call.result, data_format=call.data_format, input_id=call.input_id, retry_count=call.retry
            )
        return response

    async def FunctionCallCancel(self, request: Any, task: Task | None) -> Any:
        call = self.get(request.function_call_id)
        if call.result is None:
            await self.containers.cancel(call, terminate=request.terminate_containers)
        return Empty()

    async def FunctionCallFromId(self, request: Any, task: Task | None) -> Any:
        call = self.get(request.function_call_id)
        metadata = api_pb2.FunctionCallHandleMetadata(app_id=call.function.app.id, function_id=call.function.id)
        return api_pb2.FunctionCallFromIdResponse(function_call_id=call.id, num_inputs=1, metadata=metadata)

    async def FunctionCallGetInfo(self, request: Any, task: Task | None) -> Any:
        call = self.get(request.function_call_id)
        kind = {"SUCCESS": "succeeded", "TIMEOUT": "timeout", "TERMINATED": "cancelled"}.get(self.state(call), "failed")
        kind = "pending" if call.result is None else kind
        about = api_pb2.FunctionCallInfo(function_call_id=call.id, created_at=call.created, total_inputs=1)
        getattr(about, f"{kind}_inputs").total = 1
        return api_pb2.FunctionCallGetInfoResponse(info=about)

    async def FunctionCallFetch(self, request: Any, task: Task | None) -> Any:
        """What `modal function calls fu-... --json` shows: state, container and times of every input."""
        response = api_pb2.FunctionCallFetchResponse()
        for call in self.world.calls.values():
            if call.function.id != request.function_id:
                continue
            state = api_pb2.FunctionCallInputStatus.Value(f"FUNCTION_CALL_INPUT_STATUS_{self.state(call)}")
            item = response.function_call_inputs.add(function_call_id=call.id, status=state)
            item.enqueued_at.FromNanoseconds(int(call.created * 1e9))
            last = call.tasks[-1] if call.tasks else None
            if last is not None:
                item.container_id = last.id
            if last is not None and last.input_started:
                item.started_at.FromNanoseconds(int(last.input_started * 1e9))
                item.startup_time_seconds = last.input_started - last.enqueued
                item.execution_time_seconds = (last.ended or time.time()) - last.input_started
        return response

    async def FunctionGetCallGraph(self, request: Any, task: Task | None) -> Any:
        call = self.get(request.function_call_id)
        status = call.result.status if call.result is not None else api_pb2.GenericResult.GENERIC_STATUS_UNSPECIFIED
        node = api_pb2.InputCallGraphInfo(
            input_id=call.input_id,
            status=status,
            function_call_id=call.id,
            task_id=call.tasks[-1].id if call.tasks else "",
        )
        about = api_pb2.FunctionCallCallGraphInfo(
            function_call_id=call.id, function_name=call.function.name, module_name=call.function.first.module_name
        )
        return api_pb2.FunctionGetCallGraphResponse(inputs=[node], function_calls=[about])

    def state(self, call: Call) -> str:
        """pending, running, or how it ended, in the service's own words (FUNCTION_CALL_INPUT_STATUS_...)."""
        if call.result is not None:
            return api_pb2.GenericResult.GenericStatus.Name(call.result.status).removeprefix("GENERIC_STATUS_")
        return "RUNNING" if call.task is not None and call.task.input_started else "PENDING"

    # --- by containers -----------------------------------------------------------------------------------------------

    async def ContainerHello(self, request: Any, task: Task | None) -> Any:
        return Empty()

    async def ContainerHeartbeat(self, request: Any, task: Task | None) -> Any:
        assert task is not None
        response = api_pb2.ContainerHeartbeatResponse()
        if await self.world.until(lambda: task.cancelled and task.input_started, _HEARTBEAT):
            response.cancel_input_event.input_ids.append(task.call.input_id)
        return response

    async def FunctionGetInputs(self, request: Any, task: Task | None) -> Any:
        assert task is not None
        if task.input_started:  # it has had its one input: a container serves one call here
            await asyncio.sleep(0.2)
            return api_pb2.FunctionGetInputsResponse(inputs=[api_pb2.FunctionGetInputsItem(kill_switch=True)])
        task.input_started = time.time()
        self.world.changed()
        call = task.call
        item = api_pb2.FunctionGetInputsItem(
            input_id=call.input_id, input=call.input, function_call_id=call.id, retry_count=call.retry
        )
        return api_pb2.FunctionGetInputsResponse(inputs=[item])

    async def FunctionPutOutputs(self, request: Any, task: Task | None) -> Any:
        assert task is not None
        for item in request.outputs:
            if item.input_id == task.call.input_id and task.output is None and not task.intent:
                task.output = item
                self.containers.conclude_early(task.call, task)
        self.world.changed()
        return Empty()

    async def TaskResult(self, request: Any, task: Task | None) -> Any:
        """The container failed before it took its input, such as by an ImportError: not retried by the policy."""
        assert task is not None
        result = request.result
        self.world.log(task, api_pb2.FILE_DESCRIPTOR_INFO, f"{result.exception}\n")
        result.status = api_pb2.GenericResult.GENERIC_STATUS_INIT_FAILURE
        if task.call.crashes + 1 >= self.world.settings.crash_limit:
            self.containers.settle(task.call, result)
        return Empty()
