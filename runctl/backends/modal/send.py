"""Send a request: claim the run's name on the volume, make its app, spawn its one call.

Every id is on this machine's disk before the next step is taken (`ids`), so that a launcher killed anywhere leaves
nothing running unnoticed: what it began is found by its ids, or by its tags, and ended or adopted (`look`).
"""

from __future__ import annotations

import io
import json
import secrets
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from runctl import evidence, record
from runctl.backends.modal import client as clients
from runctl.backends.modal import copies, finding, ids, image, shipping
from runctl.backends.modal.plan import Request
from runctl.errors import Exit, ProviderError, RunctlError, UsageError

_STOP_SECONDS = 10.0


def submit(request: Request) -> int:
    """Start an attempt's call; returns 0, since nothing of it is a process of this machine.

    Raises ProviderError for what Modal refuses, UsageError for a name that is taken there. Then nothing is left."""
    modal = clients.load()
    run = record.RunDir(Path(request.folder))
    token = secrets.token_hex(8)
    before = ids.read(run)
    own = evidence.identify()
    record.write_json(
        run.remote,
        {
            "schema_version": record.SCHEMA_VERSION,
            "backend": "modal",
            "launch": token,
            "attempt": request.attempt,
            "phase": "launching",
            "time": time.time(),
            "name": request.app,
            "digest": request.spec["digest"],
            "volume": request.volume["name"],
            "environment": request.environment,
            "asked_for": {"gpu": list(request.gpu), "cpu": request.cpu, "memory_mib": request.memory_mib},
            "launcher": own.to_json() if own else None,
            "costs": before.get("costs", []),
            "earlier": [*before.get("earlier", []), *([before["app"]] if before.get("app") else [])],
            "modal": modal.__version__,
        },
    )
    claimed: list[str] = []
    try:
        with _interruptible():
            _send(modal, request, run, token, claimed)
    except BaseException as error:
        words = _undo(request, run, claimed, error, before)
        told = clients.told(error) if isinstance(error, Exception) else error
        if words and not isinstance(told, RunctlError):
            told = ProviderError(f"the launch was ended ({clients.said(error)})")
            told.exit_code = Exit.INTERRUPTED if isinstance(error, KeyboardInterrupt) else told.exit_code
        if words and isinstance(told, RunctlError):
            told.message += f"; {words}"
            told.args = (told.message,)
        if told is error:
            raise
        raise told from error
    return 0


def _send(modal: Any, request: Request, run: record.RunDir, token: str, claimed: list[str]) -> None:
    client = clients.connect()
    for name in request.secrets:
        _secret(modal, name, request.environment, client)
    volume = _volume(modal, request, client)
    with tempfile.TemporaryDirectory(prefix="runctl-source-") as folder:
        staged = image.stage(request.source, Path(folder))
        if request.code is not None:
            sent = {"files": shipping.stage(request.code, staged / shipping.FOLDER)}
            record.write_json(run.attempt(request.attempt).sent, {"schema_version": record.SCHEMA_VERSION, **sent})
        _claim(modal, volume, request, run, token, claimed)
        code = shipping.FOLDER if request.code is not None and request.code.files else None
        made = image.build(request.image, request.source, staged, code)
        app = modal.App(request.app, tags=request.tags)
        function = _function(modal, app, request, made, volume)
        known: dict[str, Any] = {}
        try:
            with _noted(app, run), app.run(detach=True, client=client, environment_name=request.environment):
                ids.update(run, app=app.app_id, page=app.get_dashboard_url())
                call = function.spawn({**request.spec, "launch": token})
                known = ids.update(run, call=call.object_id, function=function.object_id, phase="launched")
        except Exception:
            if not known:  # else the call is made: that Modal has not heard us leave changes nothing
                raise
    with suppress(Exception):  # another machine finds the app by its tags, too
        _put(volume, {f"runs/{request.run}/remote.json": _shared(known)}, force=True)


def _shared(known: dict[str, Any]) -> bytes:
    """What other machines need of the ids."""
    return json.dumps({key: value for key, value in known.items() if key not in ("seen", "launcher")}).encode()


def _function(modal: Any, app: Any, request: Request, made: Any, volume: Any) -> Any:
    from runctl.remote import entry

    gpu: Any = list(request.gpu) if len(request.gpu) > 1 else next(iter(request.gpu), None)
    return app.function(
        image=made,
        gpu=gpu,
        cpu=request.cpu,
        memory=request.memory_mib,
        ephemeral_disk=request.disk_mib,
        timeout=request.timeout_seconds,
        retries=modal.Retries(**request.retries),
        volumes={request.volume["mount"]: volume},
        secrets=[modal.Secret.from_name(name, environment_name=request.environment) for name in request.secrets],
        single_use_containers=request.single_use_containers,
        max_containers=request.max_containers,
        include_source=request.include_source,
    )(entry.main)


def _secret(modal: Any, name: str, environment: str | None, client: Any) -> None:
    def look() -> Any:
        return modal.Secret.from_name(name, environment_name=environment).hydrate(client)

    try:
        look()
    except modal.exception.NotFoundError:
        hint = f"modal secret create {name} KEY=VALUE, or take it out of modal.secrets in runctl.yaml"
        raise ProviderError(f"Modal has no secret '{name}'", hint=hint) from None


def _volume(modal: Any, request: Request, client: Any) -> Any:
    """The volume; only the first attempt of a run may make it: an empty one is nothing to go on from."""
    first, about = request.attempt == 1, request.volume
    volume = modal.Volume.from_name(
        about["name"], environment_name=request.environment, version=about["version"], create_if_missing=first
    )
    try:
        return volume.hydrate(client)
    except modal.exception.NotFoundError:
        hint = "modal volume list; modal.volume in runctl.yaml names it"
        raise ProviderError(
            f"there is no volume '{about['name']}' on Modal, and so nothing to go on from", hint=hint
        ) from None


