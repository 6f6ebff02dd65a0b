"""Trouble on demand: an RPC that answers UNAVAILABLE or INTERNAL, before or after it took effect, or late."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from grpclib import GRPCError, Status


@dataclass
class Fault:
    rpc: str  # a name, or "*" for any
    status: Status | None  # None: only slow
    nth: int  # the first matching call that is hit, from 1
    times: int
    after: bool  # the effect happens and the answer is lost
    delay: float
    who: str
    met: int = 0
    hits: int = 0

    def meets(self, rpc: str, who: str) -> bool:
        if self.rpc not in ("*", rpc) or (self.who != "any" and self.who != ("container" if who != "client" else who)):
            return False
        self.met += 1
        if not self.nth <= self.met < self.nth + self.times:
            return False
        self.hits += 1
        return True


@dataclass
class Faults:
    armed: list[Fault] = field(default_factory=list)

    def arm(
        self,
        rpc: str,
        status: str | None = "UNAVAILABLE",
        *,
        nth: int = 1,
        times: int = 1,
        after: bool = False,
        delay: float = 0.0,
        who: str = "client",
    ) -> Fault:
        """Make `times` calls of `rpc`, from the `nth` on, fail. `who`: "client", "container" or "any"."""
        fault = Fault(rpc, None if status is None else Status[status], nth, times, after, delay, who)
        self.armed.append(fault)
        return fault

    async def before(self, rpc: str, who: str) -> Fault | None:
        """Raise or wait as armed; returns the fault whose time is after the effect, if one was met."""
        for fault in self.armed:
            if fault.meets(rpc, who):
                await asyncio.sleep(fault.delay)
                if fault.status is not None and not fault.after:
                    raise GRPCError(fault.status, f"injected {fault.status.name} in {rpc}")
                if fault.after:
                    return fault
        return None
