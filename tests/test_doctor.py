"""The doctor: what is fit, what is not, what to do; each fault that it knows is made, and seen."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_runs import alive, in_state, make, pids, supervised, until
from test_filling import small_disk  # noqa: F401 - a fixture
from test_launch import runctl

from runctl import doctor
from runctl.doctor import Check, environment, machine, place, versions

SECRET = "not-for-anyones-eyes-0123456789"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "runctl.yaml").write_text("policy: {}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path


def found(look: Callable[[Path], Iterator[Check]], project: Path) -> dict[str, Check]:
    return {check.name: check for check in look(project)}


def test_a_machine_is_looked_at_whole_and_no_secret_is_shown(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    before = set(project.iterdir())
    done = runctl("doctor", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == (1 if report["counts"]["bad"] else 0)
    assert report["ok"] is (report["counts"]["bad"] == 0)
    names = {check["name"] for check in report["checks"]}
    expected = {"python", "packages", "extras", "versions", "torch", "gpu", "py-spy", "credentials", "folder", "room"}
    expected |= {"file system", "locks", "renames", "flush", "file times", "open files", "clock", "git", "runs"}
    assert expected <= names
    assert {check["state"] for check in report["checks"]} <= set(doctor.STATES)
    assert all(check["advice"] for check in report["checks"] if check["state"] != "ok")
    (keys,) = [check for check in report["checks"] if check["name"] == "credentials"]
    assert "wandb: there" in keys["seen"]
    assert SECRET not in done.stdout + done.stderr
    assert set(project.iterdir()) == before  # what was tried is gone


def test_what_people_read_names_the_fault_and_exits_1(project: Path) -> None:
    (project / "runs").write_text("not a folder")
    script = (
        "from runctl.doctor import environment; environment.LOOKS = ();"
        "import sys; sys.argv = ['runctl', 'doctor']; from runctl.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert "  bad  folder" in done.stdout
    assert "is no folder" in done.stdout
    assert "move it away: the runs are kept there" in " ".join(done.stdout.split())


def test_the_folder_of_the_runs_is_judged(project: Path) -> None:
    runs = project / "runs"
    assert found(place.folder, project)["folder"].state == "ok"  # not there yet
    runs.symlink_to(project / "nowhere")
    assert found(place.folder, project)["folder"].seen.endswith("is a link to nowhere")
    runs.unlink()
    runs.mkdir()
    runs.chmod(0o777)
    assert found(place.folder, project)["folder"].state == "warn"
    runs.chmod(0o700)
    assert found(place.folder, project)["folder"].state == "ok"


def test_a_small_disk_of_memory_is_said_to_be_both(small_disk: Path) -> None:  # noqa: F811
    assert found(place.room, small_disk)["room"].state == "bad"
    seen = found(place.file_system, small_disk)
    assert seen["file system"].state == "warn"
    assert seen["file system"].seen == "tmpfs: memory: gone with the next restart of the machine"
    assert [check.name for check in seen.values() if check.state == "bad"] == []
    (small_disk / "fill").write_bytes(bytes(2_900_000))
    assert "flush" in {check.name for check in found(place.file_system, small_disk).values() if check.state == "bad"}


def test_a_file_system_that_lacks_what_runs_stand_on_is_seen(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "runs").mkdir()
    monkeypatch.setattr(place, "_LOCK", "pass")  # the other process gets its lock in any case
    seen = found(place.file_system, project)
    assert (seen["locks"].state, seen["locks"].seen) == ("bad", "a lock keeps nobody out")

    def refused(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "replace", refused)
    assert found(place.file_system, project)["renames"].state == "bad"
    true_time = time.time
    monkeypatch.setattr(time, "time", lambda: true_time() + 30.0)
    assert found(place.file_system, project)["file times"].seen == "the disk's clock is 30.0 s behind this machine's"
    assert not list((project / "runs").iterdir())


def test_the_kind_of_a_file_system_is_that_of_the_nearest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    at = os.path.realpath(tmp_path)
    escaped = at.replace(" ", "\\040")
    mounts.write_text(f"/dev/a / ext4 rw 0 0\nserver:/x {escaped} nfs4 rw 0 0\nnone {escaped}x tmpfs rw 0 0\nbroken\n")
    assert place.kind_of(tmp_path, mounts) == "nfs4"
    assert place.kind_of(Path("/"), mounts) == "ext4"
    assert place.kind_of(tmp_path, tmp_path / "none") == ""


@pytest.mark.parametrize(
    ("version", "bounds", "inside"),
    [
        ("2.5.1+cu121", "<2.6", True),
        ("2.6.0", "<2.6", False),
        ("2.10.0", ">=2.6, <2.10", False),
        ("8.3.41", "==8.3.41", True),
        ("2.0", ">=2.0.0", True),
        ("1.4.9", "~=1.4.2", True),
        ("1.5.0", "~=1.4.2", False),
        ("1.4.9", "==1.4.*", True),
        ("0.28.1", ">=0.26,<0.29", True),
        ("3.0rc1", "!=3.0", False),
    ],
)
def test_versions_are_compared_as_numbers(version: str, bounds: str, inside: bool) -> None:
    assert versions.holds(version, bounds) is inside


def test_versions_that_are_known_to_go_wrong_are_named_with_who_says_so(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = {"torch": "2.2.1+cu118", "numpy": "2.0.0", "ultralytics": "8.3.42"}
    monkeypatch.setattr(versions, "installed", here.get)
    seen = [check.seen for check in versions.known_bad(project)]
    assert seen[0].startswith("torch 2.2.1+cu118 with numpy 2.0.0: this torch was built for NumPy 1")
    assert [text.split()[0] for text in seen] == ["torch", "torch", "ultralytics"]
    assert "CVE-2025-32434" in seen[1]
    monkeypatch.setattr(versions, "installed", {"torch": "2.2.1", "numpy": "1.26.4"}.get)
    (alone,) = versions.known_bad(project)
    assert "torch.load" in alone.seen
    monkeypatch.setattr(versions, "installed", {"torch": "2.13.0", "numpy": "2.0.0"}.get)
    assert [check.state for check in versions.known_bad(project)] == ["ok"]


def test_an_environment_that_differs_from_its_pins_is_told(project: Path) -> None:
    rich = importlib.metadata.version("rich")
    (project / "requirements.txt").write_text(f"rich=={rich}\nlark==0.0.1\nnot-here-at-all==1.0\n")
    (check,) = versions.locked(project)
    assert check.state == "warn"
    assert "1 of 3 as pinned" in check.seen
    assert "pinned 0.0.1" in check.seen
    assert "not installed: not-here-at-all" in check.seen


def test_a_torch_that_cannot_be_imported_or_takes_for_ever_is_bad(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert environment._child("import time; time.sleep(60)", 0.5) == "not within 500ms"
    monkeypatch.setattr(environment, "_TORCH", "raise ImportError('libcudart.so.12: cannot open shared object file')")
    check = found(environment.torch, project)["torch"]
    assert check.state == "bad"
    assert check.seen.endswith("libcudart.so.12: cannot open shared object file")


def test_a_gpu_that_the_driver_shows_and_torch_does_not_see_is_bad(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = project / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H200, 595.71, 90000, 143771'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{project}:{os.environ['PATH']}")
    said = {"version": "2.13.0", "cuda": "13.0", "hip": None, "gpus": [], "error": "", "seconds": 1.0}
    monkeypatch.setattr(environment, "_child", lambda *_: said)
    check = found(environment.torch, project)["gpu"]
    assert check.state == "bad"
    assert "the driver (595.71) shows NVIDIA H200; torch, built for CUDA 13.0, sees none" in check.seen
    said["gpus"] = ["NVIDIA H200"]
    check = found(environment.torch, project)["gpu"]
    assert check.state == "warn"
    assert "has 90,000 of 143,771 MiB in use" in check.seen
    tool.write_text("#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'; exit 18\n")
    assert found(environment.torch, project)["gpu"].seen.endswith("Driver/library version mismatch")
    monkeypatch.setattr(environment, "_SMI_SECONDS", 0.3)
    tool.write_text("#!/bin/sh\nexec sleep 30\n")
    assert found(environment.torch, project)["gpu"].state == "bad"


def test_credentials_that_others_can_read_are_told(project: Path) -> None:
    netrc = project / "home" / ".netrc"
    netrc.write_text(f"machine api.wandb.ai login user password {SECRET}\n")
    netrc.chmod(0o644)
    checks = list(environment.credentials(project))
    assert [check.state for check in checks] == ["ok", "warn"]
    assert checks[1].advice == f"chmod 600 {netrc}"
    assert SECRET not in str(checks)
    netrc.chmod(0o600)
    assert [check.state for check in environment.credentials(project)] == ["ok"]


def test_a_clock_that_lies_before_what_was_written_is_bad(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(project)
    assert found(machine.clock, project)["clock"].state != "bad"
    later = time.time() + 7200
    os.utime(run.run, (later, later))
    check = found(machine.clock, project)["clock"]
    assert check.state == "bad"
    assert "is 2h00m in the future" in check.seen or "is 1h59m" in check.seen
    os.utime(run.run)
    true_time, asked = time.time, iter([0.0, 5.0])
    monkeypatch.setattr(time, "time", lambda: true_time() + next(asked, 5.0))
    assert next(machine.clock(project)).state == "warn"


def test_few_open_files_and_little_shared_memory_are_told(project: Path) -> None:
    script = (
        "import resource, pathlib; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256));"
        "from runctl.doctor import machine; print([c.state for c in machine.limits(pathlib.Path('.'))][0])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "warn"


def test_a_trainer_that_nobody_watches_is_found(project: Path) -> None:
    run = make(project, "--steps", 100_000, "--deaf")
    with supervised(run):
        until(run, in_state("running"))
        assert found(machine.runs, project)["runs"].seen.startswith("1 run, 1 active")
        supervisor, trainer = pids(run)
        os.kill(supervisor, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while alive(supervisor):
            assert time.monotonic() < deadline
            os.waitpid(supervisor, os.WNOHANG)
        seen = found(machine.runs, project)
        assert (seen["leftovers"].state, seen["strays"].state) == ("bad", "bad")
        assert f"process {trainer} of run" in seen["strays"].seen


def test_a_defect_in_a_check_is_told_and_the_others_go_on(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def room(_: Path) -> Iterator[Check]:
        raise ZeroDivisionError("never")

    monkeypatch.setattr(environment, "LOOKS", ())
    monkeypatch.setattr(place, "LOOKS", (room, place.folder))
    monkeypatch.setattr(machine, "LOOKS", ())
    seen = list(doctor.examine(project))
    assert [(check.name, check.state) for check in seen] == [("room", "warn"), ("folder", "ok")]
    assert "ZeroDivisionError: never" in seen[0].seen


def test_every_known_bad_version_has_a_source_and_bounds_that_can_be_read() -> None:
    from runctl import shipped

    for entry in shipped.load("known_bad_versions.yaml"):
        assert entry["severity"] in ("warn", "bad")
        assert entry["sources"]
        assert entry["fix"]
        for bounds in (*entry["versions"], *entry.get("beside", {}).values()):
            assert versions.holds("0.0.0.1", bounds) is False or "<" in bounds, bounds
            assert all(part.strip()[0] in "=<>!~" for part in bounds.split(","))
