"""What Modal and the volume say of a run now, written into its folder here: the result of its call, the state of its
app, its records. Each source is asked at the same time under one deadline, and may fail by itself: what could not be
learned is said.

What was left half done is ended here, too: a launch that was killed is adopted where its call was spawned, else taken
back; a run whose call has its answer is closed: its end is on record, and its app is stopped.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from runctl import evidence, prices, record
from runctl import project as projects
from runctl.backends.modal import client as clients
from runctl.backends.modal import copies, costs, finding, ids
from runctl.backends.modal.client import Where
from runctl.backends.modal.finding import read_object
from runctl.errors import ProviderError, RunctlError
from runctl.fields import number
from runctl.remote import entry
from runctl.supervisor import ending
from runctl.supervisor.verdict import Verdict

FRESH_SECONDS = 1.5
GRACE_SECONDS = 45.0  # Modal gives 30, and a last commit takes its time
_BEHIND = {"terminated": GRACE_SECONDS, "answered": 20.0, "failed": 10.0, "timeout": 5.0, "infrastructure": 5.0}
UNANSWERED_SECONDS = 60.0  # between the end that a container has written down and its call's answer
FINAL = ("answered", "timeout", "failed", "infrastructure", "terminated", "expired", "missing")
_asked: dict[str, float] = {}


def where(run: record.RunDir, known: dict[str, Any] | None = None) -> Where:
    known = ids.read(run) if known is None else known
    environment = known.get("environment")
    return Where(run.name, str(known.get("volume") or "runctl"), environment if isinstance(environment, str) else None)


def refresh(run: record.RunDir, seconds: float = clients.SECONDS, *, fresh_seconds: float = FRESH_SECONDS) -> None:
    """Bring what is here of a run up to date; never raises for what cannot be learned, and asks at most once in
    `fresh_seconds`."""
    known = ids.read(run)
    if known.get("phase") not in ("launching", "launched"):
        return
    last = _asked.get(str(run.path))
    if last is not None and time.monotonic() - last < fresh_seconds:
        return
    launcher = evidence.life(evidence.from_json(known.get("launcher")))
    if known["phase"] == "launching" and launcher not in (evidence.Life.DEAD, evidence.Life.REBOOTED):
        return  # it goes on, or nobody here can tell
    end = time.monotonic() + seconds
    try:
        client = clients.connect(seconds)
        if known["phase"] == "launching":
            known = _settle(run, known, client, max(1.0, end - time.monotonic()))
        if known["phase"] == "launched":
            _look(run, known, client, max(1.0, end - time.monotonic()))
    except (ProviderError, clients.Late, OSError) as error:
        with suppress(OSError):
            _see(run, call="unknown", problems=[clients.said(error)])
    finally:
        _asked[str(run.path)] = time.monotonic()


def whole(run: record.RunDir, seconds: float = clients.SECONDS) -> None:
    """Bring the large logs here, too; what cannot be had is left out."""

    def bring() -> None:
        copies.bring(run, where(run), clients.connect(), whole=True)

    attempts = run.attempts()
    here = bool(attempts) and attempts[-1].log.exists()
    if ids.read(run).get("phase") == "launched" or not here:
        clients.gather({"logs": bring}, 6 * seconds)


def _see(run: record.RunDir, **facts: Any) -> dict[str, Any]:
    """Note what was seen; what could not be learned leaves what was known before."""
    with ids.alone():
        before = ids.read(run).get("seen") or {}
        new = {"time": time.time(), "answer": None, "error": "", "app": "unknown", "problems": [], **facts}
        if new["call"] == "unknown":
            new["last"] = before.get("last") or before.get("time")
        return ids.update(run, seen=new)


def _look(run: record.RunDir, known: dict[str, Any], client: Any, seconds: float) -> None:
    modal, place = clients.load(), where(run, known)
    answers = clients.gather(
        {
            "call": lambda: modal.FunctionCall.from_id(known["call"], client=client).get(timeout=0),
            "app": lambda: _app_state(modal, known, client),
            "volume": lambda: copies.bring(run, place, client),
        },
        seconds,
    )
    problems = []
    for name, what in (("app", "its app"), ("volume", f"the volume '{place.volume}'")):
        if isinstance(answers[name], BaseException):
            problems.append(f"{what}: {clients.said(answers[name])}")
    kind, facts = _kind(modal, answers["call"])
    if kind == "unknown":
        problems.append(f"its call: {facts.get('error')}")
    app = "unknown" if isinstance(answers["app"], BaseException) else answers["app"]
    if kind == "unfinished" and app == "stopped":
        kind = "terminated"
    if not isinstance(answers["volume"], BaseException):
        kind, facts = _unanswered(run, known, kind, facts)
        if kind in FINAL:
            with suppress(Exception):  # what was committed between the two answers
                copies.bring(run, place, client)
            kind, facts = _behind(run, known, kind, facts)
    known = _see(run, call=kind, app=app, problems=problems, **facts)
    if kind in FINAL and not isinstance(answers["volume"], BaseException):
        close(run, known, client)


def _behind(run: record.RunDir, known: dict[str, Any], kind: str, facts: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """A call is over for Modal as soon as it is ended, while its container still saves, and the volume may show what
    was committed some seconds later: that is waited for."""
    attempts, told = run.attempts(), (facts.get("answer") or {}).get("attempt")
    if not attempts or kind not in _BEHIND:
        return kind, facts
    last = run.attempt(told) if isinstance(told, int) and told > 0 else attempts[-1]
    begun = last.number == told or (kind != "answered" and last.container.exists())
    if not begun or last.exit.exists():
        return kind, facts
    before = known.get("seen") or {}
    since = before["since"] if before.get("call") == "ending" and "since" in before else time.time()
    if abs(time.time() - since) > _BEHIND[kind]:
        return kind, facts
    return "ending", {**facts, "since": since}


def _unanswered(
    run: record.RunDir, known: dict[str, Any], kind: str, facts: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """A container has written down an end that no other one could better, and its call has no answer: after a while
    that end is the answer. Such a container may go on, and be paid for, until its timeout."""
    attempts = run.attempts()
    end = record.read_object(attempts[-1].exit) if attempts else {}
    if kind != "unfinished" or not end or entry.curable(end):
        return kind, facts
    before = known.get("seen") or {}
    since = before["over"] if isinstance(before.get("over"), float) else time.time()
    if abs(time.time() - since) <= UNANSWERED_SECONDS:
        return kind, {**facts, "over": since}
    return "answered", {"answer": {"state": end.get("state"), "reason": end.get("reason")}}


def _kind(modal: Any, answer: Any) -> tuple[str, dict[str, Any]]:
    """What the answer of a call means."""
    errors = modal.exception
    if isinstance(answer, dict):
        return "answered", {"answer": answer}
    if not isinstance(answer, BaseException):
        return "answered", {"answer": {"state": "failed", "reason": "its container gave no answer of ours"}}
    text = {"error": str(answer).strip()[:4000]}
    if isinstance(answer, errors.OutputExpiredError):
        return "expired", text
    if isinstance(answer, errors.NotFoundError):
        return "missing", text
    if isinstance(answer, errors.FunctionTimeoutError):
        return "timeout", text
    if isinstance(answer, errors.InternalFailure):
        return "infrastructure", text
    if isinstance(answer, errors.RemoteError):
        return ("failed" if text["error"] else "terminated"), text
    if type(answer) is TimeoutError:
        return "unfinished", {}
    return "unknown", {"error": clients.said(answer)}


def _app_state(modal: Any, known: dict[str, Any], client: Any) -> str:
    """running, stopped, or unknown where the service does not say it."""
    try:
        found = modal.App.lookup(known["app"], client=client, environment_name=known.get("environment"))
        with suppress(modal.exception.UnimplementedError):  # then by what came with the lookup
            found.info(refresh=True)
        lifecycle = found.info().lifecycle
    except modal.exception.NotFoundError:
        return "stopped"
    if "stop" in str(getattr(lifecycle.state, "name", lifecycle.state)).lower():
        return "stopped"
    return "running" if lifecycle.created_at.timestamp() > 0 else "unknown"


def close(run: record.RunDir, known: dict[str, Any], client: Any) -> None:
    """The end of a run whose call is over: on record, with its app stopped, here and on the volume."""
    modal, place, seen = clients.load(), where(run, known), known["seen"]
    volume = copies.volume_of(place, client)
    attempts = run.attempts()
    if seen["app"] != "stopped":
        stopped = clients.gather({"stop": lambda: _stop_app(modal, known["app"], known, client)}, clients.SECONDS)[
            "stop"
        ]
        if isinstance(stopped, BaseException) and not isinstance(stopped, modal.exception.UnimplementedError):
            _see(
                run, **{**seen, "problems": [*seen["problems"], f"its app is not stopped yet: {clients.said(stopped)}"]}
            )
            return
    newest = attempts[-1]
    if not record.read_object(newest.exit):
        ending.close(
            run, newest.number, 0.0, "its container is gone", verdict(known, bool(record.read_object(newest.container)))
        )
        _give(run, volume, place, [newest.exit, run.events, run.summary])
    else:
        data = None
        with suppress(Exception):
            data = copies.get(volume, f"{place.folder}/summary.json")
        whole = read_object(data)
        if whole.get("attempts") == newest.number:
            record.write_json(run.summary, whole)
        else:
            end = record.read_object(newest.exit)
            said = Verdict(str(end.get("state")), str(end.get("reason") or ""))
            ending.summarize(run, newest.number, said, float(end.get("ended") or time.time()))
            _give(run, volume, place, [run.summary])
    ending.calibrate(run, newest.number)
    ids.update(run, phase="closed", costs=_costs(run, known))


def _costs(run: record.RunDir, known: dict[str, Any]) -> list[dict[str, Any]]:
    """What each attempt of this launch has cost; earlier ones as they were written down."""
    kept = {row.get("attempt"): row for row in known.get("costs") or [] if isinstance(row, dict)}
    asked = known.get("asked_for")
    if not isinstance(asked, dict):
        return list(kept.values())
    root = run.path.parent.parent
    try:
        own = projects.load(root / projects.FILE).prices
    except RunctlError:
        own = None
    rates = prices.of("modal", own, prices.live(root, "modal"))
    for attempt in run.attempts():
        end, container = record.read_object(attempt.exit), record.read_object(attempt.container)
        if attempt.number in kept or not container or attempt.number < int(known.get("attempt") or 1):
            continue
        begun, ended = number(container, "time"), number(end, "ended")
        seconds = max(0.0, ended - begun) if begun is not None and ended is not None else 0.0
        gpus = [line for line in container.get("gpus") or [] if isinstance(line, str)]
        cost = costs.attempt(
            asked.get("gpu") or (), gpus, seconds, cpu=asked["cpu"], memory_mib=asked["memory_mib"], rates=rates
        )
        kept[attempt.number] = {"attempt": attempt.number, **cost.to_json()}
    return list(kept.values())


def verdict(known: dict[str, Any], begun: bool) -> Verdict:
    """How a run ended that could not say so itself, by what Modal says of its call."""
    seen, asked = known.get("seen") or {}, known.get("asked")
    kind, text = seen.get("call"), str(seen.get("error") or "")
    last = text.splitlines()[-1][:300] if text else ""
    if kind == "answered" and isinstance(seen.get("answer"), dict):
        answer = seen["answer"]
        return Verdict(str(answer.get("state") or "failed"), str(answer.get("reason") or ""))
    if asked and (kind in ("terminated", "missing") or (not begun and kind in ("failed", "infrastructure"))):
        return Verdict("stopped", "stopped on request" + (", by force" if begun else ", before it began"))
    if kind == "timeout":
        return Verdict(
            "failed", "timed out: compute.timeout was over in the last container that compute.retries allows"
        )
    if kind == "failed":
        return Verdict("failed", f"its container failed: {last}")
    if kind == "infrastructure":
        return Verdict(
            "failed", f"its containers could not go on: {last}" if last else "its containers could not go on"
        )
    if kind == "terminated":
        return Verdict("killed", "ended on Modal, not by runctl stop" + (f": {last}" if last else ""))
    return Verdict("failed", f"supervisor lost: Modal has no answer of its call any more ({kind})")


def _settle(run: record.RunDir, known: dict[str, Any], client: Any, seconds: float) -> dict[str, Any]:
    """A launch that was killed: go on with what it spawned, or end what it began."""
    modal = clients.load()
    place, first = where(run, known), int(known.get("attempt") or 1)
    app = known.get("app") or clients.ask(lambda: _unnoted(run, known, client), seconds)
    if app is not None:
        found = _spawned(modal, app, known, place, client, seconds)
        if found is not None:
            return ids.update(run, app=app, function=found[0], call=found[1], phase="launched")
        clients.ask(lambda: _stop_app(modal, app, known, client), seconds)
    folder = place.folder if first == 1 else f"{place.folder}/attempts/{first}"

    def unclaim() -> None:
        with suppress(FileNotFoundError, modal.exception.NotFoundError):
            volume = copies.volume_of(place, client)
            claim = read_object(copies.get(volume, f"{place.folder}/attempts/{first}/claim.json"))
            if claim.get("launch") == known.get("launch"):
                volume.remove_file(f"/{folder}", recursive=True)

    clients.gather({"unclaim": unclaim}, seconds)
    words = "the launch was interrupted before its call was made"
    words += "; its app was ended" if app else ""
    if first > 1:
        ending.close(run, first, 0.0, words, Verdict("failed", words))
        return ids.update(run, phase="closed", problem=words)
    return ids.update(run, phase="failed", problem=words)


def _unnoted(run: record.RunDir, known: dict[str, Any], client: Any) -> str | None:
    """The app of a launch that was killed before it could write down its id."""
    digest = str(known.get("digest") or "")
    return finding.by_name(run.name, known.get("environment"), client, digest=digest, since=number(known, "time"))


def _spawned(
    modal: Any, app: str, known: dict[str, Any], place: Where, client: Any, seconds: float
) -> tuple[str, str] | None:
    """(function, call) of a launch that was killed; None if nothing was spawned. Raises ProviderError where neither the
    service nor the volume says it."""
    try:
        return clients.ask(lambda: finding.call_of(modal, app, known.get("environment"), client), seconds)
    except ProviderError:
        call = clients.ask(lambda: finding.call_written_down(place, known.get("launch"), client), seconds)
        if call is not None:
            return "", call
        if clients.ask(lambda: _gone(modal, {**known, "app": app}, client), seconds):
            return None
        raise


def _gone(modal: Any, known: dict[str, Any], client: Any) -> bool:
    """Whether an app has stopped, or is not among those that live."""
    state = _app_state(modal, known, client)
    if state == "unknown":
        return known["app"] not in {one.app for one in finding.living(known.get("environment"), client)}
    return state == "stopped"


def _stop_app(modal: Any, app: str, known: dict[str, Any], client: Any) -> None:
    with suppress(modal.exception.NotFoundError):
        modal.App.lookup(app, client=client, environment_name=known.get("environment")).stop()


def _give(run: record.RunDir, volume: Any, place: Where, files: list[Any]) -> None:
    """Put what was found out here beside what is on the volume, for other machines."""
    with suppress(Exception):
        put(run, volume, place, files)


def put(run: record.RunDir, volume: Any, place: Where, files: list[Any]) -> None:
    """Lay files of a run onto the volume; raises what the client does."""
    with volume.batch_upload(force=True) as batch:
        for file in files:
            if file.exists():
                batch.put_file(file, f"/{place.folder}/{file.relative_to(run.path)}")
