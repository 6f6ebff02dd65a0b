"""What the plane does to a launch and a container: retry, preemption, kill, timeout, cancellation, a lost answer."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("modal", reason="the modal extra is not installed: pip install 'runctl[modal]'")

from plane import Plane, state_name
from plane.clients import Clients, launch

pytest_plugins = ["plane.fixtures"]


def test_a_failure_is_retried_as_often_as_was_asked_and_no_more(clients: Clients, plane: Plane, mount: str) -> None:
    ids = launch(clients, plane, mount, "fail", spec={"times": 9}, options={"retries": 1})
    got = clients.do(plane, "get", call=ids["call"], timeout=30, environment={"MODAL_PAYLOAD_FORMAT": "cbor"})
    assert len(plane.call().tasks) == 2
    assert [task.retry for task in plane.call().tasks] == [0, 1]
    assert got["raised"] == "builtins.RuntimeError"  # the input was pickled, so the exception is too
    assert "attempt 2 went wrong" in got["text"]


def test_a_preempted_container_may_save_and_the_same_call_goes_on(clients: Clients, plane: Plane, mount: str) -> None:
    ids = launch(clients, plane, mount, "count", spec={"to": 60})
    plane.running()
    plane.until(lambda: "attempt 1" in plane.log())
    time.sleep(0.2)
    plane.preempt()
    got = clients.do(plane, "get", call=ids["call"], timeout=30)["result"]
    assert got["attempt"] == 2
    assert got["started_at"] > 0
    assert (plane.call().tasks[0].ended_how, plane.call().tasks[0].retry) == ("preempted", 0)
    assert plane.call().retry == 0  # a preemption is not a retry
    assert b"KeyboardInterrupt" in plane.files("runs")["count.json"]


def test_a_kill_loses_what_was_not_committed_and_leaves_no_process(clients: Clients, plane: Plane, mount: str) -> None:
    launch(clients, plane, mount, "hang")
    plane.running()
    child = plane.until(lambda: [line for line in plane.log().splitlines() if line.startswith("child ")], 10)[0]
    plane.kill(how="oom")
    plane.until(lambda: len(plane.call().tasks) == 2, 10)
    assert plane.call().tasks[0].ended_how == "oom"
    assert list(plane.files("runs")) == ["attempts/1"]
    assert not _lives(int(child.split()[1]))


def test_background_commits_carry_over_what_nobody_committed(clients: Clients, plane: Plane, mount: str) -> None:
    plane.set(background_commit=0.1)
    launch(clients, plane, mount, "hang")
    plane.until(lambda: "lost.txt" in plane.files("runs") if plane.world.calls else False, 10)


@pytest.mark.parametrize("interrupt_all", [False, True])
def test_after_the_grace_of_a_preemption_all_is_killed(
    clients: Clients, plane: Plane, mount: str, interrupt_all: bool
) -> None:
    plane.set(interrupt_all=interrupt_all)
    launch(clients, plane, mount, "hang")
    plane.running()
    plane.until(lambda: "child" in plane.log())
    start = time.monotonic()
    plane.preempt()
    assert time.monotonic() - start >= 0.6
    plane.until(lambda: plane.call().tasks[0].ended_how == "preempted")
    assert ("KeyboardInterrupt" in plane.log()) == interrupt_all  # of the child: the program itself ignores it


def test_a_container_that_crashes_again_and_again_is_given_up(clients: Clients, plane: Plane, mount: str) -> None:
    plane.set(crash_limit=1)
    ids = launch(clients, plane, mount, "hang", options={"retries": 5})
    plane.running()
    plane.kill()
    got = clients.do(plane, "get", call=ids["call"], timeout=10)
    assert "Internal" in got["raised"] or "crashed" in got["text"]
    assert plane.calls.state(plane.call()) == "INTERNAL_FAILURE"


def test_each_attempt_has_its_own_timeout(clients: Clients, plane: Plane, mount: str) -> None:
    ids = launch(clients, plane, mount, "hang", options={"timeout": 20, "retries": 1})  # 0.4 s here
    got = clients.do(plane, "get", call=ids["call"], timeout=20)
    assert got["raised"] == "modal.exception.FunctionTimeoutError"
    assert [task.ended_how for task in plane.call().tasks] == ["timeout", "timeout"]


def test_a_cancelled_call_may_save_and_ends_terminated(clients: Clients, plane: Plane, mount: str) -> None:
    ids = launch(clients, plane, mount, "count", spec={"to": 10000}, options={"retries": 3})
    plane.running()
    plane.until(lambda: "attempt 1" in plane.log())
    clients.do(plane, "cancel", call=ids["call"])
    got = clients.do(plane, "get", call=ids["call"], timeout=10)
    assert got == {"raised": "modal.exception.RemoteError", "text": ""}
    assert b"InputCancellation" in plane.files("runs")["count.json"]
    plane.until(lambda: plane.call().task is None)
    assert len(plane.call().tasks) == 1


def test_a_cancellation_by_force_gives_no_time_to_save(clients: Clients, plane: Plane, mount: str) -> None:
    ids = launch(clients, plane, mount, "count", spec={"to": 10000}, options={"retries": 3})
    plane.running()
    plane.until(lambda: "attempt 1" in plane.log())
    clients.do(plane, "cancel", call=ids["call"], terminate=True)
    assert clients.do(plane, "get", call=ids["call"], timeout=5)["raised"] == "modal.exception.RemoteError"
    plane.until(lambda: plane.call().task is None)
    assert [task.ended_how for task in plane.call().tasks] == ["terminated"]
    assert "count.json" not in plane.files("runs")


def test_a_commit_that_the_service_fails_once_is_repeated(clients: Clients, plane: Plane, mount: str) -> None:
    fault = plane.fail("VolumeCommit", "UNAVAILABLE", who="container")
    ids = launch(clients, plane, mount, "answer")
    assert clients.do(plane, "get", call=ids["call"], timeout=20)["result"]["attempt"] == 1
    assert fault.hits == 1


def test_stopping_an_app_ends_its_container_and_its_call(clients: Clients, plane: Plane, mount: str) -> None:
    ids = launch(clients, plane, mount, "count", spec={"to": 10000})
    plane.running()
    plane.until(lambda: "attempt 1" in plane.log())
    clients.do(plane, "stop", app=ids["app"])
    plane.until(lambda: plane.call().task is None)
    assert state_name(plane.app()) == "STOPPED"
    assert plane.calls.state(plane.call()) == "TERMINATED"
    assert b"KeyboardInterrupt" in plane.files("runs")["count.json"]


@pytest.mark.parametrize("after", [False, True])
def test_an_answer_that_is_lost_spawns_nothing_twice(clients: Clients, plane: Plane, mount: str, after: bool) -> None:
    for rpc in ("AppCreate", "FunctionCreate", "FunctionMap"):
        plane.fail(rpc, "UNAVAILABLE", after=after)
    launch(clients, plane, mount, "answer")
    assert len(plane.ledger.of("FunctionMap")) == 2
    assert plane.ledger.effective("FunctionMap") == 1
    assert len(plane.world.calls) == len(plane.world.apps) == 1


def test_a_client_killed_before_the_call_leaves_a_live_app_and_no_call(
    clients: Clients, plane: Plane, mount: str
) -> None:
    plane.fail("FunctionMap", None, delay=5)
    client = clients.start(
        plane, "launch", spec={"do": "answer", "volume": "runs"}, mount=mount, options={"timeout": 60}
    )
    plane.until(client.lines, 10)
    plane.until(lambda: plane.ledger.of("FunctionMap"), 10)
    client.kill()
    assert state_name(plane.app()) == "DETACHED"
    assert plane.app().tags == {"kind": "test"}
    assert not plane.app().disconnected
    assert plane.world.calls == {}


@pytest.mark.parametrize("status", ["UNAVAILABLE", "INTERNAL"])
def test_a_launch_survives_every_rpc_failing_once(clients: Clients, plane: Plane, mount: str, status: str) -> None:
    launch(clients, plane, mount, "answer")
    names = sorted(set(plane.ledger.names(who="client")))
    assert len(names) >= 14
    faults = [plane.fail(name, status) for name in names]
    launch(clients, plane, mount, "answer")
    assert [fault.rpc for fault in faults if not fault.hits] in (
        [],
        ["ImageJoinStreaming", "MountPutFile"],
    )  # built, there
    failed = {seen.rpc for seen in plane.ledger.seen if seen.outcome == status}
    assert failed == {fault.rpc for fault in faults if fault.hits}
    assert len(plane.world.calls) == len(plane.world.apps) == 2


def test_a_service_that_cannot_be_reached_refuses_connections_until_it_can(clients: Clients, plane: Plane) -> None:
    plane.unplug()
    client = clients.start(plane, "hello")
    time.sleep(0.5)
    assert not client.done()  # the client alone goes on for about a minute
    plane.plug()
    assert client.wait() == 0


def _lives(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False
