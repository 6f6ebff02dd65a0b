"""The Python that would train: its version, its packages, torch and what it can reach, credentials."""

from __future__ import annotations

import json
import os
import platform
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runctl import __version__, install
from runctl.doctor import BAD, OK, WARN, Check, Look, versions
from runctl.gathering import surroundings
from runctl.units import format_duration

TORCH_SECONDS = 90.0
_SMI_SECONDS = 15.0
_TORCH = """
import json, time
began = time.monotonic()
import torch
said = {"version": torch.__version__, "cuda": torch.version.cuda, "hip": torch.version.hip, "gpus": [], "error": ""}
try:
    said["available"] = torch.cuda.is_available()
    for number in range(torch.cuda.device_count() if said["available"] else 0):
        said["gpus"].append(torch.cuda.get_device_name(number))
        torch.ones(8, device=f"cuda:{number}").sum().item()
except Exception as error:
    said["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
said["seconds"] = time.monotonic() - began
print("\\n" + json.dumps(said))
"""


def python(project: Path) -> Iterator[Check]:
    seen = f"{platform.python_version()} at {sys.executable}, {platform.platform()}"
    yield Check("environment", "python", OK, seen)
    yield Check("environment", "runctl", OK, f"{__version__} from {Path(__file__).parents[1]}")


def torch(project: Path) -> Iterator[Check]:
    """Imported in a child, and one sum made on each GPU."""
    if versions.installed("torch") is None:
        yield Check(
            "environment", "torch", WARN, "not installed: runctl's own trainer cannot run", install.hint("train")
        )
        return
    said = _child(_TORCH, TORCH_SECONDS)
    if isinstance(said, str):
        yield Check("environment", "torch", BAD, f"cannot be imported: {said}", install.hint("train"))
        return
    built = f"CUDA {said['cuda']}" if said["cuda"] else f"ROCm {said['hip']}" if said["hip"] else "the CPU only"
    slow = said["seconds"] > 30
    advice = "look at the disk that it is installed on: every start takes that long" if slow else ""
    seen = f"{said['version']}, built for {built}, ready in {said['seconds']:.1f} s"
    yield Check("environment", "torch", WARN if slow else OK, seen, advice)
    yield from _gpus(said)


def _gpus(said: dict[str, Any]) -> Iterator[Check]:
    """What torch reaches beside what the driver shows."""
    shown = _smi()
    if isinstance(shown, str):
        yield Check("environment", "gpu", BAD, shown, "the driver does not answer: look at dmesg, restart the machine")
        return
    if said["error"]:
        advice = "compare the driver with what torch is built for; is the GPU free?"
        yield Check("environment", "gpu", BAD, f"torch cannot use it: {said['error']}", advice)
    elif said["gpus"]:
        used = [one for one in shown if one["share"] > 0.1]
        names = ", ".join(said["gpus"]) + (f", driver {shown[0]['driver']}" if shown else "")
        taken = f"; {', '.join(one['said'] for one in used)}" if used else ""
        advice = "something else holds memory there: nvidia-smi shows what" if used else ""
        yield Check("environment", "gpu", WARN if used else OK, names + taken, advice)
    elif shown:
        names = ", ".join(one["name"] for one in shown)
        built = f"built for CUDA {said['cuda']}" if said["cuda"] else "built for the CPU only"
        advice = "install a torch whose CUDA the driver can run, and look at CUDA_VISIBLE_DEVICES"
        seen = f"the driver ({shown[0]['driver']}) shows {names}; torch, {built}, sees none"
        yield Check("environment", "gpu", BAD, seen, advice)
    else:
        yield Check("environment", "gpu", OK, "none: training runs on the CPU")


def _smi() -> list[dict[str, Any]] | str:
    """The GPUs of nvidia-smi; a sentence if it is there and fails."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = "--query-gpu=name,driver_version,memory.used,memory.total"
    try:
        done = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=_SMI_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"nvidia-smi says nothing for {format_duration(_SMI_SECONDS)}"
    except OSError as error:
        return f"nvidia-smi cannot be run: {error.strerror}"
    if done.returncode:
        told = (done.stdout + done.stderr).strip().splitlines()
        return f"nvidia-smi: {told[0] if told else 'it failed'}"
    found = []
    for line in done.stdout.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 4:
            used, total = (float(part) if part.replace(".", "").isdigit() else 0.0 for part in parts[2:])
            share = used / total if total else 0.0
            said = f"{parts[0]} has {used:,.0f} of {total:,.0f} MiB in use"
            found.append({"name": parts[0], "driver": parts[1], "share": share, "said": said})
    return found


def _child(script: str, seconds: float) -> dict[str, Any] | str:
    """What a child prints as its last line; a sentence if it fails or takes too long."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-W", "ignore", "-c", script],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not within {format_duration(seconds)}"
    except OSError as error:
        return str(error)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    try:
        said = json.loads(lines[-1]) if done.returncode == 0 and lines else None
    except ValueError:
        said = None
    if isinstance(said, dict):
        return said
    told = [line for line in done.stderr.splitlines() if line.strip()]
    return told[-1].strip() if told else f"exit {done.returncode}"


def stacks(project: Path) -> Iterator[Check]:
    """py-spy, for the stacks of foreign programs that hang."""
    found = Path(sys.executable).with_name("py-spy")
    if not found.exists() and shutil.which("py-spy") is None:
        yield Check("environment", "py-spy", OK, "not there: only programs that report can say where they hang")
        return
    scope = _line(Path("/proc/sys/kernel/yama/ptrace_scope"))
    if scope not in ("", "0") and os.geteuid() != 0:
        advice = "sysctl kernel.yama.ptrace_scope=0, or give py-spy the capability cap_sys_ptrace"
        seen = f"installed, but kernel.yama.ptrace_scope is {scope}: it may not look at other processes"
        yield Check("environment", "py-spy", WARN, seen, advice)
        return
    yield Check("environment", "py-spy", OK, "installed")


def credentials(project: Path) -> Iterator[Check]:
    """Whether they are there, for whom, and whether others can read them. Their text is never shown."""
    present = surroundings.credentials()
    told = [f"{name}: {'there' if there else 'none'}" for name, there in present.items()]
    yield Check("environment", "credentials", OK, ", ".join(told))
    home = Path(os.path.expanduser("~"))
    places = (".netrc", ".modal.toml", ".cache/huggingface/token", ".config/wandb/settings")
    for file in (home / name for name in places):
        try:
            mode = file.stat().st_mode
        except OSError:
            continue
        if mode & (stat.S_IRGRP | stat.S_IROTH):
            seen = f"{file} can be read by others (mode {stat.S_IMODE(mode):o})"
            yield Check("environment", "credentials", WARN, seen, f"chmod 600 {file}")


def _line(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


LOOKS: tuple[Look, ...] = (
    python,
    versions.needs,
    versions.known_bad,
    versions.locked,
    torch,
    stacks,
    credentials,
)
