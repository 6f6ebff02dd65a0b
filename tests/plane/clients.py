"""Client processes for tests: each a fork of one process that has imported modal and done nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from plane.running import Plane

PROGRAM = Path(__file__).parent / "sample" / "client.py"


class Client:
    """One running client process."""

    def __init__(self, pid: int, folder: Path) -> None:
        self.pid, self._folder = pid, folder

    def lines(self) -> list[dict[str, Any]]:
        """What it has said so far."""
        file = self._folder / "out.txt"
        whole = file.read_text().rpartition("\n")[0] if file.exists() else ""
        return [json.loads(line) for line in whole.splitlines()]

    def said(self) -> str:
        """All that it printed."""
        return (self._folder / "out.txt").read_text()

    def error(self) -> str:
        file = self._folder / "err.txt"
        return file.read_text() if file.exists() else ""

    def done(self) -> bool:
        return (self._folder / "code").exists()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, seconds: float = 30.0) -> int:
        end = time.monotonic() + seconds
        while not self.done():
            if time.monotonic() > end:
                self.kill()
                raise AssertionError(f"the client was not done within {seconds} s\n{self.lines()}\n{self.error()}")
            time.sleep(0.005)
        return int((self._folder / "code").read_text())


class Clients:
    """Use as a context manager; `do` runs one verb of sample/client.py to its end."""

    def __enter__(self) -> Clients:
        self._folder = tempfile.TemporaryDirectory(prefix="plane-clients-")
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()
        self._folder.cleanup()

    def start(self, plane: Plane, verb: str, *, environment: dict[str, str] | None = None, **given: Any) -> Client:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        folder = Path(tempfile.mkdtemp(dir=self._folder.name))
        whole = plane.environment(**(environment or {}))
        job = {"verb": verb, "given": given, "environment": whole, "out": str(folder)}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return Client(int(self._process.stdout.readline()), folder)

    def do(self, plane: Plane, verb: str, *, environment: dict[str, str] | None = None, **given: Any) -> dict[str, Any]:
        """The last line that the client said; raises AssertionError with its stderr where it failed."""
        client = self.start(plane, verb, environment=environment, **given)
        if client.wait() != 0:
            raise AssertionError(f"client {verb} failed\n{client.error()}")
        lines = client.lines()
        return lines[-1] if lines else {}


def launch(clients: Clients, plane: Plane, mount: str, do: str, **more: Any) -> dict[str, Any]:
    """Launch one call of sample/plane_job.py to the client's end; returns its ids."""
    options = {"timeout": 3600, **more.pop("options", {})}
    spec = {"do": do, "volume": "runs", **more.pop("spec", {})}
    return clients.do(plane, "launch", spec=spec, mount=mount, options=options, **more)
