"""Another reading of the protocol: what a service may do otherwise and a client has to live with.

`Plane(quirks=Quirks(lag=3.0))`, or `plane.set(quirks=...)` while it runs. None of it is known of Modal itself: these
are the answers that runctl must not depend on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message


@dataclass(frozen=True)
class Quirks:
    without: tuple[str, ...] = ()  # RPCs that answer UNIMPLEMENTED
    omit: tuple[str, ...] = ()  # fields that no answer has, as "FileEntry.mtime"
    latency: float = 0.0  # seconds before each answer
    lag: float = 0.0  # seconds until what a container has committed is seen outside of containers
    overwrites: bool = False  # a file that must not be overwritten is, all the same
    forgets_keys: bool = False  # an RPC that is sent again is done again
    same_machine: bool = False  # containers have this machine's host name and boot id
    nameless: bool = False  # a container is not told its own id
    short_streams: bool = False  # a stream of logs ends when there is nothing new
    flat: bool = False  # a folder is listed without those in it, whatever is asked for


def without_fields(answer: Any, names: tuple[str, ...]) -> Any:
    """A copy of an answer in which these fields are not set, however deep they lie."""
    if not names or not isinstance(answer, Message):
        return answer
    copy = type(answer)()
    copy.CopyFrom(answer)
    _clear(copy, set(names))
    return copy


def _clear(message: Message, names: set[str]) -> None:
    for field, value in message.ListFields():
        if f"{message.DESCRIPTOR.name}.{field.name}" in names:
            message.ClearField(field.name)
        elif field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        else:
            for one in value if field.is_repeated else (value,):
                _clear(one, names)
