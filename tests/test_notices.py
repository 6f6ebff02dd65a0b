"""Notices: what happens to a run arrives at a service, and a service that does not answer delays nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fake_runs import in_state, make, pids, supervised, until
from test_launch import runctl

from runctl import project as projects
from runctl import record, status
from runctl.errors import UsageError
from runctl.notices import kinds, send, targets, words
from runctl.supervisor.verdict import ENDED

NAME = "RUNCTL_NOTICE_URL"
TOKEN = "tok3nA1b2C3d4E5f6"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "runctl.yaml").write_text(f"notices: {{to: [{{env: {NAME}}}]}}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNCTL_TEST_NOTICE_WAITS", "0,0.1")
    return tmp_path


class Service:
    """A service on this machine: `got` are the notices that arrived; it answers with `code`, after `seconds`."""

    def __init__(self, code: int = 200, seconds: float = 0.0) -> None:
        self.got: list[dict[str, Any]] = []
        got = self.got

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                time.sleep(seconds)
                self.send_response(code)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"json://me:{TOKEN}@127.0.0.1:{self.server.server_port}/{TOKEN}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def titles(self) -> list[str]:
        return [one["title"] for one in self.got]

    def wait(self, wanted: Callable[[list[str]], bool]) -> list[str]:
        deadline = time.monotonic() + 30
        while not wanted(self.titles()):
            assert time.monotonic() < deadline, self.titles()
            time.sleep(0.02)
        return self.titles()


@contextmanager
def service(code: int = 200, seconds: float = 0.0) -> Iterator[Service]:
    made = Service(code, seconds)
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()


def told(run: record.RunDir) -> list[dict[str, Any]]:
    return [row for row in record.read_lines(run.events) if row["event"] == "notice"]


def until_told(run: record.RunDir, count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 30
    while len(rows := told(run)) < count:
        assert time.monotonic() < deadline, rows
        time.sleep(0.02)
    return rows


def to(*on: str) -> list[dict[str, Any]]:
    return [{"env": NAME, "on": list(on or targets.KINDS)}]


def notify_guard(when: str, do: str) -> list[dict[str, Any]]:
    from runctl.guards import listing

    return listing.made({"task": "command", "guards": [{"when": when, "do": do}]}, listing.Known())[:1]


def with_facts(run: record.RunDir, **facts: Any) -> record.RunDir:
    record.write_json(run.run, record.read_object(run.run) | facts)
    return run


def test_the_first_step_a_guard_and_the_results_arrive_each_with_what_to_type_next(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(project, "--steps", 30, "--step-seconds", 0.05)
    with_facts(run, notices=to(), guards=notify_guard("val/loss > 0.05", "notify"))
    with service() as one:
        monkeypatch.setenv(NAME, one.address)
        with supervised(run):
            until(run, in_state(*ENDED))
            titles = one.wait(lambda got: len(got) >= 3)
    assert titles == ["run runs: its first step is done", titles[1], "run has finished"]
    assert titles[1].startswith("run: guard val/loss > 0.05 has tripped")
    started, guard, finished = (notice["message"] for notice in one.got)
    assert "next: runctl status run --watch" in started
    assert guard.startswith("val/loss 0.2 > 0.05 at step 5\nstep ")
    assert "of 30 (" in guard
    assert "val/pos_mae 0.5 (last delta 0.75)" in finished
    assert "next: runctl pull run results" in finished
    rows = until_told(run, 3)
    assert [(row["kind"], row["sent"], row["to"]) for row in rows] == [
        (kind, True, NAME) for kind in ("started", "guard", "finished")
    ]
    everything = "".join(path.read_text(errors="replace") for path in run.path.rglob("*") if path.is_file())
    assert TOKEN not in everything


@pytest.mark.parametrize("dead", ["refused", "hanging", "wrong"])
def test_a_dead_service_neither_delays_a_run_nor_fails_it_and_why_is_told_without_the_address(
    project: Path, monkeypatch: pytest.MonkeyPatch, dead: str
) -> None:
    run = with_facts(make(project, "--steps", 5), notices=to("started", "finished"))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        if dead == "hanging":
            listening.listen(1)
        port = listening.getsockname()[1]
        address = f"json://me:{TOKEN}@127.0.0.1:{port}/{TOKEN}?cto=0.3&rto=0.3"
        monkeypatch.setenv(NAME, address if dead != "wrong" else f"nosuch://{TOKEN}")
        with supervised(run) as pid:
            found = until(run, in_state(*ENDED))
            ended = time.monotonic()
            os.waitpid(pid, 0)  # the supervisor itself waits for nothing
            assert time.monotonic() - ended < 3.0
            rows = until_told(run, 2)  # the first was on its way when the trainer ended
    assert found.state == "succeeded"
    assert sorted((row["kind"], row["sent"], row["tries"]) for row in rows) == [
        ("finished", False, 2),
        ("started", False, 2),
    ]
    reason = {"refused": "refused", "hanging": "timed out", "wrong": "no address of a service"}[dead]
    assert all(reason in row["reason"] for row in rows)
    assert TOKEN not in json.dumps(rows)


def test_a_variable_that_is_not_set_is_told_once_and_starts_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(NAME, raising=False)
    run = with_facts(make(project, "--steps", 5), notices=to())
    with supervised(run):
        until(run, lambda _: run.summary.exists())
    (row,) = told(run)
    assert (row["kind"], row["sent"]) == ("started", False)
    assert f"{NAME} is not set" in row["reason"]


def test_a_failure_that_is_started_again_is_told_as_a_restart_only(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(project, "--steps", 10, "--step-seconds", 0.05, compute={"retries": 1})
    with_facts(run, notices=to("restarted", "failed", "finished"))
    with service() as one:
        monkeypatch.setenv(NAME, one.address)
        with supervised(run, backoff=0.05):
            until(run, in_state("running"))
            os.kill(pids(run)[1], signal.SIGKILL)
            titles = one.wait(lambda got: "run has finished" in got)
    assert titles == ["run is started again", "run has finished"]
    assert "restart 1 of 1" in one.got[0]["message"]
    assert "next: runctl why run --attempt 1" in one.got[0]["message"]


def test_a_lost_run_is_told_once_by_whoever_sees_it_first(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its supervisor was on a machine that has started again; nobody was left to tell."""
    run = with_facts(make(project, "--steps", 1000, "--deaf"), notices=to("lost"))
    with service() as one:
        monkeypatch.setenv(NAME, one.address)
        with supervised(run):
            until(run, in_state("running"))
        record.append_line(run.events, {"time": time.time(), "event": "nothing", "attempt": 1})
        looks = [runctl("status") for _ in range(3)]
        one.wait(lambda got: len(got) >= 1)
        until_told(run, 1)
        runctl("status")
    assert [look.returncode for look in looks] == [0, 0, 0]
    assert one.titles() == ["run is lost"]
    assert "supervisor lost" in one.got[0]["message"]
    assert "next: runctl resume run" in one.got[0]["message"]


