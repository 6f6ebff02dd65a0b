"""What only Modal itself can answer. Nothing runs here unless RUNCTL_LIVE_MODAL=1 is set, on a machine with a token:

    RUNCTL_LIVE_MODAL=1 python -m pytest -n0 -s tests/live

Two short runs on a T4 through runctl's own commands, and a few containers without a GPU: about two minutes of GPU, some
cents, and the time that the image takes to build once. Each open question of docs/modal.md has a test. Where runctl
lives with either answer, the test fails only if neither came; the answers are printed, and kept as JSON in
`live-modal-answers.json` (or $RUNCTL_LIVE_ANSWERS). RUNCTL_LIVE_GPU= (empty) takes no GPU.

Everything is made in the volume `runctl-live` and the workspace's default environment; apps are stopped at the end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

if os.environ.get("RUNCTL_LIVE_MODAL") != "1":
    pytest.skip("asks Modal itself, for some cents: set RUNCTL_LIVE_MODAL=1", allow_module_level=True)
modal = pytest.importorskip("modal", reason="the modal extra is not installed: pip install 'runctl[modal]'")

import live_functions  # noqa: E402 - it needs modal, too

GPU = os.environ.get("RUNCTL_LIVE_GPU", "T4")
VOLUME = "runctl-live"
MARK = uuid.uuid4().hex[:6]
PROJECT = f"modal: {{volume: {VOLUME}, kernels: false, tags: {{runctl-live: '{MARK}'}}}}\n"
CONFIG = """\
name: live
data: {{simulate: {{games: 12, seconds: 20}}}}
model: {{d_model: 32, n_layers: 1}}
training: {{steps: {steps}, batch_size: 32, seed: 1, log_every: 20, validate_every: 100 steps, validation_windows: 64}}
checkpoint: {{every: 5s}}
compute: {{backend: modal, {gpu}cpu: 2, memory: 4GiB, timeout: 10m, retries: {retries}}}
budget: {{max_cost_usd: 0.2, max_hours: 0.3}}
"""
_ANSWERS: dict[str, Any] = {}


@pytest.fixture(scope="module", autouse=True)
def answers() -> Iterator[dict[str, Any]]:
    yield _ANSWERS
    _ANSWERS["asked"] = {"date": time.strftime("%Y-%m-%d"), "modal": modal.__version__, "gpu": GPU}
    text = json.dumps(_ANSWERS, indent=2, sort_keys=True)
    Path(os.environ.get("RUNCTL_LIVE_ANSWERS", "live-modal-answers.json")).write_text(text + "\n")
    print(f"\n{text}")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "runctl.yaml").write_text(PROJECT)
    yield tmp_path
    for run in (tmp_path / "runs").glob("*"):
        runctl(tmp_path, "stop", run.name, "--yes", code=None)


def runctl(project: Path, *words: str, code: int | None = 0, seconds: float = 1800) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runctl", *words]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=seconds, check=False)
    assert code is None or done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def launched(project: Path, *, steps: int, retries: int = 0) -> str:
    """A run of which step 1 has run; its name."""
    name = f"live-{MARK}-{uuid.uuid4().hex[:4]}"
    gpu = f"gpu: {GPU}, " if GPU else ""
    (project / "live.yaml").write_text(CONFIG.format(steps=steps, gpu=gpu, retries=retries))
    runctl(project, "launch", "live.yaml", "--name", name, "--detach", "--yes", "--wait-for-start", "25m")
    return name


def status(project: Path, run: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(runctl(project, "status", run, "--json", code=None).stdout)
    return dict(said.get("status") or said["run"])


def until(what: str, true: Callable[[], Any], seconds: float = 300.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
        time.sleep(3.0)
    return found


# --- through runctl --------------------------------------------------------------------------------------------------


def test_the_token_is_taken_and_asking_makes_nothing(project: Path) -> None:
    (project / "live.yaml").write_text(CONFIG.format(steps=100, gpu="", retries=0))
    said = runctl(project, "preflight", "live.yaml", "--online", "--json", code=None)
    assert "EN107" not in json.dumps(json.loads(said.stdout).get("findings", []))


def test_a_run_outlives_its_launcher_is_seen_from_elsewhere_and_comes_home(project: Path, tmp_path: Path) -> None:
    """Detached apps live on; what the container commits is seen from outside; another machine needs only the name."""
    name = launched(project, steps=1500)
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "runctl.yaml").write_text(PROJECT)
    runctl(other, "attach", name)
    runctl(other, "wait", name, "--timeout", "15m")
    assert status(other, name)["state"] == "succeeded"
    assert status(project, name)["state"] == "succeeded"
    runctl(project, "pull", name, str(tmp_path / "home"))
    assert list((tmp_path / "home").rglob("model.safetensors"))
    seen = next((project / "runs" / name / "attempts").glob("*/container.json"))
    _ANSWERS["given GPU"] = json.loads(seen.read_text()).get("gpus")
    assert "step" in runctl(other, "logs", name).stdout


def test_a_stopped_run_saves_first(project: Path) -> None:
    """Question: the answer of a cancelled call, and the grace after a cancellation."""
    name = launched(project, steps=60_000)
    begun = time.monotonic()
    runctl(project, "stop", name, "--yes")
    _ANSWERS["seconds from runctl stop to the end"] = round(time.monotonic() - begun, 1)
    found = status(project, name)
    assert found["state"] == "stopped"
    assert found["checkpoint_step"], "no checkpoint was saved within the grace"


def test_a_container_that_is_taken_away_is_followed_by_another_or_said_to_be_gone(project: Path) -> None:
    """Question: does a preemption use up a retry? There is none to use up here (`retries: 0`)."""
    name = launched(project, steps=60_000)
    record = next((project / "runs" / name / "attempts").glob("*/container.json"))
    container = json.loads(record.read_text())["container"]
    command = [sys.executable, "-m", "modal", "container", "stop", container, "-y"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        pytest.skip(f"modal container stop: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
    told = until("the run goes on or ends", lambda: _after(project, name), 600)
    _ANSWERS["a container that is stopped, without retries"] = told
    assert told in ("goes on in another container", "ends")


def _after(project: Path, name: str) -> str:
    found = status(project, name)
    if found["state"] in ("failed", "stopped", "killed"):
        return "ends"
    if found["state"] == "succeeded":
        return "is left alone"
    return "goes on in another container" if found["attempt"] > 1 and found["state"] == "running" else ""


def test_nothing_of_this_test_is_left_running(project: Path) -> None:
    said = runctl(project, "reconcile", "--json", code=None)
    assert said.returncode in (0, 1), said.stdout + said.stderr
    left = [row for row in json.loads(said.stdout)["strays"] if MARK in str(row)]
    assert left == []


def test_rates_are_told_by_names_that_are_known_and_memory_has_a_price(project: Path) -> None:
    """Question: the names of the rates, and the price of memory."""
    runctl(project, "gpus", "--live")
    kept = json.loads((project / ".runctl" / "prices" / "modal.json").read_text())["usd_per_hour"]
    _ANSWERS["rates"] = kept
    assert {"T4", "H100", "A100-80GB"} <= kept.keys()
    assert "gib_hour" in kept, "the price of memory has another name"


# --- what runctl keeps from happening, asked of the client -----------------------------------------------------------


@pytest.fixture(scope="module")
def image() -> Any:
    return modal.Image.debian_slim(python_version="3.12").add_local_python_source("live_functions")


def made(function: Any, image: Any, **more: Any) -> tuple[Any, Any]:
    """A detached app with one function, as runctl makes them."""
    options = {"timeout": 120, "cpu": 0.25, "memory": 256, "single_use_containers": True, "include_source": False}
    app = modal.App(f"runctl-live-{MARK}", tags={"runctl-live": MARK})
    return app, app.function(image=image, **{**options, **more})(function)


def test_a_timeout_below_ten_seconds_is_refused(image: Any) -> None:
    app, _ = made(live_functions.nothing, image, timeout=5)
    try:
        with app.run():
            answer = "taken"
    except modal.exception.Error as error:
        answer = str(error).strip().splitlines()[0]
    _ANSWERS["a timeout of 5 s"] = answer
    assert answer == "taken" or "imeout" in answer


def test_whether_a_detached_app_ends_after_its_last_call(image: Any) -> None:
    app, function = made(live_functions.nothing, image)
    with app.run(detach=True):
        call = function.spawn()
    assert call.get(timeout=180) == "done"
    time.sleep(30)
    state = str(modal.App.lookup(app.app_id).info(refresh=True).lifecycle.state)
    _ANSWERS["a detached app, 30 s after its last call"] = state
    modal.App.lookup(app.app_id).stop()


def test_what_a_cancelled_call_answers_and_how_long_it_may_take(image: Any) -> None:
    volume = modal.Volume.from_name(VOLUME, create_if_missing=True)
    path = f"live/{MARK}-cancel.txt"
    app, function = made(live_functions.linger, image, volumes={"/vol": volume})
    with app.run(detach=True):
        call = function.spawn(VOLUME, path)
    until("the function has begun", lambda: _there(volume, path), 180)
    call.cancel()
    until("the call is over", lambda: _over(call), 120)
    time.sleep(60)
    lines = b"".join(volume.read_file(path)).decode().splitlines()
    _ANSWERS["a cancelled call"] = {"answer": _over(call), "seconds it went on": len(lines) - 1, "saw": lines[1:2]}
    modal.App.lookup(app.app_id).stop()
    assert len(lines) > 1, "the function never saw its cancellation"


def _there(volume: Any, path: str) -> bool:
    try:
        return bool(b"".join(volume.read_file(path)))
    except FileNotFoundError:
        return False


def _over(call: Any) -> str:
    try:
        return f"returned {call.get(timeout=0)!r}"
    except TimeoutError:
        return ""
    except Exception as error:
        return f"{type(error).__module__}.{type(error).__name__}: {error}"


def test_symbolic_links_on_a_volume_of_version_2(image: Any) -> None:
    volume = modal.Volume.from_name(f"{VOLUME}-v2", create_if_missing=True, version=2)
    app, function = made(live_functions.link, image, volumes={"/vol": volume})
    with app.run(detach=True):
        call = function.spawn(f"{VOLUME}-v2", f"live-{MARK}")
    _ANSWERS["a symbolic link on a volume of version 2"] = {
        "in the container": call.get(timeout=180),
        "outside": [entry.type.name for entry in volume.listdir(f"live-{MARK}") if entry.path.endswith("link")],
    }
    modal.App.lookup(app.app_id).stop()


def test_how_long_logs_are_kept() -> None:
    pytest.skip(
        "takes longer than any test: compare `runctl logs RUN` with `modal app logs` after the plan's retention"
    )
