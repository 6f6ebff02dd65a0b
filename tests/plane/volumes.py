"""Volumes, version 1 and 2: made, filled, listed, read, thinned; committed and reloaded by containers."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from plane import processes
from plane.copies import Volume, keep, show
from plane.state import Task, World
from plane.web import Web

BLOCK = 8 * 1024 * 1024


class Volumes:
    def __init__(self, world: World, web: Web) -> None:
        self.world, self.web = world, web

    async def VolumeGetOrCreate(self, request: Any, task: Task | None) -> Any:
        name, creation = request.deployment_name, request.object_creation_type
        volume = next((one for one in self.world.volumes.values() if one.name == name and name), None)
        if volume is None:
            if creation == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED:
                raise GRPCError(Status.NOT_FOUND, f"Volume '{name}' not found in environment 'main'")
            volume = self.make(name, 2 if request.version == api_pb2.VOLUME_FS_VERSION_V2 else 1)
        elif creation == api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS:
            raise GRPCError(Status.ALREADY_EXISTS, f"Volume '{name}' already exists")
        return api_pb2.VolumeGetOrCreateResponse(volume_id=volume.id, version=volume.version, metadata=_about(volume))

    def make(self, name: str, version: int = 1) -> Volume:
        volume = Volume(self.world.new("vo"), name, version, self.world.root / "volumes" / (name or "unnamed"))
        volume.folder.mkdir(parents=True)
        self.world.volumes[volume.id] = volume
        return volume

    async def VolumeGetById(self, request: Any, task: Task | None) -> Any:
        volume = self._volume(request)
        return api_pb2.VolumeGetByIdResponse(volume_id=volume.id, metadata=_about(volume))

    async def VolumeList(self, request: Any, task: Task | None) -> Any:
        named = [one for one in self.world.volumes.values() if one.name]
        items = [api_pb2.VolumeListItem(label=one.name, volume_id=one.id, metadata=_about(one)) for one in named]
        return api_pb2.VolumeListResponse(items=items, environment_name="main")

    async def VolumeDelete(self, request: Any, task: Task | None) -> Any:
        shutil.rmtree(self._volume(request).folder)
        del self.world.volumes[request.volume_id]
        return Empty()

    async def VolumeHeartbeat(self, request: Any, task: Task | None) -> Any:
        return Empty()

    def _volume(self, request: Any) -> Volume:
        if request.volume_id not in self.world.volumes:
            raise GRPCError(Status.NOT_FOUND, f"Volume '{request.volume_id}' not found")
        return self.world.volumes[request.volume_id]

    def _place(self, request: Any, path: str, root: Path | None = None) -> Path:
        try:
            return self._volume(request).path(path, root)
        except ValueError as error:
            raise GRPCError(Status.INVALID_ARGUMENT, str(error)) from None

    def _seen(self, request: Any, task: Task | None) -> Path:
        """What is read: outside of containers a commit may be seen later than it was made."""
        volume = self._volume(request)
        if task is not None or not self.world.settings.quirks.lag:
            return volume.folder
        if not volume.seen.exists():
            shutil.copytree(volume.folder, volume.seen, symlinks=True)
        return volume.seen

    def _show(self, request: Any, paths: list[str]) -> None:
        """What was written or removed from outside is seen there at once."""
        volume = self._volume(request)
        if volume.seen.exists():
            show(volume, keep(volume, [path.strip("/") for path in paths]))

    # --- listing and reading -----------------------------------------------------------------------------------------

    async def VolumeListFiles(self, request: Any, task: Task | None) -> AsyncIterator[Any]:
        yield api_pb2.VolumeListFilesResponse(entries=self._entries(request, task))

    async def VolumeListFiles2(self, request: Any, task: Task | None) -> AsyncIterator[Any]:
        yield api_pb2.VolumeListFiles2Response(entries=self._entries(request, task))

    def _entries(self, request: Any, task: Task | None) -> list[Any]:
        root = self._seen(request, task)
        start = self._place(request, request.path, root)
        if not start.exists():
            raise GRPCError(Status.NOT_FOUND, f"path {request.path} not found")
        deep = request.recursive and not self.world.settings.quirks.flat
        found = [start] if start.is_file() else sorted(start.rglob("*") if deep else start.iterdir())
        return [_entry(path, root.resolve()) for path in found]

    async def VolumeGetFile2(self, request: Any, task: Task | None) -> Any:
        place = self._place(request, request.path, self._seen(request, task))
        if not place.is_file():
            raise GRPCError(Status.NOT_FOUND, f"file {request.path} not found")
        size = place.stat().st_size
        start = request.start
        end = min(size, start + request.len) if request.len else size
        kept = self.web.place(f"read-{self.world.new('rd')}")
        shutil.copy2(place, kept)  # what is read stays as it was now, whatever is committed meanwhile
        urls, position = [], start
        while position < end:
            stop = min(end, (position // BLOCK + 1) * BLOCK)
            urls.append(self.web.range_address(kept, position, stop - position))
            position = stop
        return api_pb2.VolumeGetFile2Response(get_urls=urls, size=size, start=start, len=end - start)

    # --- writing from outside ----------------------------------------------------------------------------------------

    async def VolumePutFiles(self, request: Any, task: Task | None) -> Any:
        places = self._targets(request, [file.filename for file in request.files])
        for file, place in zip(request.files, places, strict=True):
            blob = self.world.root / "blobs" / file.sha256_hex
            if not blob.is_file():
                raise GRPCError(Status.FAILED_PRECONDITION, f"file {file.filename} was not uploaded")
            self._write(place, blob.read_bytes(), file.mode)
        self._show(request, [file.filename for file in request.files])
        return Empty()

    async def VolumePutFiles2(self, request: Any, task: Task | None) -> Any:
        places = self._targets(request, [file.path for file in request.files])
        missing, contents = [], []
        for number, file in enumerate(request.files):
            data, left = b"", file.size
            for index, block in enumerate(file.blocks):
                name = f"block-{block.contents_sha256.hex()}"
                place = self.web.place(name)
                if not place.is_file():
                    address = self.web.address(name)
                    missing.append({"file_index": number, "block_index": index, "put_url": address})
                    continue
                padded = place.read_bytes().ljust(min(BLOCK, left), b"\0")  # trailing zeros are not sent
                if hashlib.sha256(padded.rstrip(b"\0")).digest() != block.contents_sha256 and (
                    hashlib.sha256(padded).digest() != block.contents_sha256
                ):
                    raise GRPCError(
                        Status.INVALID_ARGUMENT, f"block {index} of {file.path} is not what it was said to be"
                    )
                data += padded
                left -= len(padded)
            contents.append(data)
        if missing:
            blocks = [api_pb2.VolumePutFiles2Response.MissingBlock(**one) for one in missing]
            return api_pb2.VolumePutFiles2Response(missing_blocks=blocks)
        for file, place, data in zip(request.files, places, contents, strict=True):
            self._write(place, data, file.mode)
        self._show(request, [file.path for file in request.files])
        return api_pb2.VolumePutFiles2Response()

    def _targets(self, request: Any, paths: list[str]) -> list[Path]:
        overwrites = self.world.settings.quirks.overwrites
        places = [self._place(request, path) for path in paths]
        for path, place in zip(paths, places, strict=True):
            if place.is_dir() or (place.exists() and request.disallow_overwrite_existing_files and not overwrites):
                raise GRPCError(Status.ALREADY_EXISTS, f"{path}: already exists")
        return places

    def _write(self, place: Path, data: bytes, mode: int) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        beside = place.with_name(f".{place.name}.put")
        beside.write_bytes(data)
        beside.chmod(mode & 0o777 or 0o644)
        beside.replace(place)

    async def VolumeRemoveFile(self, request: Any, task: Task | None) -> Any:
        place = self._place(request, request.path)
        if not place.exists():
            raise GRPCError(Status.NOT_FOUND, f"{request.path} not found")
        if place.is_dir() and not request.recursive:
            raise GRPCError(Status.INVALID_ARGUMENT, f"{request.path} is a directory; pass recursive=True")
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        self._show(request, [request.path])
        return Empty()

    VolumeRemoveFile2 = VolumeRemoveFile

    async def VolumeCopyFiles(self, request: Any, task: Task | None) -> Any:
        target = self._place(request, request.dst_path)
        for path in request.src_paths:
            source = self._place(request, path)
            place = target / source.name if target.is_dir() or len(request.src_paths) > 1 else target
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, place) if source.is_dir() else shutil.copy2(source, place)
        self._show(request, [request.dst_path])
        return Empty()

    VolumeCopyFiles2 = VolumeCopyFiles

    # --- from within a container -------------------------------------------------------------------------------------

    async def VolumeCommit(self, request: Any, task: Task | None) -> Any:
        assert task is not None
        if request.volume_id not in task.volumes:
            raise GRPCError(Status.NOT_FOUND, f"Volume '{request.volume_id}' is not mounted in this container")
        lag, volume = self.world.settings.quirks.lag, self._volume(request)
        if lag:
            self._seen(request, None)
        changed = task.volumes[request.volume_id].commit(task.id)
        if lag:
            asyncio.get_running_loop().call_later(lag, show, volume, keep(volume, changed))
        self.world.changed()
        return api_pb2.VolumeCommitResponse(skip_reload=True)

    async def VolumeReload(self, request: Any, task: Task | None) -> Any:
        assert task is not None
        if request.volume_id not in task.volumes:
            raise GRPCError(Status.NOT_FOUND, f"Volume '{request.volume_id}' is not mounted in this container")
        copy = task.volumes[request.volume_id]
        if processes.open_files(task.id, copy.inodes()):
            raise GRPCError(Status.FAILED_PRECONDITION, "there are open files preventing the operation")
        copy.reload(task.id)
        return Empty()


def _about(volume: Volume) -> Any:
    creation = api_pb2.CreationInfo(created_at=volume.created, created_by="plane")
    version = api_pb2.VOLUME_FS_VERSION_V2 if volume.version == 2 else api_pb2.VOLUME_FS_VERSION_V1
    return api_pb2.VolumeMetadata(name=volume.name, version=version, creation_info=creation)


def _entry(path: Path, folder: Path) -> Any:
    status = path.lstat()
    kind = api_pb2.FileEntry.SYMLINK if path.is_symlink() else api_pb2.FileEntry.FILE
    if path.is_dir() and not path.is_symlink():
        kind = api_pb2.FileEntry.DIRECTORY
    return api_pb2.FileEntry(
        path=path.relative_to(folder).as_posix(),
        type=kind,
        mtime=int(status.st_mtime) or int(time.time()),
        size=0 if kind == api_pb2.FileEntry.DIRECTORY else status.st_size,
    )
