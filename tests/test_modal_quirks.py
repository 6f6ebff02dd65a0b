"""Services that answer otherwise than another might: fields, RPCs and promises that runctl must not depend on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("modal", reason="the modal extra is not installed: pip install 'runctl[modal]'")

from modal_faults import FOR_GOOD
from modal_scene import WAITING, Scene
from plane import Plane, box
from plane.quirks import Quirks

boxed = pytest.mark.skipif(box.best_way() == "links", reason="no namespaces here: /vol cannot be given to a container")

TERSE = Quirks(
    without=(
        "AppGetTags", "AppSetTags", "AppGetInfo", "FunctionCallFetch", "FunctionCallGetInfo", "FunctionGetCallGraph",
        "AppGetLogs", "AppFetchLogs", "AppCountLogs", "TaskList", "WorkspaceNameLookup", "WorkspaceBillingRates",
        "WorkspaceBillingReport", "DictGetOrCreate", "DictUpdate", "DictGet", "DictPop",
    ),
    omit=(
        "FileEntry.mtime", "AppHandleMetadata.description", "AppCreateResponse.app_page_url",
        "AppCreateResponse.app_logs_url", "AppPublishResponse.url", "AppListItem.created_at", "AppLifecycle.created_by",
        "VolumeMetadata.creation_info",
    ),
    nameless=True,
)  # fmt: skip
VAGUE = Quirks(
    omit=("AppGetTagsResponse.tags", "AppHandleMetadata.lifecycle", "TaskLogsBatch.task_id", "FileEntry.mtime"),
    short_streams=True,
    flat=True,
)
LATE = Quirks(lag=4.0, latency=0.03)
LOOSE = Quirks(overwrites=True, forgets_keys=True, same_machine=True)
EVERY = pytest.mark.parametrize("quirks", [TERSE, VAGUE, LATE, LOOSE], ids=["terse", "vague", "late", "loose"])


@pytest.fixture
def plane() -> Iterator[Plane]:
    with Plane(grace=25.0, queue=float("inf")) as running:
        yield running


@pytest.fixture
def scene(plane: Plane, tmp_path: Path) -> Iterator[Scene]:
    made = Scene(plane, tmp_path / "one")
    yield made
    made.end()


@pytest.mark.parametrize(
    "quirks",
    [
        pytest.param(TERSE, id="terse"),
        pytest.param(VAGUE, id="vague", marks=pytest.mark.slow),
        pytest.param(LOOSE, id="loose", marks=pytest.mark.slow),
    ],
)
def test_a_run_is_launched_once_found_and_stopped_whatever_the_service_leaves_out(
    scene: Scene, plane: Plane, tmp_path: Path, quirks: Quirks
) -> None:
    plane.set(quirks=quirks)
    launched = scene.do("launch", scene.config(compute=WAITING), "--no-wait")
    assert (launched.code, launched.out) == (0, "job\n"), launched
    assert scene.status()["state"] == "queued"
    other = Scene(plane, tmp_path / "two")
    taken = other.do("launch", other.config(compute=WAITING), "--no-wait")
    assert taken.code == 2, taken
    assert "'job' is taken on the volume 'runctl'" in taken.err
    seen = other.do("reconcile", "--json")
    assert [(row["app"], row["run"]) for row in seen.json["strays"]] == [(scene.remote()["app"], "job")]
    stopped = scene.do("stop", "job", "--yes")
    assert stopped.code == 0, stopped
    assert scene.status()["reason"] == "stopped on request, before it began"
    assert scene.living() == []


def test_a_call_that_nobody_can_be_asked_about_is_a_stray_that_can_be_ended(scene: Scene, plane: Plane) -> None:
    plane.set(quirks=TERSE)
    fault = plane.fail("FunctionMap", "UNAVAILABLE", times=99, after=True)
    launcher = scene.begin("launch", scene.config(compute=WAITING), "--no-wait")
    plane.until(lambda: fault.hits, 30)
    launcher.kill()
    launcher.wait()
    plane.faults.armed.clear()
    found = scene.status()
    assert found["state"] == "stalled"
    assert "runctl reconcile" in found["reason"]
    (stray,) = scene.do("reconcile", "--json").json["strays"]
    assert (stray["app"], stray["run"]) == (plane.app().id, "job")
    assert scene.do("reconcile", "--yes").code == 0
    assert scene.living() == []
    assert scene.status()["state"] == "failed"


@boxed
@pytest.mark.slow
@EVERY
def test_a_run_is_trained_interrupted_finished_and_pulled_whatever_the_service_leaves_out(
    scene: Scene, plane: Plane, tmp_path: Path, quirks: Quirks
) -> None:
    plane.set(quirks=quirks)
    launcher = scene.begin("launch", scene.config(steps=300, every=20), "--detach")
    plane.until(lambda: plane.world.volumes, 30)
    scene.beyond(20)
    plane.preempt()
    plane.until(lambda: len(plane.call().tasks) == 2, 20)
    _, err = launcher.communicate(timeout=60)
    assert launcher.returncode == 0, err
    assert scene.do("wait", "job", seconds=120).code == 0
    found = scene.status()
    assert (found["state"], found["step"], found["checkpoint_step"], found["attempt"]) == ("succeeded", 300, 300, 2)
    assert scene.living() == []
    other = Scene(plane, tmp_path / "two")
    assert other.do("attach", "job").code == 0
    assert other.status()["state"] == "succeeded"
    pulled = other.do("pull", "job", "out", "--checkpoint", "latest")
    assert pulled.code == 0, pulled
    assert (other.folder / "out" / "job" / "checkpoints" / "step-000000300" / "model.safetensors").exists()
    assert "succeeded at step 300" in scene.do("logs", "job").out
    assert "resumed from step" in other.do("logs", "job", "--raw").out
    assert plane.ledger.effective("FunctionMap") == 1


@boxed
@pytest.mark.slow
@pytest.mark.parametrize("quirks", [TERSE, VAGUE], ids=["terse", "vague"])
def test_a_running_run_is_followed_and_stopped_with_a_checkpoint_whatever_the_service_leaves_out(
    scene: Scene, plane: Plane, quirks: Quirks
) -> None:
    plane.set(quirks=quirks)
    launched = scene.do("launch", scene.config(steps=100000, every=1000), "--detach")
    assert launched.code == 0, launched
    following = scene.begin("logs", "job", "-f", "--raw")
    stopped = scene.do("stop", "job", "--yes", seconds=200)
    assert stopped.code == 0, stopped
    _, err = following.communicate(timeout=60)
    assert following.returncode == 0, err
    assert "job has ended: stopped" in err
    found = scene.status()
    assert (found["state"], found["checkpoint_step"] > 1) == ("stopped", True)
    assert scene.living() == []


@boxed
@pytest.mark.slow
def test_a_killed_launch_is_found_again_by_what_its_container_wrote_down(scene: Scene, plane: Plane) -> None:
    plane.set(quirks=TERSE)
    fault = plane.fail("FunctionMap", "UNAVAILABLE", times=99, after=True)
    launcher = scene.begin("launch", scene.config(steps=100000, every=20), "--no-wait")
    plane.until(lambda: fault.hits, 30)
    launcher.kill()
    launcher.wait()
    plane.faults.armed.clear()
    scene.beyond(20)
    assert scene.status()["state"] == "running"
    assert scene.remote()["call"] == plane.call().id
    assert scene.do("stop", "job", "--yes", seconds=200).code == 0
    assert scene.living() == []


@boxed
@pytest.mark.slow
def test_a_container_whose_answer_never_comes_is_not_paid_for_until_its_timeout(scene: Scene, plane: Plane) -> None:
    plane.fail("FunctionPutOutputs", "UNAVAILABLE", times=FOR_GOOD, who="container")
    assert scene.do("launch", scene.config(steps=10), "--no-wait").code == 0
    done = scene.do("wait", "job", seconds=150)
    assert done.code == 0, done
    assert scene.status()["state"] == "succeeded"
    assert scene.living() == []
    plane.until(lambda: plane.call().task is None, 60)
    assert json.loads(scene.files()["runs/job/summary.json"])["state"] == "succeeded"
