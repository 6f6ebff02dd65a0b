"""Who is told what: the `notices:` section of `runctl.yaml`.

notices:
  to:
    - env: RUNCTL_NOTICE_URL
    - {env: ONCALL_NOTICE_URL, on: [failed, killed, lost]}

Why only names of environment variables: the address of a service holds its token, and `runctl.yaml` is committed, read
in reviews and copied into records. An address in the file is refused, and never shown.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runctl.errors import UsageError, did_you_mean
from runctl.light import dataclass, pattern

if TYPE_CHECKING:
    from runctl.yamldoc import Document

KINDS = {
    "started": "the first step of a launch or resume is done",
    "guard": "a guard that notifies, saves, stops or kills has tripped",
    "budget": "a budget is used by half, by four fifths, or up",
    "disk": "the disk will be full before the run ends",
    "restarted": "an attempt failed, and the next one begins by itself",
    "finished": "it succeeded, with its results",
    "failed": "it failed, and is not started again by itself",
    "killed": "a guard ended it",
    "stopped": "it was stopped on request",
    "lost": "its supervisor or its machine is gone, and somebody looked",
}
MOST = 20
EXAMPLE = "notices: {to: [{env: RUNCTL_NOTICE_URL, on: [failed, lost]}]}"
_NAME = pattern(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_ADDRESS = pattern(r"\w[\w+.-]*:/")
_SERVICE = pattern(r"[A-Za-z][A-Za-z0-9+.-]{0,30}")


@dataclass(frozen=True)
class Target:
    """A service, known by the environment variable that holds its address, and the kinds of news that it is told."""

    env: str
    on: tuple[str, ...] = tuple(KINDS)

    @property
    def address(self) -> str | None:
        """What the variable holds here; None where it is not set."""
        return os.environ.get(self.env, "").strip() or None

    def to_json(self) -> dict[str, Any]:
        return {"env": self.env, "on": list(self.on)}


def read(raw: Any, document: Document) -> tuple[Target, ...]:
    """Check the section; raises UsageError with file, line and column. What stands there is never repeated where it
    could be an address."""
    if raw is None:
        return ()
    _known_keys(raw, ("to",), document, "notices")
    given = raw.get("to") or []
    if not isinstance(given, list):
        raise _wrong("notices.to must be a list", document, "notices", "to")
    if len(given) > MOST:
        raise _wrong(f"notices.to has {len(given)} entries, and {MOST} are the most", document, "notices", "to")
    found = [_target(one, document, index) for index, one in enumerate(given)]
    for index, one in enumerate(found):
        if one.env in [earlier.env for earlier in found[:index]]:
            raise _wrong(f"{one.env} is named twice", document, "notices", "to", index)
    return tuple(found)


def recorded(content: Mapping[str, Any]) -> tuple[Target, ...]:
    """The targets in a run.json; what is damaged there is left out."""
    given = content.get("notices")
    found = []
    for one in given[:MOST] if isinstance(given, list) else ():
        name, on = (one.get("env"), one.get("on")) if isinstance(one, dict) else (None, None)
        if isinstance(name, str) and _NAME.fullmatch(name) and isinstance(on, list):
            found.append(Target(name, tuple(kind for kind in KINDS if kind in on)))
    return tuple(found)


def told(targets: Iterable[Target], kind: str) -> list[Target]:
    """Those that are told of this kind of news."""
    return [one for one in targets if kind in one.on]


def missing(targets: Sequence[Target]) -> list[str]:
    """Why a launch from here would tell nobody, a sentence for each reason; [] where everybody can be told."""
    if not targets:
        return []
    from importlib.util import find_spec

    from runctl import install

    found = [f"nobody is told by {one.env}: it is not set here" for one in targets if one.address is None]
    if len(found) < len(targets) and find_spec("apprise") is None:
        found.append(f"nobody is told: apprise is not installed; {install.hint('notices')}")
    return found


def _target(given: Any, document: Document, index: int) -> Target:
    place = ("notices", "to", index)
    _known_keys(given, ("env", "on"), document, *place)
    name = given.get("env")
    if name is None:
        raise _wrong("it names no environment variable", document, *place)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _refused(name, document, *place, "env")
    on = given.get("on", list(KINDS))
    on = [on] if isinstance(on, str) else on
    if not isinstance(on, list) or not on:
        raise _wrong(f"on must be a list of {', '.join(KINDS)}", document, *place, "on")
    for kind in on:
        if not isinstance(kind, str) or kind not in KINDS:
            hint = did_you_mean(str(kind)[:60], tuple(KINDS)) or f"known: {', '.join(KINDS)}"
            where = document.position((*place, "on"))
            raise UsageError(f"{where}: nothing that is told has this name: {_quoted(kind)}", hint=hint)
    return Target(name, tuple(kind for kind in KINDS if kind in on))


def _known_keys(given: Any, known: Sequence[str], document: Document, *place: str | int) -> None:
    if not isinstance(given, dict):
        raise _refused(given, document, *place)
    for key, value in given.items():
        if key not in known:
            if (isinstance(value, str) and _ADDRESS.search(value)) or _ADDRESS.search(str(key)):
                raise _refused(value, document, *place, key)
            hint = did_you_mean(str(key), known) or f"known: {', '.join(known)}"
            raise UsageError(f"{document.position((*place, key))}: unknown key {_quoted(key)}", hint=hint)


def _refused(value: Any, document: Document, *place: str | int) -> UsageError:
    """For what stands where a name should: an address is not repeated."""
    if isinstance(value, str) and _ADDRESS.search(value):
        return UsageError(
            f"{document.position(place)}: the address of a service stands in the file, and may hold a token",
            hint="put it into an environment variable and name that: {env: RUNCTL_NOTICE_URL}; take the token back, "
            "if this file was ever committed",
        )
    return _wrong("it must name an environment variable: letters, digits and _", document, *place)


def _wrong(words: str, document: Document, *place: str | int) -> UsageError:
    return UsageError(f"{document.position(place)}: {words}", hint=EXAMPLE)


def _quoted(value: Any) -> str:
    text = str(value)
    return "(an address)" if _ADDRESS.search(text) else repr(text[:60])


def service(target: Target) -> str:
    """`slack://***`: which service an address is of, and nothing else of it; "" where the variable is not set."""
    address = target.address
    if address is None:
        return ""
    name, sign, _ = address.partition("://")
    return f"{name}://***" if sign and _SERVICE.fullmatch(name) else "no address"


def words(target: Target) -> str:
    """What it is told."""
    return "everything" if set(target.on) == set(KINDS) else ", ".join(target.on)
