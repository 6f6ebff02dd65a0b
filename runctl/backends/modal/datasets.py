"""Encoded datasets on a Modal volume: sent in parts that are never sent twice, listed, and compared.

Before anything is sent or made, the dataset is held against the config's encoding, and Modal is asked (within ten
seconds) whether it takes the token. Parts go first, the manifest last: what has no manifest is no dataset. Another
dataset in the same place stays whole until the manifest of the new one is there.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runctl import install
from runctl.backends.modal import client as clients
from runctl.backends.modal import online
from runctl.backends.modal import place as places
from runctl.backends.modal.plan import Place
from runctl.config import RunConfig
from runctl.errors import DataError, ProviderError, RefusedError, RunctlError, UsageError
from runctl.light import dataclass, field
from runctl.tasks.worldmodel import encoding as encodings
from runctl.tasks.worldmodel import parts
from runctl.tasks.worldmodel.parts import Part
from runctl.units import counted

MANIFEST = "manifest.json"
BATCH = 4  # parts that are sent at once: what an interruption may cost
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Pushed:
    """What a push did; sizes in bytes. `up_to_date` where the volume had it all."""

    volume: str
    path: str
    bytes: int
    sent: int
    parts: int
    parts_sent: int
    removed: int
    up_to_date: bool


@dataclass(frozen=True)
class Stored:
    """A dataset on the volume. `whole` is false where parts are there and no manifest: an interrupted push."""

    path: str
    bytes: int
    whole: bool
    games: int | None = None
    frames: int | None = None
    encoding_digest: str | None = None
    simulated: bool | None = None
    created: str | None = None


@dataclass(frozen=True)
class Checked:
    """A dataset on the volume beside the config and the local copy. `faults` make a run fail or train on other data;
    `notes` are what could not be compared."""

    volume: str
    path: str
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    agrees: list[str] = field(default_factory=list)


def push(config: RunConfig, root: Path, place: Place, *, overwrite: bool = False, progress: Progress) -> Pushed:
    """Send a config's dataset to the volume. Raises DataError where it is not the config's, RefusedError where another
    dataset is there, ProviderError where Modal cannot be reached or refuses."""
    encoded = named(config)
    manifest = _ours(root / encoded, config)
    there = places.dataset(encoded)
    seen = asked(place, there)
    cut = list(_cut(root / encoded, manifest, progress))
    total = sum(part.size for part in cut)
    stored = seen.manifest
    if stored is not None and not _same(stored, manifest, cut) and not overwrite:
        about = _differs(stored, manifest) or "its frames differ"
        raise RefusedError(
            f"the volume '{place.volume}' has another dataset at {there}: {about}",
            hint="give this one another folder (data.encoded), or replace it: --overwrite",
        )
    with opened(place, make=True) as (volume, names):
        present = names(there)
        missing = [part for part in cut if present.get(f"{there}/{part.name}") != part.size]
        done = total - sum(part.size for part in missing)
        progress(done, total)
        for begin in range(0, len(missing), BATCH):
            sending = missing[begin : begin + BATCH]
            _send(volume, root / encoded / "frames.bin", there, sending)
            done += sum(part.size for part in sending)
            progress(done, total)
        new = stored is None or not _same(stored, manifest, cut)
        if new:
            with volume.batch_upload(force=True) as batch:
                text = json.dumps({**manifest, "parts": parts.named(cut)}, sort_keys=True)
                batch.put_file(io.BytesIO(text.encode()), f"/{there}/{MANIFEST}")
        kept = {f"{there}/{name}" for name in (MANIFEST, *(part.name for part in cut))}
        stale = [name for name in present if name not in kept]
        for name in stale:
            volume.remove_file(name)
    sent = sum(part.size for part in missing)
    return Pushed(place.volume, there, total, sent, len(cut), len(missing), len(stale), not (missing or new))


def every(place: Place) -> list[Stored]:
    """The datasets on the volume, by path; none where the volume is not there."""
    seen = online.look(place)
    _refuse(seen, but=())
    if any("no volume" in one.message for one in seen.answers):
        return []
    with opened(place) as (volume, names):
        files = names(places.DATASETS)
        folders = {_folder(name) for name in files}
        return [_stored(volume, folder, files) for folder in sorted(folders - {""})]


def check(config: RunConfig, root: Path, place: Place) -> Checked:
    """Hold the dataset on the volume against the config and the local copy."""
    encoded = named(config)
    there = places.dataset(encoded)
    found = Checked(place.volume, there)
    seen = asked(place, there)
    if seen.manifest is None:
        found.faults.append(f"the volume '{place.volume}' has no whole dataset at {there}")
        return found
    if about := _against(seen.manifest, config):
        found.faults.append(f"it was encoded otherwise than the config says: {about}")
    else:
        found.agrees.append(f"the config's encoding ({str(seen.manifest.get('encoding_digest'))[:12]})")
    with opened(place) as (_, names):
        present = names(there)
    pieces = parts.listed(seen.manifest)
    missing = [part.name for part in pieces if present.get(f"{there}/{part.name}") != part.size]
    if missing:
        found.faults.append(f"{counted(len(missing), 'part')} of {len(pieces)} missing on the volume: {missing[0]}")
    elif pieces:
        found.agrees.append(f"all {counted(len(pieces), 'part')} are there")
    elif f"{there}/frames.bin" not in present:
        found.faults.append("its manifest lists no frames, and there is no frames.bin")
    _beside(root / encoded, seen.manifest, found)
    return found


def _beside(folder: Path, stored: Mapping[str, Any], found: Checked) -> None:
    """The same against the local copy, where there is one; of a committed manifest only the counts."""
    copy = folder.with_name(f"{folder.name}.manifest.json")
    for file in (folder / MANIFEST, copy):
        if not file.exists():
            continue
        local = _read(file)
        if about := _differs(stored, local):
            found.faults.append(f"it is not what lies at {file.name if file == copy else folder}: {about}")
        elif file == copy or not (folder / "frames.bin").exists():
            found.agrees.append(f"the counts of {file.name}")
        elif [one.sha256 for one in parts.cut(folder / "frames.bin")] != [one.sha256 for one in parts.listed(stored)]:
            found.faults.append(f"its frames differ from those of {folder}")
        else:
            found.agrees.append(f"every byte of {folder}")
        return
    found.notes.append(f"no copy lies at {folder}: compared with the config alone")


# --- the dataset here ------------------------------------------------------------------------------------------------


def named(config: RunConfig) -> str:
    if config.data.encoded is None:
        hint = "set data.encoded" + ("; a run that simulates its games needs none" if config.data.simulate else "")
        raise UsageError("the config names no dataset (data.encoded)", hint=hint)
    return config.data.encoded


def _ours(folder: Path, config: RunConfig) -> dict[str, Any]:
    """The manifest of the local dataset; raises DataError where it is not whole, or not what the config says."""
    manifest = _read(folder / MANIFEST)
    if about := _against(manifest, config):
        hint = "encode again with this config, or name the dataset that was meant (data.encoded)"
        raise DataError(f"{folder} was encoded otherwise than the config says: {about}", hint=hint)
    if not (folder / "frames.bin").is_file():
        raise DataError(f"{folder} has no frames.bin", hint="encode again with --overwrite")
    size = (folder / "frames.bin").stat().st_size
    wanted = manifest["frames"] * manifest["layout"]["record_bytes"]
    if size != wanted or not size:
        raise DataError(f"{folder}/frames.bin has {size} bytes, and its manifest says {wanted}", hint="encode again")
    return manifest


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        hint = "make it with: runctl encode CONFIG --replays FOLDER"
        raise DataError(f"there is no whole dataset at {file.parent}", hint=hint) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}", hint="encode again with --overwrite") from None
    if not isinstance(found, dict) or found.get("kind") != "encoded-dataset":
        raise DataError(f"{file} is not the manifest of an encoded dataset")
    return found


def _against(manifest: Mapping[str, Any], config: RunConfig) -> str:
    """In what a dataset's encoding differs from the config's; empty where it does not."""
    stored, wanted = manifest.get("encoding"), encodings.dataset_keys(config.encoding)
    if not isinstance(stored, dict):
        return "its manifest does not list its encoding"
    keys = [key for key in {**wanted, **stored} if stored.get(key) != wanted.get(key)]
    if keys:
        return ", ".join(f"{key} is {stored.get(key)} there and {wanted.get(key)} in the config" for key in keys)
    digest = encodings.dataset_digest(config.encoding)
    return "" if manifest.get("encoding_digest") == digest else "it has another record format"


def _cut(folder: Path, manifest: Mapping[str, Any], progress: Progress) -> Iterator[Part]:
    """The parts of the frames; the bar shows the reading as none sent yet."""
    total = int(manifest["frames"] * manifest["layout"]["record_bytes"])
    progress(0, total)
    yield from parts.cut(folder / "frames.bin")


def _same(stored: Mapping[str, Any], manifest: Mapping[str, Any], cut: Sequence[Part]) -> bool:
    return not _differs(stored, manifest) and parts.listed(stored) == list(cut)


def _differs(stored: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """In what two manifests describe different datasets, in words."""
    words = []
    for name in ("encoding_digest", "frames", "games"):
        there, here = (_count(one.get(name)) for one in (stored, manifest))
        if there != here:
            short = [str(one)[:12] for one in (there, here)]
            words.append(f"{name.replace('_', ' ')} {short[0]} there, {short[1]} here")
    return ", ".join(words)


def _count(value: Any) -> Any:
    return len(value) if isinstance(value, list) else value


# --- the volume ------------------------------------------------------------------------------------------------------


def asked(place: Place, there: str) -> online.Seen:
    """What Modal says; raises ProviderError where the rest cannot go well."""
    seen = online.look(place, there)
    _refuse(seen, but=("volume", "dataset"))
    return seen


def _refuse(seen: online.Seen, but: Sequence[str]) -> None:
    for answer in seen.faults:
        if answer.about in ("token", "environment") or (
            answer.about == "volume" and ("volume" not in but or "no volume" not in answer.message)
        ):
            raise ProviderError(answer.message, hint=answer.hint)
    if seen.unknown:
        raise ProviderError("; ".join(seen.unknown), hint="modal token info; nothing was sent or changed")


@contextmanager
def opened(place: Place, *, make: bool = False) -> Iterator[tuple[Any, Callable[[str], dict[str, int]]]]:
    """The volume, made where it is missing if `make` says so, and `names(folder)`: the files below it with their sizes.
    What the client raises within becomes a ProviderError."""
    try:
        import modal
    except ImportError:
        raise ProviderError("Modal's client is not installed", hint=install.hint("modal")) from None
    try:
        volume = modal.Volume.from_name(
            place.volume,
            environment_name=place.environment,
            create_if_missing=make,
            version=place.volume_version,
        )

        def names(folder: str) -> dict[str, int]:
            try:
                entries = clients.entries(volume, folder)
            except (FileNotFoundError, modal.exception.NotFoundError):
                return {}
            return {one.path.strip("/"): one.size for one in entries if one.type.name == "FILE"}

        yield volume, names
    except RunctlError:
        raise
    except Exception as error:
        found = clients.told(error)
        hint = "the same command goes on where this one ended"
        if type(error).__module__.partition(".")[0] in ("aiohttp", "asyncio"):
            raise ProviderError(f"the transfer broke off: {clients.said(error)}", hint=hint) from None
        if found is error:
            raise
        raise ProviderError(str(found), hint=hint) from None


def _send(volume: Any, frames: Path, there: str, sending: Sequence[Part]) -> None:
    """Send some parts at once; the client reads each from a file of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="runctl-parts-") as folder,
        frames.open("rb") as file,
        volume.batch_upload(force=True) as batch,
    ):
        for number, part in enumerate(sending):
            path = Path(folder) / str(number)
            file.seek(part.start)
            with path.open("wb") as out:
                left = part.size
                while left and (data := file.read(min(1 << 20, left))):
                    out.write(data)
                    left -= len(data)
            batch.put_file(path, f"/{there}/{part.name}")


def _folder(name: str) -> str:
    """The dataset's folder that a file belongs to; empty for what is none of a dataset's."""
    path, _, last = name.rpartition("/")
    if ".partial/" in path:  # of an encode that is under way
        return ""
    if last in (MANIFEST, "frames.bin"):
        return path
    return path.rpartition("/")[0] if path.endswith(f"/{parts.FOLDER}") else ""


def _stored(volume: Any, folder: str, files: Mapping[str, int]) -> Stored:
    size = sum(bytes for name, bytes in files.items() if name.startswith(f"{folder}/"))
    try:
        manifest = online.manifest(volume, folder)
    except (FileNotFoundError, ValueError):
        return Stored(folder, size, False)
    return Stored(
        folder,
        size,
        True,
        manifest.get("games"),
        manifest.get("frames"),
        manifest.get("encoding_digest"),
        manifest.get("simulated"),
        manifest.get("created"),
    )
