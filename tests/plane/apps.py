"""Apps: made, kept alive by heartbeats, published, left, looked up, tagged, stopped."""

from __future__ import annotations

import re
import time
from typing import Any

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from plane.boot import metadata
from plane.containers import Containers
from plane.state import App, Task, World

_TAG = re.compile(r"[A-Za-z0-9_.-]{1,63}")
_MOST_TAGS = 8


class Apps:
    def __init__(self, world: World, containers: Containers) -> None:
        self.world, self.containers = world, containers

    def get(self, id: str) -> App:
        if id not in self.world.apps:
            raise GRPCError(Status.NOT_FOUND, f"App '{id}' not found")
        return self.world.apps[id]

    async def AppCreate(self, request: Any, task: Task | None) -> Any:
        tags = _tags(request.tags)
        app = App(self.world.new("ap"), request.description, request.app_state, tags, time.time())
        self.world.apps[app.id] = app
        url = f"https://modal.com/apps/{self.world.settings.workspace}/main/{app.id}"
        return api_pb2.AppCreateResponse(app_id=app.id, app_page_url=url, app_logs_url=url)

    async def AppHeartbeat(self, request: Any, task: Task | None) -> Any:
        self.get(request.app_id)
        return Empty()

    async def AppPublish(self, request: Any, task: Task | None) -> Any:
        app = self.get(request.app_id)
        if app.over:
            raise GRPCError(Status.FAILED_PRECONDITION, f"App '{app.id}' is stopped")
        app.state, app.name = request.app_state, request.name
        app.functions = dict(request.function_ids)
        app.tags = _tags(request.tags) or app.tags
        url = f"https://modal.com/apps/{self.world.settings.workspace}/main/{app.id}"
        return api_pb2.AppPublishResponse(url=url, deployed_at=time.time())

    async def AppClientDisconnect(self, request: Any, task: Task | None) -> Any:
        app = self.get(request.app_id)
        app.disconnected = True
        if app.state == api_pb2.APP_STATE_DETACHED:
            app.state = api_pb2.APP_STATE_DETACHED_DISCONNECTED
        elif app.state != api_pb2.APP_STATE_DEPLOYED:
            await self.stop(app, "client")
        return Empty()

    async def AppStop(self, request: Any, task: Task | None) -> Any:
        await self.stop(self.get(request.app_id), self.world.settings.workspace)
        return Empty()

    async def stop(self, app: App, who: str) -> None:
        """End an app: what waits is terminated, what runs gets SIGINT and the grace (or SIGKILL, as set)."""
        if app.over:
            return
        app.state, app.stopped, app.stopped_by = api_pb2.APP_STATE_STOPPED, time.time(), who
        for call in self.world.calls.values():
            if call.function.app is app and call.result is None:
                running = call.task
                self.containers.finish(call, api_pb2.GenericResult.GENERIC_STATUS_TERMINATED)
                if running is not None:
                    gently = self.world.settings.stop_signal == "interrupt"
                    self.containers.soon(self.containers.end(running, "terminate", interrupt=gently))
        self.world.changed()

    async def AppGetOrCreate(self, request: Any, task: Task | None) -> Any:
        app = next((one for one in self.world.apps.values() if one.name == request.app_name and not one.over), None)
        if request.app_name.startswith("ap-"):
            app = self.get(request.app_name)
        elif app is None and request.object_creation_type == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED:
            raise GRPCError(Status.NOT_FOUND, f"App '{request.app_name}' not found in environment 'main'")
        elif app is None:
            app = App(
                self.world.new("ap"),
                request.app_name,
                api_pb2.APP_STATE_DEPLOYED,
                {},
                time.time(),
                name=request.app_name,
            )
            self.world.apps[app.id] = app
        return api_pb2.AppGetOrCreateResponse(app_id=app.id, handle_metadata=_about(app))

    async def AppGetByDeploymentName(self, request: Any, task: Task | None) -> Any:
        named = (one for one in self.world.apps.values() if one.name == request.name and not one.over)
        app = next(named, None)
        return api_pb2.AppGetByDeploymentNameResponse(app_id=app.id if app else "")

    async def AppGetLayout(self, request: Any, task: Task | None) -> Any:
        app = self.get(request.app_id)
        layout = api_pb2.AppLayout(function_ids=app.functions)
        for id in app.functions.values():
            about = metadata(self.world.functions[id])
            layout.objects.append(api_pb2.Object(object_id=id, function_handle_metadata=about))
        return api_pb2.AppGetLayoutResponse(app_layout=layout)

    async def AppGetLifecycle(self, request: Any, task: Task | None) -> Any:
        return api_pb2.AppGetLifecycleResponse(lifecycle=_lifecycle(self.get(request.app_id)))

    async def AppGetInfo(self, request: Any, task: Task | None) -> Any:
        return api_pb2.AppGetInfoResponse(info=_about(self.get(request.app_id)))

    async def AppList(self, request: Any, task: Task | None) -> Any:
        items = [
            api_pb2.AppListResponse.AppListItem(
                app_id=app.id,
                description=app.description,
                state=app.state,
                created_at=app.created,
                stopped_at=app.stopped,
                n_running_tasks=sum(1 for call in self.world.calls.values() if call.function.app is app and call.task),
                name=app.name,
            )
            for app in self.world.apps.values()
        ]
        return api_pb2.AppListResponse(apps=items)

    async def AppSetTags(self, request: Any, task: Task | None) -> Any:
        self.get(request.app_id).tags = _tags(request.tags)
        return Empty()

    async def AppGetTags(self, request: Any, task: Task | None) -> Any:
        return api_pb2.AppGetTagsResponse(tags=self.get(request.app_id).tags)

    async def TaskList(self, request: Any, task: Task | None) -> Any:
        running = [call.task for call in self.world.calls.values() if call.task is not None]
        listed = [one for one in running if request.app_id in ("", one.call.function.app.id)]
        items = [
            api_pb2.TaskStats(
                task_id=one.id,
                app_id=one.call.function.app.id,
                app_description=one.call.function.app.description,
                enqueued_at=one.enqueued,
                started_at=one.started,
            )
            for one in listed
        ]
        return api_pb2.TaskListResponse(tasks=items)

    async def ContainerStop(self, request: Any, task: Task | None) -> Any:
        running = (call.task for call in self.world.calls.values() if call.task is not None)
        found = next((one for one in running if one.id == request.task_id), None)
        if found is None:
            raise GRPCError(Status.NOT_FOUND, f"Container '{request.task_id}' not found")
        self.containers.soon(self.containers.end(found, "preempt", interrupt=True))
        return api_pb2.ContainerStopResponse()


def _tags(given: Any) -> dict[str, str]:
    tags = dict(given)
    if len(tags) > _MOST_TAGS:
        raise GRPCError(Status.INVALID_ARGUMENT, f"At most {_MOST_TAGS} tags are allowed on an App, got {len(tags)}")
    for word in [*tags, *tags.values()]:
        if not _TAG.fullmatch(word):
            raise GRPCError(Status.INVALID_ARGUMENT, f"Invalid tag: {word!r}")
    return tags


def _about(app: App) -> Any:
    return api_pb2.AppHandleMetadata(
        description=app.description,
        app_id=app.id,
        environment_name="main",
        lifecycle=_lifecycle(app),
        functions=app.functions,
    )


def _lifecycle(app: App) -> Any:
    return api_pb2.AppLifecycle(
        app_state=app.state,
        created_at=app.created,
        created_by="plane",
        stopped_at=app.stopped,
        stopped_by=app.stopped_by,
    )