def test_a_lost_run_that_could_not_be_told_is_told_at_the_next_look(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = with_facts(make(project, "--steps", 1000, "--deaf"), notices=to("lost"))
    monkeypatch.setenv("RUNCTL_TEST_NOTICE_WAITS", "0")
    with service(code=503) as broken:
        monkeypatch.setenv(NAME, broken.address)
        with supervised(run):
            until(run, in_state("running"))
        status.observe(run)
        assert until_told(run, 1)[0]["sent"] is False
    with service() as one:
        monkeypatch.setenv(NAME, one.address)
        deadline = time.monotonic() + 10
        while not one.got and time.monotonic() < deadline:
            status.observe(run)
            time.sleep(0.05)
        assert [row["sent"] for row in until_told(run, 2)] == [False, True]


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"event": "first_step"}, "started"),
        ({"event": "guard_tripped", "guard": "x", "do": "notify"}, "guard"),
        ({"event": "guard_tripped", "guard": "x", "do": "note"}, None),
        ({"event": "guard_tripped", "guard": "budget.max_hours", "do": "notify"}, "budget"),
        ({"event": "guard_tripped", "guard": "budget.max_cost_usd", "do": "stop"}, "budget"),
        ({"event": "attempt_ended", "state": "killed"}, "killed"),
        ({"event": "attempt_ended", "state": "stopped"}, "stopped"),
        ({"event": "attempt_ended", "state": ["nonsense"]}, None),
        ({"event": "checkpoint"}, None),
    ],
)
def test_only_what_is_news_is_told(row: dict[str, Any], kind: str | None) -> None:
    assert kinds.of(row) == kind


