"""The gRPC front: every RPC of the service is answered here, by a method of that name of one of the services.

An RPC that no service has answers UNIMPLEMENTED with its name. Every RPC is noted, checked for its token (those of
containers come over a socket of their own instead), met with the armed faults, and answered once for each idempotency
key: a client that retries after a lost answer gets the first one again, and nothing happens twice.
"""

from __future__ import annotations

import asyncio
import tempfile
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from google.protobuf.message_factory import GetMessageClass
from grpclib import GRPCError, Status
from grpclib.const import Cardinality, Handler
from grpclib.server import Server, Stream
from modal_proto import api_pb2

from plane.faults import Faults
from plane.ledger import Ledger
from plane.quirks import without_fields
from plane.state import Task, World

Unary = Callable[[Any, Task | None], Awaitable[Any]]
Streaming = Callable[[Any, Task | None], AsyncIterator[Any]]

_SERVICE = api_pb2.DESCRIPTOR.services_by_name["ModalClient"]
_CALLED_BY_CONTAINERS_ONLY = ("VolumeCommit", "VolumeReload", "FunctionGetInputs", "FunctionPutOutputs", "TaskResult")


class Front:
    def __init__(self, world: World, ledger: Ledger, faults: Faults) -> None:
        self.world, self.ledger, self.faults = world, ledger, faults
        self.services: Sequence[object] = ()
        self.defects: list[str] = []  # tracebacks of the plane's own mistakes; a test fails on any
        self.port = 0
        self._server: _Listener | None = None
        self._sockets = Path(tempfile.mkdtemp(prefix="plane"))  # short: a socket's path has 108 bytes at most
        self._listeners: dict[str, _Listener] = {}
        self._answers: dict[str, Any] = {}

    async def open(self, port: int = 0) -> None:
        self._server = _Listener([_Service(self, None)])
        await self._server.start("127.0.0.1", port or self.port)
        self.port = self._server._server.sockets[0].getsockname()[1]  # grpclib has no other way to say it

    async def close(self) -> None:
        """Hang up on all clients and refuse new ones, as a service that cannot be reached. `open` undoes it."""
        if self._server is not None:
            await self._server.end()
            self._server = None

    async def listen(self, task: Task) -> str:
        path = self._sockets / task.id
        server = self._listeners[task.id] = _Listener([_Service(self, task)])
        await server.start(path=str(path))
        return f"unix://{path}"

    async def hang_up(self, task: Task) -> None:
        server = self._listeners.pop(task.id, None)
        if server is not None:
            await server.end()
            (self._sockets / task.id).unlink(missing_ok=True)

    def remove_sockets(self) -> None:
        for path in self._sockets.iterdir():
            path.unlink()
        self._sockets.rmdir()

    async def answer(self, rpc: str, streams: bool, task: Task | None, stream: Stream[Any, Any]) -> None:
        request = await stream.recv_message()
        metadata = stream.metadata or {}
        who, key = (task.id if task else "client"), str(metadata.get("x-idempotency-key", ""))
        entry = self.ledger.note(rpc, who, request, key)
        quirks = self.world.settings.quirks
        try:
            if task is None:
                self._authenticate(rpc, metadata)
            await asyncio.sleep(quirks.latency)
            late = await self.faults.before(rpc, who)
            handler = next((found for one in self.services if (found := getattr(one, rpc, None))), None)
            if handler is None or rpc in quirks.without:
                raise GRPCError(Status.UNIMPLEMENTED, f"{rpc}: the test plane does not answer this")
            if streams:
                async for response in handler(request, task):
                    await stream.send_message(without_fields(response, quirks.omit))
            else:
                key = "" if quirks.forgets_keys else key
                if key not in self._answers:
                    response = await handler(request, task)
                    self._answers |= {key: response} if key else {}
                else:
                    response = self._answers[key]
                if late is not None and late.status is not None:
                    raise GRPCError(late.status, f"injected {late.status.name} after {rpc} took effect")
                await stream.send_message(without_fields(response, quirks.omit))
            entry.outcome = "OK"
        except GRPCError as error:
            entry.outcome = error.status.name
            raise
        except asyncio.CancelledError:
            entry.outcome = "CANCELLED"
            raise
        except Exception:
            entry.outcome = "DEFECT"
            self.defects.append(traceback.format_exc())
            raise GRPCError(Status.FAILED_PRECONDITION, f"{rpc}: defect of the test plane") from None
        finally:
            self.world.changed()

    def _authenticate(self, rpc: str, metadata: Any) -> None:
        given = (metadata.get("x-modal-token-id"), metadata.get("x-modal-token-secret"))
        if given != (self.world.settings.token_id, self.world.settings.token_secret):
            raise GRPCError(Status.UNAUTHENTICATED, "Token ID is malformed or unknown")
        if rpc in _CALLED_BY_CONTAINERS_ONLY:
            raise GRPCError(Status.FAILED_PRECONDITION, f"{rpc} can only be called from within a container")


class _Listener(Server):
    """A grpclib server that can also hang up on those that are connected."""

    def __init__(self, handlers: list[Any]) -> None:
        super().__init__(handlers)
        self._connected: list[Any] = []

    def _protocol_factory(self) -> Any:
        protocol = super()._protocol_factory()
        self._connected.append(protocol)
        return protocol

    async def end(self) -> None:
        self.close()
        for protocol in self._connected:
            if (connection := getattr(protocol, "connection", None)) is not None:
                connection.close()
        await self.wait_closed()
        await asyncio.sleep(0)  # a transport is closed one turn of the loop after it was told to


class _Service:
    """What grpclib asks for: one handler for each RPC, with its message types, read from the service's descriptor."""

    def __init__(self, front: Front, task: Task | None) -> None:
        self._front, self._task = front, task

    def __mapping__(self) -> dict[str, Handler]:
        return {
            f"/{_SERVICE.full_name}/{method.name}": Handler(
                partial(self._front.answer, method.name, method.server_streaming, self._task),
                Cardinality.UNARY_STREAM if method.server_streaming else Cardinality.UNARY_UNARY,
                GetMessageClass(method.input_type),
                GetMessageClass(method.output_type),
            )
            for method in _SERVICE.methods
            if not method.client_streaming
        }
