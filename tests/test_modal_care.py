"""What a run on Modal is asked for besides its end: a checkpoint now, room on the volume, and money as it is really
spent. The command line as a process, the unmodified client, a plane on the loopback."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("modal", reason="the modal extra is not installed: pip install 'runctl[modal]'")

from modal_scene import Scene
from plane import Plane, box

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(box.best_way() == "links", reason="no namespaces here: /vol cannot be given to a container"),
]
SPENDER = """
name: job
task: command
command: {{argv: [python3, -c, "import time; time.sleep(600)"]}}
compute: {{backend: modal, gpu: [A10, H100], cpu: 1, memory: 1GiB, timeout: 30m}}
budget: {{max_cost_usd: {usd}}}
"""


@pytest.fixture
def plane(monkeypatch: pytest.MonkeyPatch) -> Iterator[Plane]:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    with Plane(grace=25.0) as running:
        yield running


@pytest.fixture
def scene(plane: Plane, tmp_path: Path) -> Iterator[Scene]:
    made = Scene(plane, tmp_path / "one")
    yield made
    made.end()


def steps(scene: Scene) -> list[int]:
    """The whole checkpoints on the volume."""
    names = [name for name in scene.files() if name.startswith("runs/job/checkpoints/") and "manifest" in name]
    return sorted(int(name.split("/step-")[1].split("/")[0]) for name in names)


def test_a_checkpoint_is_asked_for_and_what_need_not_stay_is_deleted_from_the_volume(
    scene: Scene, plane: Plane, tmp_path: Path
) -> None:
    launched = scene.do("launch", scene.config(steps=100000, every=90000), "--detach")
    assert launched.code == 0, launched
    assert scene.do("checkpoint", "job", "--wait").code == 0
    asked = scene.do("checkpoint", "job", "--wait", "--json")
    assert asked.code == 0, asked
    saved, request = asked.json["checkpoint"], asked.json["asked"]
    assert saved["step"] >= request["step"]
    assert saved["step"] in steps(scene)
    assert saved["verified"].startswith("it is on the volume")
    assert saved["bytes"] > 1000
    running = scene.do("prune", "--keep", "1")
    assert "nothing of it goes: it is running" in running.err
    assert scene.do("stop", "job", "--yes").code == 0

    before = steps(scene)
    assert len(before) == 3, "two that were asked for, and that of the end"
    shown = scene.do("prune", "--keep", "1", "--json")
    assert shown.code == 0, shown
    items = shown.json["items"]
    assert {item["where"] for item in items} == {"modal"}
    assert min(item["bytes"] for item in items) > 1000
    assert steps(scene) == before, "a plan deletes nothing"
    done = scene.do("prune", "--keep", "1", "--yes", "--json")
    assert (done.code, done.json["left"]) == (0, []), done
    gone = {int(item["path"].rpartition("-")[2]) for item in items}
    stay = [step for step in before if step not in gone]
    assert before[-1] in stay, "the newest; besides it only the best"
    assert steps(scene) == stay
    summary = json.loads(scene.files()["runs/job/summary.json"])
    assert [entry["step"] for entry in summary["checkpoints"]] == stay
    assert '"pruned"' in scene.files()["runs/job/events.jsonl"].decode()
    assert scene.do("pull", "job", "out", "--checkpoint", "latest").code == 0

    other = Scene(plane, tmp_path / "two")
    assert other.do("attach", "job").code == 0
    total = scene.status()["step"] + 130
    again = other.do("resume", "job", "--set", f"training.steps={total}", "--accept-changes", "--no-wait")
    assert again.code == 0, again
    refused = scene.do("prune", "--keep", "1", "--yes", "--json")
    if refused.json["items"] or refused.json["left"]:
        assert refused.json["items"] == []
        assert "resumed from another machine" in refused.json["left"][0]["because"]
    assert other.do("wait", "job").code == 0


def test_a_run_that_failed_goes_as_a_whole(scene: Scene) -> None:
    path = scene.config(steps=40, retries=0)
    text = (scene.folder / path).read_text().replace("simulate: {games: 3, seconds: 5, seed: 1}", "encoded: data/none")
    (scene.folder / path).write_text(text)
    assert scene.do("launch", path, "--detach", "--allow", "EN107").code == 6
    assert scene.status()["state"] == "failed"
    shown = scene.do("prune", "--older-than", "0s", "--json")
    assert [(item["kind"], item["where"]) for item in shown.json["items"]] == [("run", "modal")], shown
    done = scene.do("prune", "--older-than", "0s", "--yes")
    assert done.code == 0, done
    assert not [name for name in scene.files() if name.startswith("runs/job/")]
    assert not (scene.folder / "runs" / "job").exists()
    assert scene.do("launch", scene.config(steps=40), "--no-wait").out == "job\n", "its name is free again"


def test_the_ceiling_of_money_goes_by_the_gpu_that_was_given(scene: Scene, plane: Plane) -> None:
    """At the price of the first choice the run could go on for years."""
    plane.set(busy={"A10"})
    (scene.folder / "runctl.yaml").write_text(
        "prices: {modal: {A10: 0.001, H100: 7200, cpu_core_hour: 0.0, gib_hour: 0.0}}\n"
    )
    (scene.folder / "job.yaml").write_text(SPENDER.format(usd=16))
    allowed = [word for rule in ("BU102", "GP105") for word in ("--allow", rule)]
    launched = scene.do("launch", "job.yaml", "--detach", *allowed)
    assert launched.code == 0, launched
    done = scene.do("wait", "job", seconds=90)
    found = scene.status()
    assert (found["state"], done.code) == ("killed", 7), found
    assert "budget.max_cost_usd" in found["reason"]
    container = json.loads(scene.files()["runs/job/attempts/1/container.json"])
    assert container["usd_per_hour"] == pytest.approx(7200)
    assert found["cost_usd"] == pytest.approx(2 * found["total_seconds"], rel=0.01)
    assert scene.remote()["costs"][0]["charged"] == "H100"
    more = ("--set", "compute.gpu=H100:2", "--set", "budget.max_cost_usd=1000")
    refused = scene.do("resume", "job", *more)
    assert refused.code == 4, refused
    assert "its program finds 2 GPUs, 1 before: its batch may be another" in refused.err


def test_a_run_whose_name_begins_with_anothers_is_no_stray(scene: Scene, plane: Plane) -> None:
    plane.set(queue=float("inf"))
    for name in ("job", "job-2"):
        launched = scene.do("launch", scene.config(name, compute=", gpu: H100, cpu: 2, memory: 4GiB"), "--no-wait")
        assert launched.out == f"{name}\n", launched
    assert scene.do("reconcile", "--yes", "--json").json == {"schema_version": 1, "strays": []}
    assert len(scene.living()) == 2
    assert scene.do("stop", "job", "--yes").code == 0
    assert scene.do("stop", "job-2", "--yes").code == 0
