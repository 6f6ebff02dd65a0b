"""`python -m runctl.notices.send`: tell services what happened. Reads what to say on standard input
(`sending.payload`), the addresses in its environment; the only module that imports apprise.

Each target is tried three times, in a process of its own. How it went is added to the run's events.jsonl, with the
address and its parts hidden, or printed (`"report": true`). After a minute it gives up, whatever a service does.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from runctl import install, record
from runctl.light import dataclass
from runctl.notices import targets
from runctl.notices.sending import MOST_SECONDS
from runctl.notices.words import Notice, compose, test

_URL = re.compile(r"\w+://\S*")
_WAITS = (0.0, 3.0, 10.0)  # before each try
_TYPES = {"finished": "success", "failed": "failure", "killed": "failure", "lost": "failure", "guard": "warning"}
_TYPES |= {"budget": "warning", "restarted": "warning"}


@dataclass
class Errand:
    """One notice for one target; `why` it was not sent the last time."""

    notice: Notice
    target: targets.Target
    why: str = ""
    tries: int = 0


class Sender:
    def __init__(self, given: dict[str, Any]) -> None:
        self.run = record.RunDir(Path(given["run_dir"])) if given.get("run_dir") else None
        self.attempt: int = given.get("attempt") or 1
        self.report = bool(given.get("report"))
        self.known = targets.recorded({"notices": given.get("targets")})
        self.news = [one for one in given.get("news") or [] if isinstance(one, dict)]
        self.errands: list[Errand] = []

    def send(self) -> int:
        for one in self.news:
            kind, row = str(one.get("kind")), one.get("row") or {}
            notice = test() if self.run is None else compose(self.run, self.attempt, kind, row)
            chosen = self.known if kind == "test" else targets.told(self.known, kind)
            self.errands += [Errand(notice, target) for target in chosen]
        names = list(dict.fromkeys(errand.target.env for errand in self.errands))
        children = [self._of_its_own(name) for name in names[1:]]
        self.errands = [errand for errand in self.errands if errand.target.env in names[:1]]
        failed = self.tell()
        return int(any([failed, *(os.waitpid(child, 0)[1] for child in children)]))

    def _of_its_own(self, name: str) -> int:
        """A process for one target, so that one that never answers holds up no other."""
        child = os.fork()
        if child:
            return child
        signal.alarm(MOST_SECONDS)
        self.errands = [errand for errand in self.errands if errand.target.env == name]
        failed = True
        try:
            failed = self.tell()
        finally:
            sys.stdout.flush()
            os._exit(int(failed))

    def tell(self) -> bool:
        """All that one target is to be told; whether some of it was not."""
        for wait in _waits():
            if not self.errands:
                break
            time.sleep(wait)
            for errand in list(self.errands):
                errand.why, errand.tries = _tell(errand.notice, errand.target), errand.tries + 1
                if not errand.why:
                    self.errands.remove(errand)
                    self.told(errand)
        for errand in self.errands:
            self.told(errand)
        failed, self.errands = bool(self.errands), []
        return failed

    def give_up(self, number: int, frame: FrameType | None) -> NoReturn:
        """The time is over: say which were not sent, and end."""
        for errand in self.errands:
            errand.why = errand.why or f"no answer within {MOST_SECONDS} s"
            self.told(errand)
        sys.stdout.flush()
        os._exit(1)

    def told(self, errand: Errand) -> None:
        kind, to = errand.notice.kind, errand.target.env
        words = f"{kind}: told by {to}" if not errand.why else f"{kind}: could not be told by {to}: {errand.why}"
        row = {"kind": kind, "to": to, "sent": not errand.why, "tries": errand.tries, "reason": words}
        if self.report:
            os.write(1, (json.dumps(row | {"why": errand.why}) + "\n").encode())  # whole: others write there too
        if self.run is None:
            return
        with suppress(OSError):
            record.append_line(
                self.run.events, {"time": time.time(), "event": "notice", "attempt": self.attempt, **row}
            )
        if kind == "lost" and errand.why:
            from runctl.notices import lost

            lost.give_back(self.run, self.attempt)


def main() -> int:
    given = json.load(sys.stdin)
    sender = Sender(given)
    signal.signal(signal.SIGALRM, sender.give_up)
    signal.alarm(MOST_SECONDS)
    with suppress(OSError):
        os.nice(5)
    return sender.send()


def _tell(notice: Notice, target: targets.Target) -> str:
    """Send one notice; returns why that failed, in words without the address."""
    address = target.address
    if address is None:
        return f"{target.env} is not set"
    try:
        import apprise
    except ImportError:
        return f"apprise is not installed; {install.hint('notices')}"
    heard = _Heard()
    logger = logging.getLogger("apprise")
    logger.addHandler(heard)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        service = apprise.Apprise(asset=apprise.AppriseAsset(app_id="runctl", app_desc="runctl", app_url=""))
        if not service.add(address):
            return hide("it holds no address of a service that apprise knows: " + heard.why(), address).rstrip(": ")
        kind = _TYPES.get(notice.kind, "info")
        if service.notify(title=notice.title, body=notice.body, notify_type=kind, body_format="text"):
            return ""
        return hide(heard.why() or "the service did not take it", address)
    except Exception as error:  # a service's own code may raise anything; a sender never fails otherwise
        return hide(f"{type(error).__name__}: {error}", address)
    finally:
        logger.removeHandler(heard)


class _Heard(logging.Handler):
    """What apprise says while it sends, as far as it tells of what went wrong."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, row: logging.LogRecord) -> None:
        with suppress(Exception):
            line = " ".join(row.getMessage().split())
            if row.levelno >= logging.WARNING or line.startswith("Socket Exception"):
                self.lines.append(line)

    def why(self) -> str:
        return "; ".join(dict.fromkeys(self.lines))[:600]


def hide(text: str, address: str) -> str:
    """A text without the address and without any part of it that could be a token."""
    parts = [address, *re.split(r"[/:@?&=,;\s]+", address.partition("://")[2])]
    for part in sorted({one for one in parts if len(one) >= 4}, key=len, reverse=True):
        text = text.replace(part, "***")
    return _URL.sub("***", text)  # also where a service has shortened it by itself


def _waits() -> tuple[float, ...]:
    """The pauses before each try; for tests, RUNCTL_TEST_NOTICE_WAITS replaces them."""
    given = os.environ.get("RUNCTL_TEST_NOTICE_WAITS")
    return tuple(float(part) for part in given.split(",")) if given else _WAITS


if __name__ == "__main__":
    sys.exit(main())
