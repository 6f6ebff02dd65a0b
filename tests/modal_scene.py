"""runctl's command line against a plane: a project of a tiny training, and the commands as processes.

The container runs the real supervisor and the real trainer, so one run takes some ten seconds: runs are shared where
they can be.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from plane import Plane, state_name

ROOT = Path(__file__).parent.parent
SECRET = "hush-51c0de-nobody-may-read-this"
CONFIG = """
name: {name}
task: worldmodel
data: {{simulate: {{games: 3, seconds: 5, seed: 1}}}}
model: {{arch: mamba2, d_model: 32, n_layers: 1, context_len: 10, chunk_size: 10}}
training: {{steps: {steps}, batch_size: 16, lr: 1.0e-3, warmup_steps: 5, precision: fp32, seed: 1, threads: 1}}
checkpoint: {{every: "{every} steps"}}
compute: {{backend: modal, timeout: {timeout}, retries: {retries}{compute}}}
"""
WAITING = ", gpu: H100, cpu: 2, memory: 4GiB"  # with queue=inf its container never comes


class Done:
    """A command that has ended."""

    def __init__(self, code: int, out: str, err: str, seconds: float) -> None:
        self.code, self.out, self.err, self.seconds = code, out, err, seconds

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def __repr__(self) -> str:
        return f"exit {self.code} after {self.seconds:.1f} s\n{self.out}\n{self.err}"


class Scene:
    """A project folder and the machine whose it is."""

    def __init__(self, plane: Plane, folder: Path, **environment: str) -> None:
        self.plane, self.folder = plane, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.environment = plane.environment(PYTHONPATH=str(ROOT), **environment)
        self.settings("")
        self.begun: list[subprocess.Popen[str]] = []

    def settings(self, modal: str) -> None:
        (self.folder / "runctl.yaml").write_text(f"policy: {{}}\n{f'modal: {modal}' if modal else ''}\n")

    def config(
        self,
        name: str = "job",
        *,
        steps: int = 40,
        every: int = 10,
        timeout: str = "30m",
        retries: int = 2,
        compute: str = "",
    ) -> str:
        text = CONFIG.format(name=name, steps=steps, every=every, timeout=timeout, retries=retries, compute=compute)
        (self.folder / f"{name}.yaml").write_text(text)
        return f"{name}.yaml"

    def begin(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "runctl", *words]
        if words[0] == "launch":
            argv += ["--allow", "CK108", "--allow", "TM101", "--because", "a test"]
        process = subprocess.Popen(
            argv,
            cwd=self.folder,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.begun.append(process)
        return process

    def do(self, *words: str, seconds: float = 90.0, **environment: str) -> Done:
        began = time.monotonic()
        process = self.begin(*words, **environment)
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"{words} took longer than {seconds} s\n{out}\n{err}\n{self.plane.log()}") from None
        return Done(process.returncode, out, err, time.monotonic() - began)

    def status(self, name: str = "job") -> dict[str, Any]:
        done = self.do("status", name, "--json")
        assert done.code == 0, done
        found: dict[str, Any] = done.json["status"]
        return found

    def remote(self, name: str = "job") -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "runs" / name / "remote.json").read_text())
        return found

    def living(self) -> list[str]:
        """The apps that cost somebody money."""
        return [app.id for app in self.plane.world.apps.values() if state_name(app) != "STOPPED"]

    def files(self) -> dict[str, bytes]:
        """The committed files of the volume, between two commits."""

        async def read() -> dict[str, bytes]:
            return self.plane.files("runctl")

        found: dict[str, bytes] = self.plane._do(read())
        return found

    def beyond(self, step: int, name: str = "job", seconds: float = 60.0) -> int:
        """Wait until the volume holds a checkpoint of that step or a later one; returns its step."""

        def newest() -> int | None:
            files = self.files()
            begin = f"runs/{name}/checkpoints/step-"
            steps = [
                int(path[len(begin) :].split("/")[0]) for path in files if path.startswith(begin) and "manifest" in path
            ]
            return max(steps) if steps and max(steps) >= step else None

        found: int = self.plane.until(newest, seconds, f"a checkpoint at step {step}")
        return found

    def exits(self, name: str = "job") -> dict[int, dict[str, Any]]:
        """The exit records on the volume, by attempt."""
        files = self.files()
        return {
            int(path.split("/")[3]): json.loads(data)
            for path, data in files.items()
            if path.startswith(f"runs/{name}/attempts/") and path.endswith("/exit.json")
        }

    def end(self) -> None:
        for process in self.begun:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


def until(true: Callable[[], Any], seconds: float = 30.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)
    return found
