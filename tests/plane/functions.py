"""Functions: made in two steps, and refused for what the service itself refuses (the client lets all of it pass)."""

from __future__ import annotations

from typing import Any

from grpclib import GRPCError, Status
from modal_proto import api_pb2

from plane import gpus
from plane.boot import metadata
from plane.state import Function, Task, World

_SHORTEST, _LONGEST, _MOST_RETRIES = 10, 86400, 10


class Functions:
    def __init__(self, world: World) -> None:
        self.world = world

    def get(self, id: str) -> Function:
        if id not in self.world.functions:
            raise GRPCError(Status.NOT_FOUND, f"Function '{id}' not found")
        return self.world.functions[id]

    async def FunctionPrecreate(self, request: Any, task: Task | None) -> Any:
        app = self.world.apps[request.app_id]
        function = self.world.functions.get(request.existing_function_id)
        if function is None:
            function = Function(self.world.new("fu"), app, request.function_name)
            self.world.functions[function.id] = function
        return api_pb2.FunctionPrecreateResponse(function_id=function.id, handle_metadata=metadata(function))

    async def FunctionCreate(self, request: Any, task: Task | None) -> Any:
        ranked = sorted(request.function_data.ranked_functions, key=lambda one: one.rank)
        definitions = [one.function for one in ranked] or [request.function]
        for definition in definitions:
            self._check(definition)
        app = self.world.apps[request.app_id]
        if app.over:
            raise GRPCError(Status.FAILED_PRECONDITION, f"App '{app.id}' is stopped")
        function = self.world.functions.get(request.existing_function_id)
        if function is None:
            function = Function(self.world.new("fu"), app, definitions[0].function_name)
            self.world.functions[function.id] = function
        function.request, function.ranked = request, definitions
        response = api_pb2.FunctionCreateResponse(
            function_id=function.id, handle_metadata=metadata(function), function=definitions[0]
        )
        if "function_data" in response.DESCRIPTOR.fields_by_name:
            response.function_data.CopyFrom(_data(function))
        return response

    def _check(self, definition: Any) -> None:
        gpu = definition.resources.gpu_config
        if gpu.gpu_type and (fault := gpus.fault(gpu.gpu_type, gpu.count)):
            raise GRPCError(Status.INVALID_ARGUMENT, fault)
        if not _SHORTEST <= definition.timeout_secs <= _LONGEST:
            raise GRPCError(Status.INVALID_ARGUMENT, f"Timeout must be between {_SHORTEST}s and {_LONGEST}s")
        if definition.retry_policy.retries > _MOST_RETRIES:
            raise GRPCError(Status.INVALID_ARGUMENT, f"Retries must be between 0 and {_MOST_RETRIES}")
        if len(definition.function_name) > 64 or len(definition.app_name) > 64:
            raise GRPCError(Status.INVALID_ARGUMENT, "Names may have 64 characters at most")
        known = {
            "Secret": (definition.secret_ids, self.world.secrets),
            "Mount": (definition.mount_ids, self.world.mounts),
            "Volume": ([mount.volume_id for mount in definition.volume_mounts], self.world.volumes),
            "Image": ([definition.image_id], self.world.images),
        }
        for what, (ids, there) in known.items():
            for id in ids:
                if id not in there:
                    raise GRPCError(Status.NOT_FOUND, f"{what} '{id}' not found")

    async def FunctionGet(self, request: Any, task: Task | None) -> Any:
        apps = [app for app in self.world.apps.values() if app.name == request.app_name and not app.over]
        if not apps or request.object_tag not in apps[0].functions:
            raise GRPCError(Status.NOT_FOUND, f"No function named '{request.object_tag}' in app '{request.app_name}'")
        function = self.get(apps[0].functions[request.object_tag])
        return api_pb2.FunctionGetResponse(
            function_id=function.id, handle_metadata=metadata(function), function=_data(function)
        )

    async def FunctionGetById(self, request: Any, task: Task | None) -> Any:
        function = self.get(request.function_id)
        response = api_pb2.FunctionGetByIdResponse(handle_metadata=metadata(function))
        response.function.CopyFrom(_data(function))
        return response


def _data(function: Function) -> Any:
    """The FunctionData of a function: what its definitions have in common, and each of them with its rank."""
    data = api_pb2.FunctionData()
    first = function.first
    for descriptor, value in first.ListFields():
        field = api_pb2.FunctionData.DESCRIPTOR.fields_by_name.get(descriptor.name)
        if field is None or field.message_type is not descriptor.message_type:
            continue
        if field.is_repeated and field.message_type and field.message_type.GetOptions().map_entry:
            getattr(data, descriptor.name).MergeFrom(value)
        elif field.is_repeated:
            getattr(data, descriptor.name).extend(value)
        elif field.message_type:
            getattr(data, descriptor.name).CopyFrom(value)
        else:
            setattr(data, descriptor.name, value)
    for rank, definition in enumerate(function.ranked):
        data.ranked_functions.add(rank=rank).function.CopyFrom(definition)
    return data
