"""Find what Modal has of runctl's: the living apps, the run of an app, the call of an app. For the little that Modal's
library cannot be asked, its own command line is.

A service may say less than it knows. An app without its tags goes by its name; a call that is not listed, by what its
container has written down.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from typing import Any

from runctl.backends.modal import client as clients
from runctl.backends.modal import copies
from runctl.backends.modal.client import Where
from runctl.backends.modal.plan import app_name, tag
from runctl.errors import ProviderError
from runctl.light import dataclass

OURS = "runctl-"
_ENCODES = "runctl-encode-"
_CLOCK_SECONDS = 300.0  # by which this machine's clock and the service's may differ


@dataclass(frozen=True)
class Living:
    """An app of runctl's that has not stopped. `run` is its tag, or the rest of its name; `config` the beginning of its
    config's digest; `created` 0 where the service does not say it."""

    app: str
    run: str
    config: str = ""
    created: float = 0.0


def living(environment: str | None, client: Any) -> list[Living]:
    """The apps of runs that have not stopped, the newest first. Raises ProviderError, and what the client does."""
    modal = clients.load()
    found = []
    for row in command("app", "list", "--json", *(["--env", environment] if environment else [])):
        values = {str(key).lower().replace(" ", "_"): value for key, value in row.items()}
        id = next((str(value) for value in row.values() if str(value).startswith("ap-")), None)
        name = str(values.get("description") or "")
        if id is None or "stopped" in str(values.get("state", "")).lower():
            continue
        if name and not name.startswith(OURS):
            continue
        tags: dict[str, str] = {}
        created = 0.0
        with suppress(modal.exception.Error):  # one that cannot be asked about goes by its name
            app = modal.App.lookup(id, client=client, environment_name=environment)
            created = app.info().lifecycle.created_at.timestamp()
            tags = dict(app.get_tags())
        run = tags.get("runctl.run", "")
        if not tags and name.startswith(OURS) and not name.startswith(_ENCODES):
            run = name.removeprefix(OURS)
        if run:
            found.append(Living(id, run, tags.get("runctl.config", ""), created))
    return found


def by_name(
    name: str, environment: str | None, client: Any, *, digest: str = "", since: float | None = None
) -> str | None:
    """The id of the newest living app of a run of that name, of that config, made since then, as far as the service
    says these: a run of another volume may have the same name."""
    for one in living(environment, client):
        if one.run not in names(name) or (digest and one.config and not digest.startswith(one.config)):
            continue
        if since is not None and one.created and one.created < since - _CLOCK_SECONDS:
            continue
        return one.app
    return None


def empty(run: str, environment: str | None, client: Any, *, digest: str, since: float) -> str | None:
    """The newest app of a run, if nothing is in it: what is left of a launch that never heard its app's id."""
    app = by_name(run, environment, client, digest=digest, since=since)
    if app is None or clients.load().App.lookup(app, client=client, environment_name=environment).info().functions:
        return None
    return app


def names(run: str) -> tuple[str, ...]:
    """What a run may be called there: as its tag, and as the rest of its app's name."""
    return tag(run), app_name(run).removeprefix(OURS)


def run_of(app: Any) -> str:
    """The run of an app that was looked up: its tag, or the rest of its name; empty where it is none of runctl's."""
    tags: dict[str, str] = {}
    with suppress(clients.load().exception.UnimplementedError):
        tags = dict(app.get_tags())
    name = str(app.info().description or "")
    return tags.get("runctl.run", "") if tags or not name.startswith(OURS) else name.removeprefix(OURS)


def call_of(modal: Any, app: str, environment: str | None, client: Any) -> tuple[str, str] | None:
    """(function, call) of an app; None if nothing was spawned in it. Raises what the client does, and ProviderError,
    where that cannot be learned."""
    info = modal.App.lookup(app, client=client, environment_name=environment).info(refresh=True)
    functions = info.functions.values() if isinstance(info.functions, dict) else info.functions
    for function in functions:
        id = str(getattr(function, "object_id", function))
        for row in command("function", "calls", id, "--json"):
            if found := row.get("function_call_id"):
                return id, str(found)
    return None


def call_written_down(place: Where, launch: Any, client: Any) -> str | None:
    """The call that a container of this launch has noted on the volume; None if none has yet."""
    volume = copies.volume_of(place, client)
    for path in sorted(copies.listing(volume, place.folder), reverse=True):
        if not path.endswith("/container.json"):
            continue
        attempt = f"{place.folder}/{path.rpartition('/')[0]}"
        claim, container = (
            read_object(copies.get(volume, f"{attempt}/{name}.json")) for name in ("claim", "container")
        )
        if claim.get("launch") == launch and container.get("call"):
            return str(container["call"])
    return None


def command(*words: str) -> list[dict[str, Any]]:
    """What Modal's own command line answers as JSON. Raises ProviderError, and `Late`."""
    argv = [sys.executable, "-m", "modal", *words]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=clients.SECONDS, check=False)
        rows = json.loads(done.stdout) if done.returncode == 0 else None
    except subprocess.TimeoutExpired:
        raise clients.Late(f"no answer within {clients.SECONDS:.0f} s") from None
    except ValueError:
        rows = None
    if not isinstance(rows, list):
        words_said = [line.strip(" │╭╰─╮╯") for line in done.stderr.splitlines() if line.strip(" │╭╰─╮╯")]
        raise ProviderError(f"modal {' '.join(words[:2])} failed: {' '.join(words_said)[:300]}")
    return [row for row in rows if isinstance(row, dict)]


def read_object(data: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(data or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