def test_a_guard_that_flaps_is_told_once_in_ten_minutes_and_its_end_of_the_run_at_once(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runctl.notices import sending
    from runctl.supervisor import noticing
    from runctl.supervisor.events import Events
    from runctl.supervisor.watchers import Scene

    sent: list[Any] = []
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    monkeypatch.setattr(sending, "start", lambda data: sent.append(json.loads(data)["news"]) or ended)
    monkeypatch.setenv(NAME, "json://127.0.0.1")
    clock = [0.0]
    monkeypatch.setattr(noticing.time, "monotonic", lambda: clock[0])
    run = with_facts(make(project), notices=to())
    one = noticing.Noticing(Scene(run, 1, record.read_object(run.run), Events(run, 1)))
    trip = {"event": "guard_tripped", "guard": "slow", "do": "notify"}
    for minute in range(15):
        clock[0] = 60.0 * minute
        one.told(trip)
    one.told(trip | {"do": "stop"})
    assert [news[0]["row"]["more"] for news in sent] == [0, 9, 4]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"notices:\n  to:\n    - {{env: 'slack://{TOKEN}/b/c'}}\n", "runctl.yaml:3:8: the address of a service"),
        (f"notices:\n  to:\n    - 'slack://{TOKEN}/b/c'\n", "runctl.yaml:3:7: the address of a service"),
        (f"notices:\n  to:\n    - {{url: 'https://x:{TOKEN}@y'}}\n", "runctl.yaml:3:8: the address of a service"),
        (f"notices:\n  to: 'slack://{TOKEN}'\n", "runctl.yaml:2:3: notices.to must be a list"),
        ("notices: {to: [{env: A, on: [finishd]}]}\n", "finishd"),
        ("notices: {to: [{env: A}, {env: A}]}\n", "A is named twice"),
        ("notices: {too: []}\n", "unknown key 'too'"),
        ("notices: {to: [{on: [lost]}]}\n", "names no environment variable"),
        ("notices: {to: [{env: 'a b'}]}\n", "letters, digits and _"),
        ("notices: [1]\n", "environment variable"),
    ],
)
def test_a_section_that_is_wrong_is_refused_at_its_place_and_no_address_is_repeated(
    project: Path, text: str, said: str
) -> None:
    (project / "runctl.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        projects.load()
    assert said in caught.value.message
    assert TOKEN not in f"{caught.value.message} {caught.value.hint}"


def test_the_list_shows_the_service_and_nothing_else_of_an_address(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "runctl.yaml").write_text(
        f"notices: {{to: [{{env: {NAME}, on: [lost, failed]}}, {{env: OTHER_URL}}]}}\n"
    )
    monkeypatch.setenv(NAME, f"slack://{TOKEN}/{TOKEN}")
    done = runctl("notices")
    assert done.returncode == 0
    assert "slack://***" in done.stdout
    assert "failed, lost" in done.stdout
    assert "not set here" in done.stdout
    assert TOKEN not in done.stdout + done.stderr


def test_a_test_says_of_each_service_what_arrived(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "runctl.yaml").write_text(f"notices: {{to: [{{env: {NAME}, on: [lost]}}, {{env: OTHER_URL}}]}}\n")
    with service() as one, service(code=500) as broken:
        monkeypatch.setenv(NAME, one.address)
        monkeypatch.setenv("OTHER_URL", broken.address)
        done = runctl("notices", "test", "--json")
        assert one.titles() == ["runctl: a test"]
        (project / "runctl.yaml").write_text(f"notices: {{to: [{{env: {NAME}}}]}}\n")
        assert runctl("notices", "test").returncode == 0
    assert done.returncode == 5
    first, second = json.loads(done.stdout)["notices"]
    assert (first["sent"], second["sent"]) == (True, False)
    assert "500" in second["why"]
    assert TOKEN not in done.stdout + done.stderr


def test_a_service_that_never_answers_holds_up_no_other(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "runctl.yaml").write_text(f"notices: {{to: [{{env: {NAME}}}, {{env: OTHER_URL}}]}}\n")
    with service(seconds=8) as slow, service() as other:
        monkeypatch.setenv(NAME, slow.address)
        monkeypatch.setenv("OTHER_URL", other.address)
        asking = subprocess.Popen([sys.executable, "-m", "runctl", "notices", "test"], stdout=subprocess.DEVNULL)
        other.wait(lambda titles: titles == ["runctl: a test"])
        assert asking.poll() is None  # it still waits for the first
        asking.kill()
        asking.wait()


def test_a_launch_says_that_nobody_will_be_told_and_keeps_only_the_name(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "a.yaml").write_text("name: a\ntask: command\ncommand: {argv: [python3, -c, 'print(1)']}\n")
    monkeypatch.delenv(NAME, raising=False)
    done = runctl("launch", "a.yaml", "--dry-run")
    assert f"nobody is told by {NAME}: it is not set here" in done.stderr + done.stdout
    monkeypatch.setenv(NAME, f"json://127.0.0.1:9/{TOKEN}")
    monkeypatch.setenv("RUNCTL_TEST_NOTICE_WAITS", "0")
    assert runctl("launch", "a.yaml").returncode == 0
    run = record.RunDir(project / "runs" / "a")
    assert record.read_object(run.run)["notices"] == [{"env": NAME, "on": list(targets.KINDS)}]
    until_told(run, 1)
    assert TOKEN not in "".join(path.read_text(errors="replace") for path in run.path.rglob("*") if path.is_file())


def test_what_is_sent_of_a_failure_hides_the_secrets_in_its_reason(project: Path) -> None:
    run = make(project)
    row = {"reason": "exit 1: login failed with hf_AbCdEfGhIjKlMnOpQrStUv1234\x1b[2J", "step": 3}
    notice = words.compose(run, 1, "failed", row)
    assert "login failed with *****" in notice.body
    assert "hf_Ab" not in notice.body
    assert "\x1b" not in notice.body
    assert send.hide(f"cannot reach 127.0.0.1/{TOKEN}", f"json://127.0.0.1/{TOKEN}") == "cannot reach ***/***"
