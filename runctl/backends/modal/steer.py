"""Steer a run on Modal from any machine with its token: ask for its end, find it by name or id, find what nobody
knows of any more."""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Iterator
from typing import Any

from runctl import evidence, record
from runctl.backends.modal import client as clients
from runctl.backends.modal import copies, finding, ids
from runctl.backends.modal.client import Where
from runctl.backends.modal.plan import CHANNEL
from runctl.errors import ProviderError, UsageError
from runctl.light import dataclass
from runctl.remote.listening import saves


def request_stop(run: record.RunDir, how: str) -> None:
    """Ask for a run's end: `gently` by a word to its container, which then saves; `cancel` by Modal, which interrupts
    it, and its grace is what Modal gives; `now` ends its app. Raises ProviderError."""
    modal, known = clients.load(), ids.read(run)
    if not known.get("call"):
        hint = "end the launch itself, with Ctrl-C; what it leaves is taken back by: runctl status"
        raise UsageError(f"{run.name} is still being sent to Modal", hint=hint)
    client = clients.connect()
    environment = known.get("environment")
    said = {"schema_version": record.SCHEMA_VERSION, "time": time.time(), "by": _user(), "how": how}
    ids.update(run, asked=said)

    def ask() -> None:
        if how == "gently":
            _channel(modal, known, client).put(known["launch"], json.dumps(said))
        elif how == "cancel":
            modal.FunctionCall.from_id(known["call"], client=client).cancel()
        else:
            try:
                modal.App.lookup(known["app"], client=client, environment_name=environment).stop()
            except modal.exception.NotFoundError:
                pass  # it is gone already
            except modal.exception.UnimplementedError:
                modal.FunctionCall.from_id(known["call"], client=client).cancel(terminate_containers=True)

    try:
        clients.ask(ask)
    except ProviderError:
        if how != "gently":
            raise
        how = "cancel"  # its container cannot be told; interrupted by Modal it saves as well, within Modal's grace
        clients.ask(ask)


def request_save(run: record.RunDir, request: dict[str, Any]) -> None:
    """Ask for a checkpoint, by a word to the run's container. Raises ProviderError."""
    modal, known = clients.load(), ids.read(run)
    client = clients.connect()

    def ask() -> None:
        _channel(modal, known, client).put(saves(known["launch"]), json.dumps(request))

    clients.ask(ask)


def withdraw_save(run: record.RunDir) -> None:
    """Take such a request back, as far as nobody has it yet; never raises for what cannot be done."""
    modal, known = clients.load(), ids.read(run)

    def take() -> None:
        _channel(modal, known, clients.connect()).pop(saves(known["launch"]))

    clients.gather({"take": take})


def _channel(modal: Any, known: dict[str, Any], client: Any) -> Any:
    """The dictionary by which a container is spoken to."""
    environment = known.get("environment")
    return modal.Dict.from_name(CHANNEL, environment_name=environment, create_if_missing=True, client=client)


def stream(run: record.RunDir) -> Iterator[str]:
    """What the containers of a run's call print, from its beginning, until the call is over. Raises ProviderError."""
    modal, known = clients.load(), ids.read(run)
    client = clients.connect()
    try:
        for entry in modal.FunctionCall.from_id(known["call"], client=client).logs.stream():
            yield str(entry.message)
    except Exception as error:
        raise clients.told(error) from None


@dataclass(frozen=True)
class Found:
    """A run that is known to Modal: its ids, and its place on the volume."""

    name: str
    known: dict[str, Any]
    place: Where


def find(word: str, place: Where) -> Found:
    """A run by its name, by its app's id or by its call's id. Raises UsageError where there is none on the volume."""
    client = clients.connect()
    volume = copies.volume_of(place, client)
    modal = clients.load()
    name = word
    if word.startswith("ap-"):
        name = clients.ask(lambda: _of_app(modal, word, place, client))
    if word.startswith("fc-"):
        name = clients.ask(lambda: _of_call(volume, word))
    where = Where(record.check_name(name), place.volume, place.environment)
    known = clients.ask(lambda: _known(modal, volume, where, client))
    if not known:
        hint = "modal.volume in runctl.yaml names the volume; or --volume"
        raise UsageError(f"no run '{name}' on the volume '{place.volume}'", hint=hint)
    return Found(name, known, where)


def bring(found: Found, run: record.RunDir) -> None:
    """Make the folder of a run that was launched elsewhere: its run.json, its ids; the rest comes with a look."""
    client = clients.connect()
    volume = copies.volume_of(found.place, client)
    about = clients.ask(lambda: copies.get(volume, f"{found.place.folder}/run.json"))
    diff = clients.ask(lambda: copies.get(volume, f"{found.place.folder}/code.diff"))
    run.path.mkdir(parents=True)
    if diff is not None:
        record.write_text(run.code_diff, diff.decode(errors="replace"))
    record.write_json(run.remote, found.known)
    record.write_text(run.run, (about or b"{}").decode(errors="replace"))


