"""Blobs, mounts (the uploaded source) and images: the lines of a Dockerfile are recorded, and "built" at once."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grpclib import GRPCError, Status
from modal_proto import api_pb2

from plane.state import Task, World
from plane.web import Web

_GIVEN = ("modal-client-mount-", "modal-client-dependencies", "python-build-standalone", "cpython")  # Modal's own


@dataclass
class Mount:
    id: str
    files: list[Any]

    def lay_out(self, source: Path, blobs: Path) -> None:
        """Write the files below `source`, which stands for the container's root."""
        for file in self.files:
            place = source / file.filename.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(blobs / file.sha256_hex, place)
            place.chmod(file.mode & 0o777 or 0o644)


@dataclass
class Image:
    id: str
    definition: Any
    base: list[str]
    built: bool = False
    failure: str = ""
    builds: int = 0
    secrets: list[str] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        return list(self.definition.dockerfile_commands)


class Images:
    def __init__(self, world: World, web: Web) -> None:
        self.world, self.web = world, web
        self.failing: dict[str, str] = {}  # text of a line -> what the build then says

    @property
    def blobs(self) -> Path:
        folder = self.world.root / "blobs"
        folder.mkdir(exist_ok=True)
        return folder

    async def BlobCreate(self, request: Any, task: Task | None) -> Any:
        name = self.world.new("bl")
        address = self.web.address(name)
        response = api_pb2.BlobCreateResponse(blob_id=name, upload_url=address)
        if "upload_urls" in response.DESCRIPTOR.fields_by_name:  # newer clients try a list of places in turn
            response.blob_ids.append(name)
            response.upload_urls.items.append(address)
        return response

    async def BlobGet(self, request: Any, task: Task | None) -> Any:
        return api_pb2.BlobGetResponse(download_url=self.web.address(request.blob_id))

    async def MountPutFile(self, request: Any, task: Task | None) -> Any:
        place = self.blobs / request.sha256_hex
        which = request.WhichOneof("data_oneof")
        if not place.exists() and which:
            data = request.data if which == "data" else self.web.place(request.data_blob_id).read_bytes()
            if hashlib.sha256(data).hexdigest() != request.sha256_hex:
                raise GRPCError(Status.INVALID_ARGUMENT, "the content does not have the sha256 that was given")
            place.write_bytes(data)
        return api_pb2.MountPutFileResponse(exists=place.exists())

    async def MountBatchedCheckExistence(self, request: Any, task: Task | None) -> Any:
        absent = [sha for sha in request.sha256_hex_hashes if not (self.blobs / sha).exists()]
        return api_pb2.MountBatchedCheckExistenceResponse(missing_sha256_hex_hashes=absent)

    async def MountGetOrCreate(self, request: Any, task: Task | None) -> Any:
        if request.deployment_name and not request.files and not request.deployment_name.startswith(_GIVEN):
            raise GRPCError(Status.NOT_FOUND, f"Mount '{request.deployment_name}' not found")
        gone = [file.filename for file in request.files if not (self.blobs / file.sha256_hex).exists()]
        if gone:
            raise GRPCError(Status.FAILED_PRECONDITION, f"not uploaded: {gone[:3]}")
        mount = Mount(self.world.new("mo"), list(request.files))
        self.world.mounts[mount.id] = mount
        digest = hashlib.sha256("".join(sorted(file.sha256_hex for file in mount.files)).encode()).hexdigest()
        metadata = api_pb2.MountHandleMetadata(content_checksum_sha256_hex=digest)
        return api_pb2.MountGetOrCreateResponse(mount_id=mount.id, handle_metadata=metadata)

    async def ImageGetOrCreate(self, request: Any, task: Task | None) -> Any:
        base = [one.image_id for one in request.image.base_images]
        same = (one for one in self.world.images.values() if one.definition == request.image and not one.failure)
        image = None if request.force_build else next(same, None)
        if image is None:
            image = Image(self.world.new("im"), request.image, base, secrets=list(request.image.secret_ids))
            self.world.images[image.id] = image
        response = api_pb2.ImageGetOrCreateResponse(image_id=image.id)
        if image.built:
            response.result.status = api_pb2.GenericResult.GENERIC_STATUS_SUCCESS
            response.metadata.CopyFrom(_about_image())
        return response

    async def ImageJoinStreaming(self, request: Any, task: Task | None) -> AsyncIterator[Any]:
        image = self.world.images[request.image_id]
        if not image.built and not image.failure:
            image.builds += 1
            await asyncio.sleep(self.world.settings.image_seconds)
            image.failure = next((said for part, said in self.failing.items() if part in "\n".join(image.lines)), "")
            image.built = not image.failure
        for line in image.lines:
            log = api_pb2.TaskLogs(data=f"=> {line}\n", file_descriptor=api_pb2.FILE_DESCRIPTOR_STDOUT)
            yield api_pb2.ImageJoinStreamingResponse(task_logs=[log])
        result = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS)
        if image.failure:
            result = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_FAILURE, exception=image.failure)
        yield api_pb2.ImageJoinStreamingResponse(
            result=result, entry_id="1-0", eof=True, metadata=None if image.failure else _about_image()
        )

    async def ImageFromId(self, request: Any, task: Task | None) -> Any:
        if request.image_id not in self.world.images:
            raise GRPCError(Status.NOT_FOUND, f"Image '{request.image_id}' not found")
        return api_pb2.ImageFromIdResponse(image_id=request.image_id, metadata=_about_image())

    def recipe(self, id: str) -> list[str]:
        """All lines of an image, those of the images that it builds on first."""
        image = self.world.images[id]
        return [line for base in image.base for line in self.recipe(base)] + image.lines


def _about_image() -> Any:
    return api_pb2.ImageMetadata(image_builder_version="2025.06")
