"""Delete what lies on the volume of a run that is closed: the same that is deleted here (`runctl/prune.py`).

A run may have been resumed from another machine since it was closed here. So each time the volume is asked first whose
its newest attempt is; what is another launch's is left alone.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from runctl import record
from runctl.backends.modal import client as clients
from runctl.backends.modal import copies, finding, ids, look
from runctl.errors import ProviderError, RefusedError

_SECONDS = 60.0  # of one deletion


def remove(run: record.RunDir, inside: str) -> None:
    """Delete a checkpoint by its path within the run, its manifest first, or the whole run (`""`)."""
    modal, known = clients.load(), ids.read(run)
    if known.get("phase") == "failed":  # its claim was taken back: nothing of it is there
        return
    client, place = clients.connect(), look.where(run, known)
    volume = copies.volume_of(place, client)

    def work() -> None:
        there = copies.listing(volume, place.folder)
        if not there:
            return
        _check(run, known, volume, there)
        gone = (FileNotFoundError, modal.exception.NotFoundError)
        path = f"/{place.folder}/{inside}" if inside else f"/{place.folder}"
        with suppress(*gone):
            volume.remove_file(f"{path}/{'manifest.json' if inside else 'run.json'}")
        with suppress(*gone):
            volume.remove_file(path, recursive=True)

    _asked(work)
    rest = record.read_object(run.path / copies.ELSEWHERE)
    if kept := {path: size for path, size in rest.items() if path != inside and not path.startswith(f"{inside}/")}:
        if kept != rest:
            record.write_json(run.path / copies.ELSEWHERE, kept)
    else:
        (run.path / copies.ELSEWHERE).unlink(missing_ok=True)


def give(run: record.RunDir) -> None:
    """The events and the summary as they are here, for other machines."""
    known = ids.read(run)
    place = look.where(run, known)
    volume = copies.volume_of(place, clients.connect())
    _asked(lambda: look.put(run, volume, place, [run.events, run.summary]))


def _check(run: record.RunDir, known: dict[str, Any], volume: Any, there: dict[str, Any]) -> None:
    """Raise RefusedError unless the newest attempt on the volume is of the launch that was closed here."""
    parts = (path.split("/") for path in there)
    numbers = {int(part[1]) for part in parts if part[0] == "attempts" and part[1].isdigit()}
    folder = look.where(run, known).folder
    claims = (
        finding.read_object(copies.get(volume, f"{folder}/attempts/{number}/claim.json")).get("launch")
        for number in sorted(numbers, reverse=True)
    )
    newest = next((claim for claim in claims if claim), None)
    if known.get("phase") != "closed" or newest != known.get("launch"):
        raise RefusedError(
            f"{run.name} was resumed from another machine, or goes on", hint=f"see: runctl attach {run.name}"
        )


def _asked(work: Any) -> None:
    try:
        clients.ask(work, _SECONDS)
    except (ProviderError, RefusedError):
        raise
    except Exception as error:
        raise ProviderError(f"the volume cannot be changed: {clients.said(error)}") from None
