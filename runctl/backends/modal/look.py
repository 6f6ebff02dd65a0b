"""What Modal and the volume say of a run now, written into its folder here: the result of its call, the state of its
app, its records. Each source is asked at the same time under one deadline, and may fail by itself: what could not be
learned is said.

What was left half done is ended here, too: a launch that was killed is adopted where its call was spawned, else taken
back; a run whose call has its answer is closed: its end is on record, and its app is stopped.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

from runctl import evidence, prices, record
from runctl import project as projects
from runctl.backends.modal import client as clients
from runctl.backends.modal import copies, costs, ids
from runctl.backends.modal.client import Where
from runctl.errors import ProviderError, RunctlError
from runctl.fields import number
from runctl.supervisor import ending
from runctl.supervisor.verdict import Verdict

FRESH_SECONDS = 1.5
GRACE_SECONDS = 45.0  # Modal gives 30, and a last commit takes its time
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
    if kind == "terminated" and not isinstance(answers["volume"], BaseException):
        kind, facts = _grace(run, known, kind, facts)
    if kind in FINAL and not isinstance(answers["volume"], BaseException):
        with suppress(Exception):  # what was committed between the two answers
            copies.bring(run, place, client)
    known = _see(run, call=kind, app=app, problems=problems, **facts)
    if kind in FINAL and not isinstance(answers["volume"], BaseException):
        close(run, known, client)


def _grace(run: record.RunDir, known: dict[str, Any], kind: str, facts: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """A call is over for Modal as soon as it is ended, while its container still saves: that is waited for."""
    attempts, before = run.attempts(), known.get("seen") or {}
    if not attempts or not attempts[-1].container.exists() or attempts[-1].exit.exists():
        return kind, facts
    since = before["since"] if before.get("call") == "ending" and "since" in before else time.time()
    if abs(time.time() - since) > GRACE_SECONDS:
        return kind, facts
    return "ending", {**facts, "since": since}


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
    """running or stopped."""
    try:
        found = modal.App.lookup(known["app"], client=client, environment_name=known.get("environment"))
        state = str(getattr(found.info(refresh=True).lifecycle.state, "name", found.info().lifecycle.state)).lower()
    except modal.exception.NotFoundError:
        return "stopped"
    return "stopped" if "stop" in state else "running"


def close(run: record.RunDir, known: dict[str, Any], client: Any) -> None:
    """The end of a run whose call is over: on record, with its app stopped, here and on the volume."""
    modal, place, seen = clients.load(), where(run, known), known["seen"]
    volume = copies.volume_of(place, client)
    attempts = run.attempts()
    if seen["app"] != "stopped":
        stopped = clients.gather({"stop": lambda: _stop_app(modal, known["app"], known, client)}, clients.SECONDS)[
            "stop"
        ]
        if isinstance(stopped, BaseException):
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
    if kind in ("terminated", "missing") and asked:
        return Verdict("stopped", "stopped on request" + (", by force" if begun else ", before it began"))
    if kind == "terminated":
        return Verdict("killed", "ended on Modal, not by runctl stop" + (f": {last}" if last else ""))
    return Verdict("failed", f"supervisor lost: Modal has no answer of its call any more ({kind})")


def _settle(run: record.RunDir, known: dict[str, Any], client: Any, seconds: float) -> dict[str, Any]:
    """A launch that was killed: go on with what it spawned, or end what it began."""
    modal = clients.load()
    app = known.get("app") or clients.ask(lambda: by_name(run.name, known.get("environment"), client), seconds)
    if app is not None:
        found = clients.ask(lambda: call_of(modal, app, known, client), seconds)
        if found is not None:
            return ids.update(run, app=app, function=found[0], call=found[1], phase="launched")
        clients.ask(lambda: _stop_app(modal, app, known, client), seconds)
    place, first = where(run, known), int(known.get("attempt") or 1)
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


def call_of(modal: Any, app: str, known: dict[str, Any], client: Any) -> tuple[str, str] | None:
    """(function, call) of an app that was found by its id; None if nothing was spawned in it."""
    info = modal.App.lookup(app, client=client, environment_name=known.get("environment")).info(refresh=True)
    functions = info.functions.values() if isinstance(info.functions, dict) else info.functions
    for function in functions:
        id = str(getattr(function, "object_id", function))
        for row in command("function", "calls", id, "--json"):
            if found := row.get("function_call_id"):
                return id, str(found)
    return None


def by_name(name: str, environment: str | None, client: Any) -> str | None:
    """The id of the newest living app of a run of that name."""
    return next((app for app, tags in living(environment, client) if tags.get("runctl.run") == name), None)


def living(environment: str | None, client: Any) -> list[tuple[str, dict[str, str]]]:
    """The apps that runctl has made and that have not stopped: (id, tags), the newest first."""
    modal = clients.load()
    found = []
    for row in command("app", "list", "--json", *(["--env", environment] if environment else [])):
        values = {str(key).lower().replace(" ", "_"): value for key, value in row.items()}
        id = next((str(value) for value in row.values() if str(value).startswith("ap-")), None)
        state = str(values.get("state", ""))
        if id is None or "stopped" in state.lower() or not str(values.get("description", "")).startswith("runctl-"):
            continue
        tags = modal.App.lookup(id, client=client, environment_name=environment).get_tags()
        if "runctl.run" in tags:
            found.append((id, dict(tags)))
    return found


def command(*words: str) -> list[dict[str, Any]]:
    """What Modal's own command line answers as JSON: for the little that its library cannot be asked."""
    argv = [sys.executable, "-m", "modal", *words]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=clients.SECONDS, check=False)
        rows = json.loads(done.stdout) if done.returncode == 0 else None
    except subprocess.TimeoutExpired:
        raise clients.Late(f"no answer within {clients.SECONDS:.0f} s") from None
    except ValueError:
        rows = None
    if not isinstance(rows, list):
        words_said = [line.strip() for line in done.stderr.splitlines() if line.strip(" │╭╰─╮╯")]
        raise ProviderError(f"modal {' '.join(words[:2])} failed: {' '.join(words_said)[:300]}")
    return [row for row in rows if isinstance(row, dict)]


def _stop_app(modal: Any, app: str, known: dict[str, Any], client: Any) -> None:
    with suppress(modal.exception.NotFoundError):
        modal.App.lookup(app, client=client, environment_name=known.get("environment")).stop()


def _give(run: record.RunDir, volume: Any, place: Where, files: list[Any]) -> None:
    """Put what was found out here beside what is on the volume, for other machines."""
    with suppress(Exception), volume.batch_upload(force=True) as batch:
        for file in files:
            if file.exists():
                batch.put_file(file, f"/{place.folder}/{file.relative_to(run.path)}")


def read_object(data: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(data or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
