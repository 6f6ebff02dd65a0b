"""The state of a run, derived each time from its records and from evidence of life; it is stored nowhere.

facts       what goes in (Records, Evidence) and what comes out (RunStatus)
state       the truth table: which state they add up to, and why
folding     `fold`: all of a run's status; pure
reading     the files of one run, and the processes that they name
finished    a run that has ended, by its summary alone
listing     many runs: which are wanted, and what of them has to be read
"""

from __future__ import annotations

from runctl.status.facts import ACTIVE, STATES, Evidence, Records, RunStatus
from runctl.status.folding import fold
from runctl.status.listing import SORTS, Listing, Query, index, select
from runctl.status.reading import backend_of, identities, load, observe, read, weigh
from runctl.status.state import STALL_SECONDS
from runctl.status.values import task_of

__all__ = [
    "ACTIVE",
    "SORTS",
    "STALL_SECONDS",
    "STATES",
    "Evidence",
    "Listing",
    "Query",
    "Records",
    "RunStatus",
    "backend_of",
    "fold",
    "identities",
    "index",
    "load",
    "observe",
    "read",
    "select",
    "task_of",
    "weigh",
]
