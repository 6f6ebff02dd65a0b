"""What goes wrong between a launcher and Modal: nothing may run, or be lost, without anybody knowing of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("modal", reason="the modal extra is not installed: pip install 'runctl[modal]'")

from modal_scene import WAITING, Scene, until
from plane import Plane, state_name

# Every RPC of a launch, in about its order.
STEPS = (
    "ClientHello", "SecretGetOrCreate", "VolumeGetOrCreate", "VolumeGetFile2", "MountPutFile", "VolumePutFiles",
    "AppCreate", "EnvironmentGetOrCreate", "FunctionPrecreate", "MountGetOrCreate", "MountBatchedCheckExistence",
    "ImageGetOrCreate", "ImageJoinStreaming", "FunctionCreate", "AppPublish", "FunctionMap", "AppClientDisconnect",
)  # fmt: skip
STREAMS = ("ImageJoinStreaming",)  # their answers are not lost as a whole
SLOW = 60.0


@pytest.fixture(scope="module")
def planes() -> Iterator[Plane]:
    with Plane(grace=5.0, queue=float("inf")) as running:
        yield running


@pytest.fixture
def plane(planes: Plane) -> Iterator[Plane]:
    """A plane as new, but for what it has seen."""
    planes.faults.armed.clear()
    planes.ledger.seen.clear()
    yield planes
    planes.faults.armed.clear()


@pytest.fixture
def scene(plane: Plane, tmp_path: Path) -> Iterator[Scene]:
    """A project whose volume no other test uses."""
    made = Scene(plane, tmp_path / "one")
    made.settings(f"{{volume: v-{time.monotonic_ns()}}}")
    before = set(plane.world.apps)
    made.before = before  # type: ignore[attr-defined]
    yield made
    made.end()
    for app in [one for one in plane.world.apps.values() if one.id not in before]:
        plane._do(plane.apps.stop(app, "the test"))


def mine(scene: Scene) -> list[str]:
    """The living apps that this test has made."""
    return [app for app in scene.living() if app not in scene.before]  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("rpc", STEPS)
def test_a_launcher_killed_at_any_step_leaves_nothing_unnoticed(
    scene: Scene, plane: Plane, rpc: str, after: bool
) -> None:
    if after and rpc in STREAMS:
        pytest.skip("a stream has no one answer")
    plane.make_secret("a", PLANE_TEST="b")
    volume = (scene.folder / "runctl.yaml").read_text().split("volume: ")[1].split("}")[0]
    scene.settings(f"{{volume: {volume}, secrets: [a], packages: [nothing==0.{len(plane.world.images)}]}}")
    fault = plane.fail(rpc, "UNAVAILABLE", times=99, after=True) if after else plane.fail(rpc, None, delay=SLOW)
    launcher = scene.begin("launch", scene.config(compute=WAITING), "--no-wait")
    plane.until(lambda: fault.hits, 30, rpc)
    if after:
        time.sleep(0.2)  # it took effect, and the client never hears of it
    launcher.kill()
    launcher.wait()
    plane.faults.armed.clear()
    spawned = rpc == "AppClientDisconnect" or (rpc == "FunctionMap" and after)
    found = scene.status()
    for _ in range(3):  # on a busy machine Modal's own command line may take too long
        found = scene.status() if found["state"] == "stalled" else found
    if spawned:
        assert (found["state"], found["reason"][:16]) == ("queued", "queued for a GPU")
        assert len(mine(scene)) == 1
        assert scene.do("stop", "job", "--yes").code == 0
        assert scene.status()["reason"] == "stopped on request, before it began"
    else:
        assert (found["state"], found["reason"][:26]) == ("failed", "the launch was interrupted")
    assert mine(scene) == []
    again = scene.do("launch", "job.yaml", "--name", "job-again", "--no-wait")
    assert again.code == 0, again


def test_ctrl_c_while_an_image_is_built_takes_everything_back(scene: Scene, plane: Plane) -> None:
    plane.set(image_seconds=30.0)
    try:
        launcher = scene.begin("launch", scene.config(compute=WAITING), "--no-wait")
        plane.until(lambda: plane.ledger.of("ImageJoinStreaming"), 30)
        os.kill(launcher.pid, signal.SIGINT)
        assert launcher.wait(20) == 130
    finally:
        plane.set(image_seconds=0.0)
    assert mine(scene) == []
    assert not (scene.folder / "runs" / "job").exists()
    assert scene.do("launch", "job.yaml", "--no-wait").out == "job\n"


def test_a_call_that_waits_for_its_gpu_says_so_and_is_stopped_at_once(scene: Scene, plane: Plane) -> None:
    launched = scene.do("launch", scene.config(compute=WAITING), "--detach", "--wait-for-start", "3s")
    assert launched.code == 8, launched
    assert "job is queued for a GPU since" in launched.err
    assert "runctl stop job" in launched.err
    stopped = scene.do("stop", "job", "--yes")
    assert stopped.code == 0, stopped
    assert stopped.seconds < 25
    assert mine(scene) == []
    assert scene.do("status", "--state", "stopped", "--quiet").out == "job\n"


def test_without_a_connection_every_command_answers_in_ten_seconds_and_says_what_it_does_not_know(
    scene: Scene, plane: Plane
) -> None:
    assert scene.do("launch", scene.config(compute=WAITING), "--no-wait").code == 0
    assert scene.status()["state"] == "queued"
    plane.unplug()
    try:
        status = scene.do("status", "job", "--json")
        assert status.seconds < 25
        found = status.json["status"]
        assert found["state"] == "stalled"
        assert "cannot be asked: Modal cannot be reached" in found["reason"]
        launched = scene.do("launch", scene.config("other", compute=WAITING), "--no-wait")
        assert (launched.code, launched.seconds < 25) == (5, True), launched
        assert "Modal cannot be reached" in launched.err
        assert not (scene.folder / "runs" / "other").exists()
        stopped = scene.do("stop", "job", "--yes")
        assert stopped.code == 5, stopped
    finally:
        plane.plug()
    assert scene.status()["state"] == "queued"


def test_refusals_are_told_before_anything_is_made(scene: Scene, plane: Plane) -> None:
    wrong = scene.do("launch", scene.config(compute=WAITING), "--no-wait", MODAL_TOKEN_SECRET="as-wrong")
    assert wrong.code == 5
    assert "token" in wrong.err
    unknown = scene.do("launch", scene.config(compute=", gpu: H1000"), "--no-wait")
    assert unknown.code in (1, 2), unknown
    assert "H1000" in unknown.err
    volume = (scene.folder / "runctl.yaml").read_text().split("volume: ")[1].split("}")[0]
    scene.settings(f"{{volume: {volume}, secrets: [nobody-made-this]}}")
    secret = scene.do("launch", scene.config(compute=WAITING), "--no-wait")
    assert secret.code == 5
    assert "Modal has no secret 'nobody-made-this'" in secret.err
    assert plane.ledger.of("AppCreate") == []
    assert not list((scene.folder / "runs").iterdir())


def test_without_modals_client_the_way_to_install_it_is_told(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "modal.py").write_text("raise ImportError('no modal here')\n")
    path = f"{tmp_path / 'hidden'}{os.pathsep}{scene.environment['PYTHONPATH']}"
    failed = scene.do("launch", scene.config(compute=WAITING), "--no-wait", PYTHONPATH=path)
    assert failed.code == 5, failed
    assert "Modal's client is not installed" in failed.err
    assert "[modal]" in failed.err
    assert not list((scene.folder / "runs").iterdir())
    assert scene.do("preflight", "job.yaml", PYTHONPATH=path).code in (0, 1)


def test_an_image_that_cannot_be_built_says_why_and_leaves_no_app(scene: Scene, plane: Plane) -> None:
    plane.fail_image("safetensors", "ERROR: no matching distribution found for safetensors")
    try:
        failed = scene.do("launch", scene.config(compute=WAITING), "--no-wait")
    finally:
        plane.images.failing.clear()
    assert failed.code == 5, failed
    assert "no matching distribution found" in failed.err
    assert mine(scene) == []


def test_a_volume_that_is_gone_and_a_result_that_has_expired_are_said(scene: Scene, plane: Plane) -> None:
    assert scene.do("launch", scene.config(compute=WAITING), "--no-wait").code == 0
    call = plane.world.calls[scene.remote()["call"]]
    plane._do(plane.apps.stop(call.function.app, "somebody"))
    call.expired = True
    found = scene.status()
    assert found["state"] == "failed"
    assert "Modal has no answer of its call any more (expired)" in found["reason"]
    name = scene.remote()["volume"]
    plane.world.volumes = {key: one for key, one in plane.world.volumes.items() if one.name != name}
    resumed = scene.do("resume", "job", "--no-wait")
    assert resumed.code == 5, resumed
    assert f"there is no volume '{name}' on Modal" in resumed.err
    assert scene.status()["state"] == "failed"
    assert not [one for one in plane.world.volumes.values() if one.name == name]


def test_what_nobody_accounts_for_is_found_by_its_tag_and_ended(scene: Scene, plane: Plane, tmp_path: Path) -> None:
    assert scene.do("launch", scene.config(compute=WAITING), "--no-wait").code == 0
    assert scene.do("reconcile").code == 0
    (app,) = mine(scene)
    other = Scene(plane, tmp_path / "two")
    seen = other.do("reconcile", "--json")
    assert seen.code == 1
    assert [row for row in seen.json["strays"] if row["app"] == app] == [
        {"app": app, "run": "job", "why": "no run here has this name", "ended": False}
    ]
    assert mine(scene) == [app]
    assert other.do("reconcile", "--yes").code == 0
    assert mine(scene) == []
    assert scene.status()["state"] == "killed"


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_an_rpc_that_fails_once_anywhere_doubles_nothing(scene: Scene, plane: Plane, after: bool) -> None:
    """Each RPC of a launch and a look fails once, with both of what the service may say; the client tries again."""
    assert scene.do("launch", scene.config("first", compute=WAITING), "--no-wait").code == 0
    names = sorted(set(plane.ledger.names(who="client")) - {"AppHeartbeat"})
    assert set(names) <= set(STEPS), "a launch has a step at which no launcher is killed yet"
    for status in ("UNAVAILABLE", "INTERNAL"):
        for rpc in names:
            plane.fail(rpc, status, after=after)
        plane.ledger.seen.clear()
        made = len(plane.world.calls)
        name = f"again-{status.lower()}"
        launched = scene.do("launch", scene.config(name, compute=WAITING), "--no-wait")
        plane.faults.armed.clear()
        assert launched.code == 0, launched
        assert len(plane.world.calls) == made + 1
        assert scene.status(name)["state"] == "queued"


@pytest.mark.slow
def test_twenty_launches_at_once_are_twenty_runs(scene: Scene, plane: Plane) -> None:
    path = scene.config(compute=WAITING)
    begun = [scene.begin("launch", path, "--no-wait") for _ in range(20)]
    names = set()
    for process in begun:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        names.add(out.strip())
    assert len(names) == 20
    assert len(mine(scene)) == 20
    listed = scene.do("status", "--state", "queued", "--quiet")
    assert set(listed.out.split()) == names
    assert listed.seconds < 20


def test_state_names_are_the_planes(plane: Plane, scene: Scene) -> None:
    assert scene.do("launch", scene.config(compute=WAITING), "--no-wait").code == 0
    (app,) = mine(scene)
    until(lambda: state_name(plane.app(app)) == "DETACHED_DISCONNECTED")
