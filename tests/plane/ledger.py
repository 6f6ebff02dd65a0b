"""All that came in: every RPC and every HTTP upload, in order, for assertions and for the search for secrets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message


@dataclass
class Seen:
    """One RPC or upload. `who` is "client" or a container's task id; `outcome` is "OK", a gRPC status, or "running"."""

    number: int
    time: float
    rpc: str
    who: str
    message: Any
    key: str = ""  # the idempotency key: the same for every retry of one call
    outcome: str = "running"

    def fields(self) -> dict[str, Any]:
        """The request as plain data, names as in the .proto file; bytes are base64."""
        if isinstance(self.message, Message):
            return MessageToDict(self.message, preserving_proto_field_name=True)
        return {"body": self.message}

    def raw(self) -> bytes:
        return self.message.SerializeToString() if isinstance(self.message, Message) else bytes(self.message)


@dataclass
class Ledger:
    seen: list[Seen] = field(default_factory=list)

    def note(self, rpc: str, who: str, message: Any, key: str = "") -> Seen:
        entry = Seen(len(self.seen), time.time(), rpc, who, message, key)
        self.seen.append(entry)
        return entry

    def of(self, rpc: str, *, who: str | None = None) -> list[Seen]:
        """The RPCs of a name. `who`: "client", a task id, or "containers" for all of those."""
        return [entry for entry in self.seen if entry.rpc == rpc and _by(entry, who)]

    def names(self, *, who: str | None = None) -> list[str]:
        return [entry.rpc for entry in self.seen if _by(entry, who)]

    def effective(self, rpc: str) -> int:
        """How many different calls of an RPC took effect: retries of one call count once."""
        return len({entry.key or str(entry.number) for entry in self.of(rpc) if entry.outcome == "OK"})

    def holding(self, secret: str) -> Iterator[Seen]:
        """Whatever came in that holds this text (pickles, CBOR and protobuf keep text as it is), or its UTF-16."""
        needles = [secret.encode(), secret.encode("utf-16-le")]
        for entry in list(self.seen):
            if any(needle in entry.raw() for needle in needles):
                yield entry


def _by(entry: Seen, who: str | None) -> bool:
    if who == "containers":
        return entry.who.startswith("ta-")
    return who is None or entry.who == who
