"""The HTTP side: blobs and blocks go up and down, and a test in another process steers the plane (POST /control)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from plane.ledger import Ledger

Control = Callable[[str, dict[str, Any]], Awaitable[Any]]


class Web:
    def __init__(self, folder: Path, ledger: Ledger, control: Control) -> None:
        self.folder, self._ledger, self._control = folder, ledger, control
        self.url = ""
        self.fail_next = 0  # this many requests answer 503
        self._runner: web.AppRunner | None = None

    async def open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        app = web.Application(client_max_size=1 << 32)
        app.router.add_put("/data/{name}", self._put)
        app.router.add_get("/data/{name}", self._get)
        app.router.add_get("/range/{path:.*}", self._range)
        app.router.add_post("/control/{verb}", self._steer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def address(self, name: str) -> str:
        return f"{self.url}/data/{name}"

    def range_address(self, path: Path, start: int, length: int) -> str:
        return f"{self.url}/range{path}?start={start}&length={length}"

    def place(self, name: str) -> Path:
        return self.folder / name

    def _trouble(self) -> web.Response | None:
        if self.fail_next > 0:
            self.fail_next -= 1
            return web.Response(status=503, text="injected 503")
        return None

    async def _put(self, request: web.Request) -> web.Response:
        body = await request.read()
        self._ledger.note("HTTP PUT", "client", body)
        if trouble := self._trouble():
            return trouble
        self.place(request.match_info["name"]).write_bytes(body)
        digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
        return web.Response(body=request.match_info["name"].encode(), headers={"ETag": f'"{digest}"'})

    async def _get(self, request: web.Request) -> web.Response:
        if trouble := self._trouble():
            return trouble
        place = self.place(request.match_info["name"])
        return web.Response(body=place.read_bytes()) if place.is_file() else web.Response(status=404)

    async def _range(self, request: web.Request) -> web.Response:
        if trouble := self._trouble():
            return trouble
        start, length = int(request.query["start"]), int(request.query["length"])
        with Path("/", request.match_info["path"]).open("rb") as file:
            file.seek(start)
            return web.Response(body=file.read(length))

    async def _steer(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            answer = await self._control(request.match_info["verb"], json.loads(body) if body else {})
        except (LookupError, TypeError, ValueError) as error:
            return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=400)
        return web.json_response({"answer": answer})