def _of_app(modal: Any, app: str, place: Where, client: Any) -> str:
    try:
        found = modal.App.lookup(app, client=client, environment_name=place.environment)
    except modal.exception.NotFoundError:
        raise UsageError(f"Modal has no app {app}", hint="modal app list") from None
    if not (name := finding.run_of(found)):
        raise UsageError(f"{app} is no run of runctl's", hint="its app has no tag runctl.run")
    return name


def _of_call(volume: Any, call: str) -> str:
    """The run whose newest call it is."""
    for entry in clients.entries(volume, "/runs", recursive=False):
        name = entry.path.rstrip("/").rpartition("/")[2]
        if finding.read_object(copies.get(volume, f"runs/{name}/remote.json")).get("call") == call:
            return str(name)
    raise UsageError(f"no run on the volume has the call {call}", hint="name the run, or its app (ap-…)")


def _known(modal: Any, volume: Any, where: Where, client: Any) -> dict[str, Any]:
    """The ids of a run: as its launcher left them, else by its app's tags and its container's word."""
    about = finding.read_object(copies.get(volume, f"{where.folder}/run.json"))
    if not about:
        return {}
    known = finding.read_object(copies.get(volume, f"{where.folder}/remote.json"))
    attempts = sorted(
        {int(path.split("/")[1]) for path in copies.listing(volume, where.folder) if path.startswith("attempts/")}
    )
    newest = attempts[-1] if attempts else 1
    claim = finding.read_object(copies.get(volume, f"{where.folder}/attempts/{newest}/claim.json"))
    if known.get("launch") and known.get("launch") == claim.get("launch"):
        return {**known, "phase": "launched"}
    app = finding.by_name(where.run, where.environment, client)
    found = _call(modal, app, where, claim.get("launch"), client) if app else None
    made = {
        "schema_version": 1,
        "backend": "modal",
        "launch": claim.get("launch"),
        "attempt": newest,
        "time": time.time(),
    }
    made |= {"volume": where.volume, "environment": where.environment, "app": app, "launcher": None}
    if found is None:
        hint = "try again in a moment; if its launcher is gone, its own machine's runctl status takes it back"
        raise UsageError(f"{where.run} is being launched or resumed just now, and has no call yet", hint=hint)
    return {**made, "function": found[0], "call": found[1], "phase": "launched"}


def _call(modal: Any, app: str, where: Where, launch: Any, client: Any) -> tuple[str, str] | None:
    """(function, call) of an app: as the service lists it, else as its container has written it down."""
    try:
        return finding.call_of(modal, app, where.environment, client)
    except (ProviderError, modal.exception.Error):
        call = finding.call_written_down(where, launch, client)
        return None if call is None else ("", call)


@dataclass(frozen=True)
class Stray:
    """A living app of runctl's: of a run that no record here knows, or whose record says that it has ended."""

    app: str
    run: str
    why: str


def strays(runs: dict[str, record.RunDir], environment: str | None) -> list[Stray]:
    """The living apps that no run here accounts for. Raises ProviderError."""
    client = clients.connect()
    found = []
    for one in clients.ask(lambda: finding.living(environment, client), 3 * clients.SECONDS):
        app, name = one.app, one.run
        run = next((run for key, run in runs.items() if name in finding.names(key)), None)
        known = ids.read(run) if run is not None else {}
        if run is None:
            found.append(Stray(app, name, "no run here has this name"))
        elif known.get("app") != app:
            found.append(Stray(app, name, f"the run's app is {known.get('app') or 'not known'}"))
        elif known.get("phase") in ("closed", "failed"):
            found.append(Stray(app, name, "the run has ended"))
        elif known.get("phase") == "launching" and _cut_off(known):
            found.append(Stray(app, name, "its launch was cut off, and what became of its call is not known"))
    return found


def _cut_off(known: dict[str, Any]) -> bool:
    launcher = evidence.life(evidence.from_json(known.get("launcher")))
    return launcher in (evidence.Life.DEAD, evidence.Life.REBOOTED)


def end(app: str, environment: str | None) -> None:
    """Stop an app. Raises ProviderError."""
    modal, client = clients.load(), clients.connect()
    clients.ask(lambda: modal.App.lookup(app, client=client, environment_name=environment).stop())


def _user() -> str:
    try:
        return getpass.getuser()
    except OSError:
        return "somebody"
