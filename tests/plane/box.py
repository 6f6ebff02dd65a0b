"""Start one container's program where its volumes are at the paths that it asked for. Standard library only.

Runs as `python -S box.py PLAN` in the container's own process and ends in an exec, so that the process that the plane
started *is* the container's program. PLAN is JSON: {"way", "host", "boot": file, "mounts": [[directory, path], ...],
"argv", "cwd", "stage": an empty directory}; without "host" and "boot" it has those of this machine.

Three ways to put a directory at a path such as /vol that this machine does not have:

    root    a mount namespace of its own; needs root
    user    the same inside a user namespace; needs a kernel that lets anybody make one
    links   no namespace: the plane makes `path` a symbolic link, which works only below a directory that one may
            write in, and for one container at a time

In the first two the machine's root is rebuilt from bind mounts on a tmpfs, with the missing directories added, and the
program lives in a chroot of it, on a machine that has another host name and another boot id: a process of an earlier
container is one of another machine, as on Modal. Nothing outside changes. $PLANE_WAY chooses a way; by default it is
the first that this machine allows.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

_NEWNS, _NEWUTS, _NEWUSER = 0x00020000, 0x04000000, 0x10000000
_BIND, _REC, _PRIVATE = 4096, 16384, 1 << 18
_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def best_way() -> str:
    """The most faithful way that this machine allows, tried for real in a child."""
    for way in ("root", "user"):
        tried = subprocess.run([sys.executable, "-S", __file__, "--try", way], capture_output=True, check=False)
        if tried.returncode == 0:
            return way
    return "links"


def main() -> None:
    if sys.argv[1] == "--try":
        _namespace(sys.argv[2])
        _mount("tmpfs", "/tmp", "tmpfs", 0)
        return
    plan = json.loads(sys.argv[1])
    _libc.prctl(_PDEATHSIG, signal.SIGKILL)  # survives the exec: a container never outlives its plane
    if plan["way"] != "links":
        _namespace(plan["way"])
        if name := os.fsencode(plan["host"]):
            _checked(_libc.sethostname(name, len(name)), "sethostname")
        _enter(Path(plan["stage"]), plan["boot"], [(Path(source), Path(path)) for source, path in plan["mounts"]])
    os.chdir(plan["cwd"])
    os.execvp(plan["argv"][0], plan["argv"])


def _namespace(way: str) -> None:
    uid, gid = os.getuid(), os.getgid()
    _checked(_libc.unshare(_NEWNS | _NEWUTS | (_NEWUSER if way == "user" else 0)), f"unshare ({way})")
    if way == "user":
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    _mount(None, "/", None, _REC | _PRIVATE)


def _enter(stage: Path, boot: str, mounts: list[tuple[Path, Path]]) -> None:
    _mount("tmpfs", str(stage), "tmpfs", 0)
    _copy_of(Path("/"), stage, [path for _, path in mounts])
    for source, path in mounts:
        there = stage / path.relative_to("/")
        there.mkdir(parents=True, exist_ok=True)
        _mount(str(source), str(there), None, _BIND)
    if boot:
        _mount(boot, f"{stage}/proc/sys/kernel/random/boot_id", None, _BIND)
    os.chroot(stage)


def _copy_of(real: Path, copy: Path, wanted: list[Path]) -> None:
    """Bind every entry of `real` into `copy`; descend instead where a wanted path lies inside an entry."""
    for entry in os.scandir(real):
        path, there = real / entry.name, copy / entry.name
        if path in wanted:
            continue
        if entry.is_symlink():
            there.symlink_to(os.readlink(path))
        elif entry.is_dir():
            there.mkdir()
            if any(path in target.parents for target in wanted):
                _copy_of(path, there, wanted)
            else:
                _mount(str(path), str(there), None, _BIND | _REC)
        elif entry.is_file():
            there.touch()
            _mount(str(path), str(there), None, _BIND)


def _mount(source: str | None, target: str, kind: str | None, flags: int) -> None:
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind)]
    _checked(_libc.mount(*words, ctypes.c_ulong(flags), None), f"mount {source} at {target}")


def _checked(answer: int, doing: str) -> None:
    if answer != 0:
        raise OSError(ctypes.get_errno(), f"{doing}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main()
