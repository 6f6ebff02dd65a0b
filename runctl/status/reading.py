"""The files of one run and what this machine knows of its processes, as `fold` wants them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from runctl import evidence, record, spending
from runctl.evidence import Life
from runctl.light import replace
from runctl.status.facts import Evidence, Records, RunStatus
from runctl.status.folding import fold
from runctl.status.values import event, has_ended
from runctl.supervisor import changing, room
from runctl.supervisor.summary import newest_checkpoint

_AT_ONCE = 16


def read(run: record.RunDir, now: float | None = None) -> RunStatus:
    """The state of one run, from its files and this machine's evidence."""
    records = load(run)
    seen = weigh(run, records)
    if seen.supervisor in (Life.DEAD, Life.REBOOTED):  # it may have written the end between the two looks
        records = load(run)
    if seen.supervisor is Life.DEAD and seen.trainer is Life.DEAD and evidence.marked(run.path):
        seen = replace(seen, trainer=Life.ALIVE)  # what the trainer started has outlived both
    return fold(records, seen, time.time() if now is None else now)


def observe(run: record.RunDir, grace_seconds: float = 60.0) -> RunStatus:
    """`read`, of a run on a provider's machines after a look there. If a lost supervisor left its trainer behind, have
    the backend end that and write the record, and if somebody is to be told that the run is lost, tell them."""
    if run.remote.exists():
        from runctl import backends

        backends.remote(backend_of(run)).refresh(run)
    found = read(run)
    if found.leftover:
        from runctl import backends

        backends.load(backend_of(run)).end_leftover(run, found.attempt, grace_seconds)
    if found.state == "lost" or (found.state == "failed" and found.failure is None):
        from runctl.notices import lost

        lost.look(run, found)
    return found


def refresh(runs: Iterable[record.RunDir]) -> None:
    """Look, all at once, at those of the runs that are on a provider's machines."""
    away = [run for run in runs if run.remote.exists()]
    if not away:
        return
    from concurrent.futures import ThreadPoolExecutor

    from runctl import backends

    with ThreadPoolExecutor(min(_AT_ONCE, len(away))) as pool:
        list(pool.map(lambda run: backends.remote(backend_of(run)).refresh(run), away))


def backend_of(run: record.RunDir) -> str:
    """The name of the backend that a run was launched on."""
    found = record.read_object(run.run).get("backend")
    return found if isinstance(found, str) else "local"


def load(run: record.RunDir) -> Records:
    """The small files of a run. The events of an attempt that has its exit record are not needed, and not read."""
    content = record.read_json(run.run)
    attempts = [attempt for attempt in run.attempts() if _used(attempt)] or _told(run)
    remote = record.read_json(run.remote)
    damage = "" if isinstance(content, dict) else record.damage(run.run)
    data = {**(content if isinstance(content, dict) else {}), "name": run.name}
    if not attempts:
        return Records(data, damage=damage, remote=remote)
    newest = attempts[-1]
    start, changed = record.read_json(newest.start), ""
    if isinstance(start, dict) and start.get("accepted"):
        now = record.changed(data, start)
        data, changed = now, changing.since_launch(data, now, start["accepted"])
    end = record.read_json(newest.exit)
    rows = (
        [] if has_ended(end) else [row for row in record.read_lines(run.events) if row.get("attempt") == newest.number]
    )
    return Records(
        run=data,
        attempt=newest.number,
        start=start,
        events=rows,
        heartbeat=record.read_json(newest.heartbeat),
        result=record.read_json(newest.result),
        exit=end,
        resumed=record.read_json(newest.resumed) if newest.number > 1 else None,
        checkpoint=newest_checkpoint(run),
        damage=damage,
        summary=record.read_json(run.summary),
        lock=record.read_json(run.lock),
        changed=changed,
        earlier=[record.read_json(attempt.exit) for attempt in attempts[:-1]],
        remote=remote,
        container=record.read_json(newest.container) if remote is not None else None,
        dearer_usd=spending.dearer_usd(run, spending.usd_per_hour(data), newest.number) if remote is not None else 0.0,
    )


def weigh(run: record.RunDir, records: Records) -> Evidence:
    """Ask this machine for the processes that the records name; not asked for an attempt that has ended."""
    if records.remote is not None:
        return Evidence(written=_written(run.attempt(records.attempt).heartbeat))
    if has_ended(records.exit):
        return Evidence()
    start = records.start if isinstance(records.start, dict) else {}
    supervisor, trainer = identities(records)
    started = evidence.from_json(start.get("supervisor"))
    if event(records, "attempt_started") is None:  # not begun: the one that its launcher has started
        supervisor = started or supervisor
    watching, holder = evidence.life(supervisor), evidence.life(evidence.from_json(records.lock))
    if watching is Life.ELSEWHERE and started is not None:  # a flipped bit makes another machine of this one
        watching = evidence.life(started)
    return Evidence(
        launcher=evidence.life(evidence.from_json(start.get("launcher"))),
        supervisor=holder if holder is Life.ALIVE else watching,
        trainer=evidence.group_life(trainer, supervisor.pid if supervisor else None),
        no_room=room.full(run.path),
        written=_written(run.attempt(records.attempt).heartbeat),
    )


def identities(records: Records) -> tuple[evidence.Identity | None, evidence.Identity | None]:
    """The supervisor and the trainer of the newest attempt, as its events name them; where the supervisor's was lost,
    whoever took the run's lock last."""
    begun, trainer = event(records, "attempt_started"), event(records, "trainer_started")
    return (
        evidence.from_json(begun.get("supervisor") if begun else None) or evidence.from_json(records.lock),
        evidence.from_json(trainer.get("trainer")) if trainer else None,
    )


def _told(run: record.RunDir) -> list[record.Attempt]:
    """Attempts whose folders have lost their files, but that the events tell of, or a supervisor that took the lock."""
    if isinstance(record.read_json(run.lock), dict):
        return run.attempts()
    numbers = {row.get("attempt") for row in record.read_lines(run.events)}
    return [attempt for attempt in run.attempts() if attempt.number in numbers]


def _used(attempt: record.Attempt) -> bool:
    """Whether an attempt's folder holds anything: an empty one was never claimed by anybody."""
    return attempt.start.exists() or any(file.exists() for file in attempt.files)


def _written(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
