"""How a container comes to be: its source, its copies of volumes, its environment, its arguments, its process."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from modal_proto import api_pb2

from plane import box, gpus, processes
from plane.copies import Copy
from plane.state import Function, Task, World


async def start(world: World, task: Task, url: str, way: str) -> None:
    """Start a container's process; raises OSError or ValueError where its mounts cannot be made."""
    same = world.settings.quirks.same_machine
    definition = task.definition
    (task.folder / "stage").mkdir(parents=True)
    source = task.folder / "source"
    cwd = source / "root"
    cwd.mkdir(parents=True)
    for mount in definition.mount_ids:
        world.mounts[mount].lay_out(source, world.root / "blobs")
    mounts = [[str(folder), path] for folder, path in _volumes(world, task)]
    if way == "links":
        for folder, path in mounts:
            link(Path(folder), Path(path))
    (task.folder / "arguments").write_bytes(_arguments(task).SerializeToString())
    (task.folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
    plan = {
        "way": way,
        "boot": "" if same else str(task.folder / "boot_id"),
        "host": "" if same else f"modal-{task.id[3:]}".lower(),
        "mounts": mounts,
        "argv": [sys.executable, "-m", "modal._container_entrypoint"],
        "cwd": str(cwd),
        "stage": str(task.folder / "stage"),
    }
    task.started = time.time()
    task.process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-S",
        box.__file__,
        json.dumps(plan),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_environment(world, task, url, cwd),
        start_new_session=True,
    )
    world.changed()


def _volumes(world: World, task: Task) -> list[tuple[Path, str]]:
    """A private copy of each volume, and the path at which the container wants it (or a directory of it)."""
    mounts = []
    for mount in task.definition.volume_mounts:
        copy = Copy(world.volumes[mount.volume_id], task.folder / "volumes" / mount.volume_id)
        task.volumes[mount.volume_id] = copy
        inside = copy.folder / mount.sub_path.lstrip("/")
        inside.mkdir(parents=True, exist_ok=True)
        mounts.append((inside, mount.mount_path))
    return mounts


def _environment(world: World, task: Task, url: str, cwd: Path) -> dict[str, str]:
    """The container's environment: of the test's own only PATH and HOME. Secrets are here and nowhere else."""
    cores = max(1, round(task.definition.resources.milli_cpu / 1000))
    threads = {name: str(cores) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    given = {
        **threads,
        "PATH": os.environ.get("PATH", ""),
        "HOME": os.environ.get("HOME", "/root"),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(cwd),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MODAL_SERVER_URL": url,
        "MODAL_CONTAINER_ARGUMENTS_PATH": str(task.folder / "arguments"),
        "MODAL_IS_REMOTE": "1",
        "MODAL_TASK_ID": task.id,
        "MODAL_IMAGE_ID": task.definition.image_id,
        "MODAL_ENVIRONMENT": "main",
        "MODAL_CLOUD_PROVIDER": "CLOUD_PROVIDER_PLANE",
        "MODAL_REGION": "loopback",
        "MODAL_CONFIG_PATH": "/nonexistent/modal.toml",
        processes.MARK: task.id,
    }
    if world.settings.quirks.nameless:
        del given["MODAL_TASK_ID"]
    if task.gpu:
        given["PATH"] = f"{gpus.tools(task.folder / 'bin', task.gpu, task.gpus)}{os.pathsep}{given['PATH']}"
    for secret in task.definition.secret_ids:
        given |= world.secrets[secret][1]
    return given


def _arguments(task: Task) -> Any:
    function = task.call.function
    arguments = api_pb2.ContainerArguments(
        task_id=task.id,
        function_id=function.id,
        app_id=function.app.id,
        function_def=task.definition,
        environment_name="main",
    )
    arguments.app_layout.function_ids[function.name] = function.id
    arguments.app_layout.objects.add(object_id=function.id).function_handle_metadata.CopyFrom(metadata(function))
    return arguments


def metadata(function: Function) -> Any:
    """What a client must know of a function. Without `max_object_size_bytes` it sends every argument as a blob."""
    told = api_pb2.FunctionHandleMetadata(
        function_name=function.name,
        function_type=api_pb2.Function.FUNCTION_TYPE_FUNCTION,
        app_id=function.app.id,
        definition_id=f"de-{function.id[3:]}",
        max_object_size_bytes=2 * 1024 * 1024,
    )
    formats = [api_pb2.DATA_FORMAT_PICKLE, api_pb2.DATA_FORMAT_CBOR]
    for name in ("supported_input_formats", "supported_output_formats"):
        getattr(told, name).extend((getattr(function.first, name) if function.ranked else None) or formats)
    return told


def link(folder: Path, path: Path) -> None:
    """Without namespaces: the mount path is a symbolic link to the copy, for one container at a time."""
    if path.is_symlink():
        if path.exists():
            raise ValueError(f"{path} is in use by another container, and there are no namespaces here")
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(folder)