def _claim(modal: Any, volume: Any, request: Request, run: record.RunDir, token: str, claimed: list[str]) -> None:
    """Put the run's records on the volume, its claim first: of two launches of one name, or two resumes, one wins."""
    folder, attempt = f"runs/{request.run}", run.attempt(request.attempt)
    claim = {"schema_version": record.SCHEMA_VERSION, "launch": token, "time": time.time()}
    record.write_json(attempt.claim, claim)
    files = {f"{folder}/attempts/{request.attempt}/claim.json": json.dumps(claim).encode()}
    if request.attempt == 1:
        files = {f"{folder}/run.json": run.run.read_bytes(), **files}
    mine = f"{folder}/attempts/{request.attempt}/claim.json"
    if copies.get(volume, f"{folder}/run.json" if request.attempt == 1 else mine) is not None:
        raise _taken(request)
    claimed.append(folder if request.attempt == 1 else f"{folder}/attempts/{request.attempt}")
    there = False
    try:
        _put(volume, files)
    except (FileExistsError, modal.exception.AlreadyExistsError):
        there = True  # somebody was faster, or the answer to a first try was lost: the claim says which
    holder = _holder(volume, mine)
    if holder != token and (there or holder is not None):
        claimed.clear()
        raise _taken(request)
    if request.attempt > 1:  # of a run that was never launched whole, it is not there yet
        with suppress(FileExistsError, modal.exception.AlreadyExistsError):
            _put(volume, {f"{folder}/run.json": run.run.read_bytes()})
    rest = {f"{folder}/attempts/{request.attempt}/start.json": attempt.start}
    if request.code is not None:
        rest[f"{folder}/attempts/{request.attempt}/sent.json"] = attempt.sent
    if request.attempt == 1 and run.code_diff.exists():
        rest[f"{folder}/code.diff"] = run.code_diff
    _put(volume, {path: file.read_bytes() for path, file in rest.items()}, force=True)
    if request.attempt > 1:
        with suppress(Exception):  # there is none of a run that was killed
            volume.remove_file(f"{folder}/summary.json")


def _holder(volume: Any, claim: str) -> Any:
    """The launch whose claim it is; None where there is none, or it is not to be seen yet."""
    return finding.read_object(copies.get(volume, claim)).get("launch")


def _taken(request: Request) -> UsageError:
    if request.attempt > 1:
        return UsageError(f"{request.run} is being resumed already", hint=f"see: runctl status {request.run}")
    place = f"on the volume '{request.volume['name']}'"
    hint = f"choose another --name; look at the other: runctl attach {request.run}"
    return UsageError(f"the run name '{request.run}' is taken {place}", hint=hint)


def _put(volume: Any, files: dict[str, bytes], *, force: bool = False) -> None:
    with volume.batch_upload(force=force) as batch:
        for path, data in files.items():
            batch.put_file(io.BytesIO(data), f"/{path}")


@contextmanager
def _noted(app: Any, run: record.RunDir) -> Iterator[None]:
    """Write the app's id down as soon as the service has said it: an image may take half an hour to build after it."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.02):
            if (found := app.app_id) is not None:
                with ids.alone():
                    if not ids.read(run).get("app"):
                        ids.update(run, app=found)
                return

    watcher = threading.Thread(target=look, daemon=True, name="modal app id")
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join(5.0)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends a launch that builds an image, although the launch holds it back otherwise."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _undo(
    request: Request, run: record.RunDir, claimed: list[str], error: BaseException, before: dict[str, Any]
) -> str:
    """Leave nothing of a launch that failed: its app is ended, its claim taken back, and of a resume the run is as it
    was. Returns in words what could not be ended; empty where all was."""
    with suppress(OSError):
        known = ids.update(run, phase="failed", problem=clients.said(error))
    app, token, modal = known.get("app"), known.get("launch"), clients.load()
    if app is None and not claimed:
        _as_before(run, before)
        return ""

    def stop() -> None:
        client, environment = clients.connect(), request.environment
        begun = app  # its making may have taken effect, and its id never come
        if begun is None:
            begun = finding.empty(request.run, environment, client, digest=request.spec["digest"], since=known["time"])
        if begun is not None:
            with suppress(modal.exception.NotFoundError):
                modal.App.lookup(begun, client=client, environment_name=environment).stop()

    def unclaim() -> None:
        client, environment = clients.connect(), request.environment
        volume = modal.Volume.from_name(request.volume["name"], environment_name=environment, client=client)
        for path in claimed:
            claim = f"{path}/attempts/1/claim.json" if request.attempt == 1 else f"{path}/claim.json"
            if _holder(volume, claim) == token:
                volume.remove_file(path, recursive=True)

    words = []
    said = clients.gather({"app": stop, "claim": unclaim}, _STOP_SECONDS)
    living, taken = said["app"], said["claim"]
    if isinstance(living, BaseException):
        words.append(f"its app could not be ended ({clients.said(living)}): end it with runctl reconcile")
    if isinstance(taken, BaseException):
        words.append(f"{claimed[0]} could not be taken off the volume ({clients.said(taken)})")
    if isinstance(living, BaseException):
        with suppress(OSError):
            ids.update(run, phase="launching", problem="; ".join(words))
    else:
        _as_before(run, before)
    return "; ".join(words)


def _as_before(run: record.RunDir, before: dict[str, Any]) -> None:
    if before:
        with suppress(OSError):
            record.write_json(run.remote, before)
