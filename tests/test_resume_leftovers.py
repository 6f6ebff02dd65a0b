"""What a trainer leaves behind is gone after its attempt: processes wherever they went, and shared memory."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fake_runs import alive, in_state, make, pids, supervised, until

from runctl import evidence, record, status
from runctl.supervisor import hang, leftovers

ENDED = ("succeeded", "failed", "stopped", "killed")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="orphans are found by Linux's /proc and its subreaper")

# a worker in a session of its own whose parent ends at once: nobody's child, until the supervisor adopts it
ESCAPED = """
import os, sys, time
from pathlib import Path
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        Path("escaped.pid").write_text(str(os.getpid()))
        time.sleep(300)
    os._exit(0)
os.wait()
while not Path("escaped.pid").exists() or not Path("escaped.pid").read_text():
    time.sleep(0.01)
"""
# what torch's loader does with file_system sharing: a file that bears the worker's pid, mapped by it
SHARING = """
import mmap, os, sys, time
from pathlib import Path
if os.fork() == 0:
    name = f"/dev/shm/torch_{os.getpid()}_12345_0"
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(descriptor, 4096)
    memory = mmap.mmap(descriptor, 4096)
    public = os.open(f"/dev/shm/public_{os.getpid()}_12345_0", os.O_RDWR | os.O_CREAT, 0o600)
    os.fchmod(public, 0o666)
    Path("shared.txt").write_text(name)
    time.sleep(300)
while not Path("shared.txt").exists() or not Path("shared.txt").read_text():
    time.sleep(0.01)
"""
# the standard library's own: a tracker frees it, once the worker that holds its pipe is gone; the worker maps nothing
TRACKED = """
import os, signal, time
from multiprocessing import Process, resource_tracker, shared_memory
from pathlib import Path
resource_tracker.ensure_running()
worker = Process(target=time.sleep, args=(300,))
worker.start()
memory = shared_memory.SharedMemory(create=True, size=4096)
Path("tracked.txt").write_text(memory.name)
os.kill(os.getpid(), signal.SIGKILL)
"""


def command(project: Path, program: str) -> record.RunDir:
    run = make(project, task="command", command={"argv": ["x"]})
    record.write_json(run.run, record.read_object(run.run) | {"command": [sys.executable, "-c", program]})
    return run


def told(run: record.RunDir) -> list[str]:
    return [str(row["reason"]) for row in record.read_lines(run.events) if row["event"] == "left_behind"]


@LINUX
def test_a_child_that_left_its_group_its_session_and_its_parent_is_ended_and_named(tmp_path: Path) -> None:
    run = command(tmp_path, ESCAPED)
    with supervised(run):
        assert until(run, in_state(*ENDED)).state == "succeeded"
        pid = int((tmp_path / "escaped.pid").read_text())
        assert not alive(pid)
    (words,) = told(run)
    assert words.startswith(f"ended and removed 1 process that outlived the trainer: {pid} ")


@LINUX
def test_a_trainer_that_leaves_nothing_is_not_spoken_of(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 3)
    with supervised(run):
        until(run, in_state("succeeded"))
    assert told(run) == []


@LINUX
@pytest.mark.skipif(not leftovers.SHARED.is_dir(), reason="no /dev/shm here")
def test_shared_memory_of_the_attempt_is_removed_and_that_of_others_is_not(tmp_path: Path) -> None:
    others = [leftovers.SHARED / f"torch_{os.getpid()}_{tmp_path.name}_0", leftovers.SHARED / f"own-{os.getpid()}"]
    run = command(tmp_path, SHARING + "time.sleep(1.5)")
    try:
        for path in others:
            path.touch(0o600)
        with supervised(run):
            until(run, lambda _: (tmp_path / "shared.txt").exists())
            until(run, in_state(*ENDED))
        name = Path((tmp_path / "shared.txt").read_text())
        assert not name.exists()
        assert f"1 file of shared memory, 4.0 KiB: {name.name}" in told(run)[0]
        assert all(path.exists() for path in others)
        assert len(list(leftovers.SHARED.glob("public_*_12345_0"))) == 1  # others may use it as well
    finally:
        for path in [*others, *leftovers.SHARED.glob("*_12345_0")]:
            path.unlink(missing_ok=True)


@LINUX
@pytest.mark.skipif(not leftovers.SHARED.is_dir(), reason="no /dev/shm here")
def test_python_s_own_tracker_may_free_what_a_killed_program_shared(tmp_path: Path) -> None:
    run = command(tmp_path, TRACKED)
    with supervised(run):
        assert until(run, in_state(*ENDED)).state == "failed"
    assert not (leftovers.SHARED / (tmp_path / "tracked.txt").read_text()).exists()


@LINUX
def test_what_outlives_supervisor_and_trainer_is_found_by_its_environment_and_ended(tmp_path: Path) -> None:
    run = command(tmp_path, ESCAPED + "time.sleep(300)")
    with supervised(run) as supervisor:
        until(run, lambda _: (tmp_path / "escaped.pid").exists())
        trainer = pids(run)[1]
        pid = int((tmp_path / "escaped.pid").read_text())
        os.kill(supervisor, signal.SIGKILL)
        os.kill(trainer, signal.SIGKILL)
        found = until(run, lambda found: found.over and not found.leftover and not alive(pid))
        assert evidence.marked(run.path) == []
    assert (found.state, found.reason) == ("failed", "supervisor lost")
    assert status.read(run).state == "failed"


@LINUX
@pytest.mark.skipif(
    not shutil.which("py-spy") and not Path(sys.executable).with_name("py-spy").exists(),
    reason="py-spy is no dependency",
)
def test_py_spy_says_where_a_program_stands_that_does_not_say_it_itself(tmp_path: Path) -> None:
    run = make(tmp_path)
    program = "import time\ndef stuck_here():\n    time.sleep(60)\nprint('on', flush=True)\nstuck_here()"
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, process_group=0)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        with child.stdout:
            words = hang.dump(run.attempt(1), child.pid, {}, "hung: a test")
        written = run.attempt(1).hang.read_text()
        if "Permission denied" in written or not re.search("stuck_here", written):
            tried = subprocess.run(
                [Path(sys.executable).with_name("py-spy"), "dump", "--pid", str(child.pid)],
                capture_output=True,
                text=True,
                check=False,
                timeout=30,
            )
            if tried.returncode:
                pytest.skip(f"py-spy may not look at another process here: {tried.stderr.strip()[:200]}")
        assert "stacks, from py-spy:" in written
        assert "stuck_here" in written
        assert words == "its stacks are in hang.txt"
    finally:
        child.kill()
        child.wait()
