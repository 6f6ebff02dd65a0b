"""The unmodified modal client against the loopback control plane: what the tests of the Modal backend stand on."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("modal", reason="the modal extra is not installed: pip install 'runctl[modal]'")

from plane import Plane, boot, box
from plane.clients import Clients, launch

pytest_plugins = ["plane.fixtures"]

SECRET = "hush-7f3a91-do-not-tell"


def test_a_wrong_token_is_refused_and_a_right_one_is_not(clients: Clients, plane: Plane) -> None:
    assert clients.do(plane, "hello") == {"hello": True}
    wrong = clients.start(plane, "hello", environment={"MODAL_TOKEN_SECRET": "as-wrong"})
    assert wrong.wait() == 1
    assert "AuthError" in wrong.error()
    assert [seen.outcome for seen in plane.ledger.of("ClientHello")] == ["OK", "UNAUTHENTICATED"]


@pytest.mark.parametrize("version", [1, 2])
def test_a_volume_gives_back_what_was_put_into_it(clients: Clients, plane: Plane, tmp_path: Path, version: int) -> None:
    data = tmp_path / "data"
    (data / "deep").mkdir(parents=True)
    (data / "small.txt").write_text("small")
    (data / "zeros.bin").write_bytes(b"x" + bytes(1000))
    (data / "deep" / "big.bin").write_bytes(os.urandom(9 * 1024 * 1024))  # more than one block, and a blob in version 1
    done = clients.do(plane, "volume", name="v", version=version, local=str(data))
    assert done["listed"] == {"data/small.txt": 5, "data/zeros.bin": 1001, "data/deep/big.bin": 9 * 1024 * 1024}
    assert done["same"]
    assert sorted(done["left"]) == ["data/deep", "data/zeros.bin"]
    assert "VolumePutFiles2" in plane.ledger.names() if version == 2 else "VolumePutFiles" in plane.ledger.names()


def test_a_call_runs_with_its_secret_and_its_volume_and_outlives_the_client(
    clients: Clients, plane: Plane, mount: str
) -> None:
    plane.make_secret("mine", PLANE_TEST_SECRET=SECRET)
    ids = launch(clients, plane, mount, "answer", secrets=["mine"], options={"retries": 2, "timeout": 7200})
    got = clients.do(plane, "get", call=ids["call"], timeout=20)["result"]
    assert got["attempt"] == 1
    assert got["secret_is_here"]
    assert got["seen"] == ["answer.txt", "attempts"]
    plane.until(lambda: plane.call().task is None)  # the result may be read before the commit at the container's end
    assert plane.files("runs")["answer.txt"] == b"42"
    created = plane.ledger.of("FunctionCreate")[0].fields()["function"]
    assert created["timeout_secs"] == 7200
    assert created["retry_policy"]["retries"] == 2
    assert created["single_use_containers"]
    assert created["resources"] == {"memory_mb": 1024, "milli_cpu": 2000, "gpu_config": {}}
    assert [line for recipe in map(plane.images.recipe, plane.world.images) for line in recipe if "numpy" in line]
    assert plane.leaks(SECRET) == []
    assert not Path("/vol").exists()  # the mount was the container's alone


def test_logs_come_by_tail_by_time_and_as_a_stream_that_ends(clients: Clients, plane: Plane, mount: str) -> None:
    ids = launch(clients, plane, mount, "answer")
    plane.until(lambda: plane.call().result and not plane.call().task)
    said = clients.do(plane, "logs", call=ids["call"])
    hello, wrong = "attempt 1 says hello\n", "and this is an error line\n"
    assert sorted(said["tail"][:2]) == [wrong, hello]
    assert said["fetch"] == [hello]
    assert sorted(said["stream"]) == sorted(said["tail"])
    assert {"stdout", "stderr"} <= set(said["sources"])
    assert plane.call().tasks[0].id in said["context"]


def test_another_process_attaches_by_id(clients: Clients, plane: Plane, mount: str) -> None:
    ids = launch(clients, plane, mount, "answer", tags={"run": "one", "config": "abc"})
    plane.until(lambda: plane.call().result and not plane.call().task)
    seen = clients.do(plane, "attach", app=ids["app"], call=ids["call"])
    assert seen["tags"] == {"run": "one", "config": "abc"}
    assert seen["functions"] == ["main"]
    assert seen["graph"] == ["SUCCESS"]
    assert "DETACHED" in seen["state"]


def test_with_cbor_a_failure_is_text(clients: Clients, plane: Plane, mount: str) -> None:
    plain = {"MODAL_PAYLOAD_FORMAT": "cbor"}
    ids = launch(clients, plane, mount, "fail", spec={"times": 9}, environment=plain)
    got = clients.do(plane, "get", call=ids["call"], timeout=20, environment=plain)
    assert got["raised"] == "modal.exception.RemoteError"
    assert "attempt 1 went wrong" in got["text"]


def test_a_call_that_waits_for_its_gpu_is_pending_and_cancelled_at_once(
    clients: Clients, plane: Plane, mount: str
) -> None:
    plane.set(queue=float("inf"))
    ids = launch(clients, plane, mount, "gpu", options={"gpu": "H100:2"})
    assert clients.do(plane, "get", call=ids["call"], timeout=0)["raised"] == "builtins.TimeoutError"
    assert plane.calls.state(plane.call()) == "PENDING"
    clients.do(plane, "cancel", call=ids["call"])
    assert clients.do(plane, "get", call=ids["call"], timeout=5)["raised"] == "modal.exception.RemoteError"
    assert plane.call().tasks == []


def test_a_fallback_gpu_may_be_given_and_an_upgrade_too(clients: Clients, plane: Plane, mount: str) -> None:
    plane.set(busy={"B200"}, upgrade={"H100": "H200"})
    ids = launch(clients, plane, mount, "gpu", options={"gpu": ["B200", "H100:2", "A100-80GB"]})
    got = clients.do(plane, "get", call=ids["call"], timeout=20)["result"]
    assert got["gpus"] == ["NVIDIA H200, 143771 MiB"] * 2
    assert got["threads"] == "2"
    asked = plane.ledger.of("FunctionCreate")[0].fields()["function_data"]["ranked_functions"]
    kinds = [one["function"]["resources"]["gpu_config"]["gpu_type"] for one in asked]
    assert kinds == ["B200", "H100", "A100-80GB"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"options": {"gpu": "H1000"}}, "Unknown GPU type"),
        ({"options": {"gpu": "A10:8"}}, "At most 4 GPUs"),
        ({"options": {"timeout": 5}}, "Timeout must be between"),
        ({"options": {"timeout": 86401}}, "Timeout must be between"),
        ({"options": {"retries": 11}}, "Retries must be"),
        ({"tags": {str(number): "x" for number in range(9)}}, "At most 8 tags"),
        ({"secrets": ["nobody-made-this"]}, "nobody-made-this"),
    ],
)
def test_the_service_refuses_what_the_client_lets_pass(
    clients: Clients, plane: Plane, mount: str, how: dict[str, Any], said: str
) -> None:
    options = {"timeout": 3600, **how.pop("options", {})}
    spec = {"do": "answer", "volume": "runs"}
    client = clients.start(plane, "launch", spec=spec, mount=mount, options=options, **how)
    assert client.wait() == 1
    assert said in client.error()
    assert plane.world.calls == {}


def test_an_expired_result_is_not_a_missing_one(clients: Clients, plane: Plane, mount: str) -> None:
    ids = launch(clients, plane, mount, "answer")
    plane.until(lambda: plane.call().result)
    plane.expire()
    assert clients.do(plane, "get", call=ids["call"], timeout=0)["raised"] == "modal.exception.OutputExpiredError"
    missing = ids["call"][:-3] + "zzz"
    assert clients.do(plane, "get", call=missing, timeout=0)["raised"] == "modal.exception.NotFoundError"


def test_a_failing_image_says_why_and_leaves_a_detached_app(clients: Clients, plane: Plane, mount: str) -> None:
    plane.fail_image("numpy", "ERROR: no matching distribution found for numpy")
    client = clients.start(
        plane, "launch", spec={"do": "answer", "volume": "runs"}, mount=mount, options={"timeout": 60}
    )
    assert client.wait() == 1
    assert "no matching distribution" in client.error()
    assert plane.world.calls == {}


def test_five_launches_at_once_do_not_meet(clients: Clients, plane: Plane, mount: str) -> None:
    if plane.way == "links":
        pytest.skip("without mount namespaces only one container at a time can have a mount path")
    started = [
        clients.start(
            plane,
            "launch",
            spec={"do": "answer", "volume": f"runs-{number}"},
            mount=mount,
            options={"timeout": 3600},
        )
        for number in range(5)
    ]
    assert [client.wait() for client in started] == [0] * 5
    plane.until(lambda: all(call.result and not call.task for call in plane.world.calls.values()), 20)
    assert len(plane.world.calls) == len(plane.world.apps) == 5
    for number in range(5):
        assert len(plane.files(f"runs-{number}")) == 2


def test_modals_own_command_line_lists_the_app_and_the_state_of_its_call(
    clients: Clients, plane: Plane, mount: str
) -> None:
    ids = launch(clients, plane, mount, "hang")
    plane.running()
    calls = clients.start(plane, "cli", words=["function", "calls", ids["function"], "--json"])
    apps = clients.start(plane, "cli", words=["app", "list", "--json"])
    assert calls.wait() == apps.wait() == 0
    (call,) = json.loads(calls.said())
    assert (call["status"], call["function_call_id"], call["container_id"]) == (
        "running",
        ids["call"],
        plane.call().tasks[0].id,
    )
    (app,) = json.loads(apps.said())
    assert ids["app"] in app.values()


def test_another_process_steers_the_plane_over_http(clients: Clients, plane: Plane) -> None:
    def post(verb: str, **given: Any) -> Any:
        address = plane.environment()["PLANE_CONTROL"]
        request = urllib.request.Request(f"{address}/{verb}", json.dumps(given).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=5) as response:
            return json.load(response)["answer"]

    post("fail", rpc="ClientHello", status="UNAUTHENTICATED")
    post("set", queue=3.5)
    assert plane.settings.queue == 3.5
    assert clients.start(plane, "hello").wait() == 1
    assert post("seen") == ["ClientHello"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        post("no-such-verb")
    with refused.value as answer:
        assert "no such control" in json.load(answer)["error"]


@pytest.mark.parametrize("way", ["root", "user", "links"])
def test_each_way_puts_a_volume_at_its_path_for_one_process_only(tmp_path: Path, way: str) -> None:
    tried = subprocess.run([sys.executable, "-S", box.__file__, "--try", way], capture_output=True, check=False)
    if way != "links" and tried.returncode != 0:
        pytest.skip(f"this machine has no {way} namespaces: {tried.stderr.decode().splitlines()[-1]}")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "file").write_text("here")
    (tmp_path / "stage").mkdir()
    (tmp_path / "boot").write_text("another-boot")
    path = tmp_path / "no" / "such" / "vol" if way == "links" else Path("/no-such/vol")
    if way == "links":
        boot.link(tmp_path / "copy", path)
    plan = {
        "way": way,
        "host": "another-host",
        "boot": str(tmp_path / "boot"),
        "mounts": [[str(tmp_path / "copy"), str(path)]],
        "argv": ["sh", "-c", f"cat {path}/file; hostname; cat /proc/sys/kernel/random/boot_id"],
        "cwd": str(tmp_path),
        "stage": str(tmp_path / "stage"),
    }
    said = subprocess.run([sys.executable, "-S", box.__file__, json.dumps(plan)], capture_output=True, check=False)
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text()
    place = f"{socket.gethostname()}\n{boot_id}" if way == "links" else "another-host\nanother-boot"
    assert (said.stdout.decode(), said.stderr) == (f"here{place}", b"")
    assert not Path("/no-such").exists()
    assert list((tmp_path / "stage").iterdir()) == []


def test_a_dictionary_carries_a_message_and_rates_are_told(clients: Clients, plane: Plane) -> None:
    assert clients.do(plane, "talk", name="control") == {
        "got": "please",
        "absent": None,
        "length": 1,
        "popped": "please",
    }
    plane.set(rates={"H100": 3.95})
    assert clients.do(plane, "rates") == {"rates": {"H100": "3.9500"}}
