"""Runs on Modal, end to end: runctl's command line as a process, the unmodified client, a plane on the loopback, and
in its containers the real supervisor and a real small training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("modal", reason="the modal extra is not installed: pip install 'runctl[modal]'")

from modal_scene import SECRET, Scene
from plane import Plane, box

pytestmark = pytest.mark.skipif(
    box.best_way() == "links", reason="no namespaces here: /vol cannot be given to a container"
)


@pytest.fixture
def plane() -> Iterator[Plane]:
    with Plane(grace=25.0) as running:
        yield running


@pytest.fixture
def scene(plane: Plane, tmp_path: Path) -> Iterator[Scene]:
    made = Scene(plane, tmp_path / "one")
    yield made
    made.end()


def test_a_run_is_launched_seen_from_elsewhere_finished_and_pulled(scene: Scene, plane: Plane, tmp_path: Path) -> None:
    plane.make_secret("wandb", WANDB_API_KEY=SECRET)
    scene.settings("{secrets: [wandb], tags: {team: melee}}")
    launched = scene.do("launch", scene.config(steps=60), "--detach", WANDB_API_KEY=SECRET)
    assert (launched.code, launched.out) == (0, "job\n"), launched
    assert "queued for a container" in launched.err

    known = scene.remote()
    other = Scene(plane, tmp_path / "two")
    for word in ("job", known["app"], known["call"]):
        attached = other.do("attach", word)
        assert (attached.code, attached.out) == (0, "job\n"), attached
    assert other.do("wait", "job").code == 0
    assert scene.do("wait", "job").code == 0
    for place in (scene, other):
        found = place.status()
        assert (found["state"], found["step"], found["checkpoint_step"]) == ("succeeded", 60, 60)
    assert scene.living() == []
    assert scene.do("reconcile").code == 0
    (cost,) = scene.remote()["costs"]
    assert (cost["attempt"], cost["usd"] > 0) == (1, True)
    assert "4 cores" in cost["words"]

    pulled = other.do("pull", "job", "out", "--checkpoint", "latest")
    assert (pulled.code, pulled.out) == (0, "out/job\n"), pulled
    there = scene.files()
    for name in ("model.safetensors", "optimizer.safetensors", "manifest.json"):
        inside = f"checkpoints/step-000000060/{name}"
        assert (other.folder / "out" / "job" / inside).read_bytes() == there[f"runs/job/{inside}"]
    assert scene.do("logs", "job").out.count("succeeded at step 60") == 1

    asked = plane.ledger.of("FunctionCreate")[0].fields()["function"]
    assert asked["timeout_secs"] == 1800
    assert asked["retry_policy"]["retries"] == 2
    assert asked["single_use_containers"]
    assert asked["resources"]["milli_cpu"] == 4000
    assert plane.app().tags["runctl.run"] == "job"
    assert plane.app().tags["team"] == "melee"
    assert plane.ledger.effective("FunctionMap") == 1
    assert plane.leaks(SECRET) == []
    assert [name for name, data in scene.files().items() if SECRET.encode() in data] == []

    plane.expire()  # what happens to the answer of a call after a week
    late = Scene(plane, tmp_path / "late")
    assert late.do("attach", "job").code == 0
    assert (late.status()["state"], late.status()["step"]) == ("succeeded", 60)

    again = scene.do("launch", "job.yaml", "--name", "job", "--detach")
    assert again.code == 2
    third = Scene(plane, tmp_path / "three")
    taken = third.do("launch", third.config(), "--detach")
    assert taken.code == 2, taken
    assert "'job' is taken on the volume 'runctl'" in taken.err
    assert not (third.folder / "runs" / "job").exists()
    assert plane.ledger.effective("AppCreate") == 1


def test_a_run_lives_through_preemption_a_kill_a_stop_and_a_resume_from_another_machine(
    scene: Scene, plane: Plane, tmp_path: Path
) -> None:
    launched = scene.do("launch", scene.config(steps=100000, every=20), "--detach")
    assert launched.code == 0, launched

    scene.beyond(20)
    plane.preempt()
    first = scene.exits()[1]
    assert (first["state"], first["failure"]["kind"]) == ("stopped", "preemption")
    plane.until(lambda: len(plane.call().tasks) == 2, 20)
    scene.beyond(first["step"] + 20)
    second = scene.status()
    assert (second["attempt"], second["state"], second["interruptions"]) == (2, "running", 1)
    resumed = json.loads(scene.files()["runs/job/attempts/2/resumed.json"])
    assert resumed["step"] == first["step"], "it had saved where it stood, not at its last checkpoint"

    plane.kill()
    saved = scene.beyond(1)
    plane.until(lambda: len(plane.call().tasks) == 3, 20)
    scene.beyond(saved + 20)
    resumed = json.loads(scene.files()["runs/job/attempts/3/resumed.json"])
    assert resumed["step"] == saved
    lost = scene.exits()[2]
    assert "ended without a word" in lost["reason"]
    assert (lost["failure"]["kind"], lost["seconds"] > 0) == ("infrastructure", True)

    stopped = scene.do("stop", "job", "--yes")
    assert stopped.code == 0, stopped
    assert "has stopped: checkpoint at step" in stopped.err
    assert scene.living() == []
    assert plane.call().result.status == 1, "it answered by itself: nothing was cancelled"
    at = scene.status()
    assert (at["state"], at["reason"][:18]) == ("stopped", "stopped on request")

    other = Scene(plane, tmp_path / "two")
    assert other.do("attach", "job").code == 0
    total = at["step"] + 30
    resumed_there = other.do("resume", "job", "--set", f"training.steps={total}", "--accept-changes", "--no-wait")
    assert resumed_there.code == 0, resumed_there
    assert other.do("wait", "job").code == 0
    assert scene.do("attach", "job").code == 0
    for place in (scene, other):
        found = place.status()
        assert (found["state"], found["step"], found["attempt"]) == ("succeeded", total, 4), found
    assert scene.living() == []
    assert len(plane.world.apps) == 2


@pytest.mark.slow
def test_a_failure_that_another_container_cannot_cure_is_told_and_not_paid_for_twice(
    scene: Scene, plane: Plane
) -> None:
    path = scene.config(steps=40)
    text = (scene.folder / path).read_text().replace("simulate: {games: 3, seconds: 5, seed: 1}", "encoded: data/none")
    (scene.folder / path).write_text(text)
    failed = scene.do("launch", path, "--detach", "--allow", "EN107")
    assert failed.code == 6, failed
    assert "data/none" in failed.err
    assert len(plane.call().tasks) == 1
    assert plane.call().result.status == 1, "the call has its answer, and no exception that Modal would try again"
    found = scene.status()
    assert found["state"] == "failed"
    assert scene.living() == []


@pytest.mark.slow
def test_an_attempt_that_reaches_its_timeout_goes_on_in_the_next_container(scene: Scene, plane: Plane) -> None:
    plane.set(timeout_scale=0.02)
    launched = scene.do("launch", scene.config(steps=100000, every=20, timeout="15m", retries=1), "--detach")
    assert launched.code == 0, launched
    done = scene.do("wait", "job", seconds=120)
    assert done.code == 6
    found = scene.status()
    assert (found["state"], found["attempt"]) == ("failed", 2)
    assert "timed out" in found["reason"]
    resumed = json.loads(scene.files()["runs/job/attempts/2/resumed.json"])
    assert resumed["step"] > 0
    assert [task.ended_how for task in plane.call().tasks] == ["timeout", "timeout"]
    assert scene.living() == []


@pytest.mark.parametrize("whom", ["entrypoint", "everybody"])
@pytest.mark.slow
def test_a_call_that_is_cancelled_from_outside_saves_and_is_called_stopped(
    scene: Scene, plane: Plane, whom: str
) -> None:
    plane.set(interrupt_all=whom == "everybody")
    launched = scene.do("launch", scene.config(steps=100000, every=1000), "--detach")
    assert launched.code == 0, launched
    task = plane.running()
    if whom == "entrypoint":
        plane._do(plane.containers.cancel(plane.call(), terminate=False))
    else:
        plane._do(plane.apps.stop(plane.app(), "somebody"))
        during = scene.status()["state"]
        assert during == "stopping" or task.ended, "Modal calls it over, and its container still saves"
    plane.until(lambda: task.ended, 40)
    found = scene.status()
    assert found["state"] == "stopped"
    assert found["checkpoint_step"], found
    assert scene.living() == []


@pytest.mark.slow
def test_a_pushed_dataset_is_what_the_container_trains_on_and_its_output_is_streamed(
    scene: Scene, plane: Plane
) -> None:
    path = scene.config(steps=40)
    text = (scene.folder / path).read_text()
    made = scene.do("encode", path, "--out", "data/small")
    assert made.code == 0, made
    (scene.folder / path).write_text(text.replace("simulate: {games: 3, seconds: 5, seed: 1}", "encoded: data/small"))
    pushed = scene.do("data", "push", path)
    assert pushed.code == 0, pushed
    launched = scene.do("launch", path, "--no-wait")
    assert (launched.code, launched.out) == (0, "job\n"), launched
    streamed = scene.do("logs", "job", "-f", "--raw")
    assert streamed.code == 0, streamed
    assert "job has ended: succeeded" in streamed.err, streamed
    found = scene.status()
    assert (found["state"], found["step"]) == ("succeeded", 40)
    assert "data/small" in found["data_source"]
    assert "frames.bin" not in " ".join(name for name in scene.files() if name.startswith("runs/"))


@pytest.mark.slow
def test_the_gpu_that_was_given_is_on_record_and_decides_the_price(scene: Scene, plane: Plane) -> None:
    """There is none here, so the trainer ends before its first step, in each container that it is given."""
    plane.set(upgrade={"H100": "H200"}, busy={"B200"})
    gpus = ", gpu: [B200, H100], cpu: 2, memory: 4GiB"
    launched = scene.do("launch", scene.config(compute=gpus, retries=0), "--detach")
    assert launched.code == 6, launched
    asked = plane.ledger.of("FunctionCreate")[0].fields()["function_data"]["ranked_functions"]
    assert [one["function"]["resources"]["gpu_config"]["gpu_type"] for one in asked] == ["B200", "H100"]
    container = json.loads(scene.files()["runs/job/attempts/1/container.json"])
    assert container["gpus"] == ["NVIDIA H200, 143771 MiB"]
    assert scene.status()["state"] == "failed"
    (cost,) = scene.remote()["costs"]
    assert (cost["given"], cost["charged"]) == ("NVIDIA H200", "H100")
