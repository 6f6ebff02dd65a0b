"""Who one is, environments, secrets by name, dictionaries."""

from __future__ import annotations

import time
from typing import Any

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from plane.state import Task, World


class Stores:
    def __init__(self, world: World) -> None:
        self.world = world

    async def ClientHello(self, request: Any, task: Task | None) -> Any:
        return api_pb2.ClientHelloResponse()

    async def AuthTokenGet(self, request: Any, task: Task | None) -> Any:
        return api_pb2.AuthTokenGetResponse(token="e30.eyJleHAiOjk5OTk5OTk5OTl9.e30")

    async def WorkspaceNameLookup(self, request: Any, task: Task | None) -> Any:
        return api_pb2.WorkspaceNameLookupResponse(
            workspace_name=self.world.settings.workspace, username=self.world.settings.workspace
        )

    async def EnvironmentGetOrCreate(self, request: Any, task: Task | None) -> Any:
        if request.deployment_name not in ("", "main"):
            raise GRPCError(Status.NOT_FOUND, f"Environment '{request.deployment_name}' not found")
        settings = api_pb2.EnvironmentSettings(image_builder_version="2025.06")
        metadata = api_pb2.EnvironmentMetadata(name="main", settings=settings)
        return api_pb2.EnvironmentGetOrCreateResponse(environment_id="en-main", metadata=metadata)

    async def EnvironmentList(self, request: Any, task: Task | None) -> Any:
        return api_pb2.EnvironmentListResponse(items=[api_pb2.EnvironmentListItem(name="main", default=True)])

    async def SecretGetOrCreate(self, request: Any, task: Task | None) -> Any:
        name, world = request.deployment_name, self.world
        known = next((id for id, (other, _) in world.secrets.items() if other == name), None) if name else None
        creation = request.object_creation_type
        if known is None and creation == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED:
            raise GRPCError(Status.NOT_FOUND, f"Secret '{name}' not found in environment 'main'")
        if known is not None and creation == api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS:
            raise GRPCError(Status.ALREADY_EXISTS, f"Secret '{name}' already exists")
        if known is None:
            known = world.new("st")
            world.secrets[known] = (name, dict(request.env_dict))
        missing = [key for key in request.required_keys if key not in world.secrets[known][1]]
        if missing:
            raise GRPCError(Status.NOT_FOUND, f"Secret is missing key(s): {', '.join(missing)}")
        metadata = api_pb2.SecretMetadata(name=name) if hasattr(api_pb2, "SecretMetadata") else None
        return api_pb2.SecretGetOrCreateResponse(secret_id=known, metadata=metadata)

    async def SecretList(self, request: Any, task: Task | None) -> Any:
        named = [(id, name) for id, (name, _) in self.world.secrets.items() if name]
        return api_pb2.SecretListResponse(
            items=[api_pb2.SecretListItem(label=name, secret_id=id) for id, name in named]
        )

    async def DictGetOrCreate(self, request: Any, task: Task | None) -> Any:
        name, world = request.deployment_name, self.world
        known = next((id for id, (other, _) in world.dicts.items() if other == name), None) if name else None
        if known is None:
            if name and request.object_creation_type == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED:
                raise GRPCError(Status.NOT_FOUND, f"Dict '{name}' not found in environment 'main'")
            known = world.new("di")
            world.dicts[known] = (name, {})
        for item in request.data:
            world.dicts[known][1].setdefault(item.key, item.value)
        creation = api_pb2.CreationInfo(created_at=time.time())
        metadata = api_pb2.DictMetadata(name=name, creation_info=creation)
        return api_pb2.DictGetOrCreateResponse(dict_id=known, metadata=metadata)

    def _dict(self, id: str) -> dict[bytes, bytes]:
        if id not in self.world.dicts:
            raise GRPCError(Status.NOT_FOUND, f"Dict '{id}' not found")
        return self.world.dicts[id][1]

    async def DictUpdate(self, request: Any, task: Task | None) -> Any:
        stored = self._dict(request.dict_id)
        fresh = [item for item in request.updates if item.key not in stored]
        if not (request.if_not_exists and not fresh):
            stored.update({item.key: item.value for item in request.updates})
        self.world.changed()
        return api_pb2.DictUpdateResponse(created=bool(fresh))

    async def DictGet(self, request: Any, task: Task | None) -> Any:
        stored = self._dict(request.dict_id)
        found = request.key in stored
        return api_pb2.DictGetResponse(found=found, value=stored.get(request.key) if found else None)

    async def DictPop(self, request: Any, task: Task | None) -> Any:
        stored = self._dict(request.dict_id)
        found = request.key in stored
        return api_pb2.DictPopResponse(found=found, value=stored.pop(request.key) if found else None)

    async def DictContains(self, request: Any, task: Task | None) -> Any:
        return api_pb2.DictContainsResponse(found=request.key in self._dict(request.dict_id))

    async def DictLen(self, request: Any, task: Task | None) -> Any:
        return api_pb2.DictLenResponse(len=len(self._dict(request.dict_id)))

    async def DictClear(self, request: Any, task: Task | None) -> Any:
        self._dict(request.dict_id).clear()
        return Empty()

    async def DictDelete(self, request: Any, task: Task | None) -> Any:
        self.world.dicts.pop(request.dict_id, None)
        return Empty()

    async def DictContents(self, request: Any, task: Task | None) -> Any:
        for key, value in list(self._dict(request.dict_id).items()):
            yield api_pb2.DictEntry(key=key if request.keys else None, value=value if request.values else None)
