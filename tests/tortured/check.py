"""What must hold after a fault: a status that agrees with the processes, readable records, nothing left over."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from tortured.scene import NAME, TOTAL, Scene

from runctl import record, status

LEFT_SECONDS = 20.0  # after which what a run leaves behind is an orphan
QUEUED_SECONDS = 12.0  # a launch that was killed may have started a supervisor that is still loading
READ_SECONDS = 10.0  # for one look at a status, on a busy machine
PATIENCE_SECONDS = 10.0  # beyond the limit, then a wrong status is final
_SETTLE_SECONDS = 60.0


@dataclass(frozen=True)
class Settled:
    """The state that a run came to, and for how long its status disagreed with what lived, at worst."""

    state: str
    reason: str
    wrong_seconds: float
    step: int


def settle(scene: Scene, limit: float) -> Settled:
    """Watch a run until nothing of it lives and its status is over. A status that is `active` over no process, or over
    while a supervisor lives, for more than `limit` seconds is complained of; so is what outlives the run."""
    began, since, worst, left, queued = time.monotonic(), None, 0.0, None, False
    while True:
        if not scene.run.path.exists() and not any(scene.processes().values()):
            return Settled("absent", "there is no run", worst, 0)
        before = scene.processes()
        looked = time.monotonic()
        found = status.observe(scene.run)
        if time.monotonic() - looked > READ_SECONDS:
            scene.complain(f"a look at the status took {time.monotonic() - looked:.1f} s")
        after = scene.processes()
        now = time.monotonic()
        supervised = bool(set(before["supervisor"]) & set(after["supervisor"]))
        living = any(after[role] for role in after)
        wrong = (found.active and not any(before[role] for role in ("supervisor", "trainer"))) or (
            found.over and supervised
        )
        queued = queued or (wrong and found.state == "queued")
        since = (since or now) if wrong else None
        if since is not None:
            worst = max(worst, now - since)
            if now - since > limit + (QUEUED_SECONDS if queued else 0.0) + PATIENCE_SECONDS:
                scene.complain(
                    f"status says {found.state} ({found.reason}) for {now - since:.0f} s, but lives: {after}"
                )
                break
        left = (left or now) if found.over and living and not supervised else None
        if left is not None and now - left > LEFT_SECONDS:
            scene.complain(f"orphans: {names(after)}")
            break
        if found.over and not living:
            break
        if now - began > _SETTLE_SECONDS:
            scene.complain(f"still {found.state} ({found.reason}) after {now - began:.0f} s; lives: {names(after)}")
            break
        time.sleep(0.2)
    limit = max(limit, QUEUED_SECONDS) if queued else limit
    if worst > limit:
        scene.complain(f"status was wrong for {worst:.1f} s, allowed are {limit:g} s")
    return Settled(found.state, found.reason, worst, found.step or 0)


def names(processes: dict[str, list[int]]) -> str:
    """Processes in words, with what they were started as."""
    told = []
    for role, pids in processes.items():
        for pid in pids:
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                command = "gone"
            told.append(f"{role} {pid} {command[:200]}")
    return "; ".join(told) or "nothing"


def complete(scene: Scene, reference: dict[str, float], history: dict[str, float]) -> None:
    """Complain of a success that is none, and of losses that differ from those of the unbroken run."""
    steps = {int(key.split()[0]) for key in history}
    if max(steps, default=0) != TOTAL:
        scene.complain(f"succeeded, but the last row is of step {max(steps, default=0)} of {TOTAL}")
    differing = [key for key in reference if key in history and history[key] != reference[key]]
    missing = [key for key in reference if key not in history]
    added = [key for key in history if key not in reference]
    if differing or missing or added:
        first = (differing or missing or added)[0]
        scene.complain(
            f"the losses are not those of the unbroken run: {len(differing)} differ, {len(missing)} are missing, "
            f"{len(added)} are new; the first: {first}: {history.get(first)} for {reference.get(first)}"
        )


def readable(scene: Scene, found: Settled, damaged: Collection[str] = (), short: bool = False) -> None:
    """Every record can be read, but those that the fault itself has damaged; every command that reads them answers,
    and says what the library said."""
    for path in [*scene.run.path.glob("*.json"), *scene.run.path.glob("attempts/*/*.json")]:
        name = str(path.relative_to(scene.run.path))
        if name not in damaged and (why := record.damage(path)):
            scene.complain(f"{name}: {why}")
    for path in scene.run.path.glob("*.jsonl"):
        if path.name not in damaged:
            try:
                bad = [line for line in path.read_bytes().split(b"\n") if line and not _parses(line)]
            except OSError as error:
                scene.complain(f"{path.name} cannot be read: {error}")
                continue
            if len(bad) > 1 + len(scene.run.attempts()):  # a kill may tear one line
                scene.complain(f"{path.name} has {len(bad)} lines that cannot be read: {bad[0][:80]!r}")
    if not scene.run.path.exists():
        return
    done = scene.call("status", NAME, "--json")
    try:
        said = done.data()
        state = (said.get("status") or said)["state"]
    except (ValueError, KeyError, AttributeError) as error:
        scene.complain(f"{done} cannot be read: {type(error).__name__}: {error}")
        return
    if state != found.state:
        scene.complain(f"`runctl status` says {state}, the library {found.state}")
    if short:
        return
    for words in (["status", "--all", "--json"], ["why", NAME, "--json"], ["logs", NAME, "--tail", "20"], *_events()):
        scene.call(*words)


def _events() -> list[list[str]]:
    from runctl.cli import COMMANDS

    return [["events", NAME]] if "events" in COMMANDS else []


def _parses(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
