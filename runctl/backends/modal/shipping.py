"""What of a project is sent into a container, for a program of its own (`task: command`): a list that can be shown
before anything is sent.

In a git repository that is what git tracks or would track (`.gitignore` holds); elsewhere all files, less those that
`.gitignore` names. `.runctlignore` takes further files out, in the same words. What usually holds secrets goes by its
name and is left out; a file with a secret in its text ends the launch, because a program that lacks a file of its own
would fail there. A line `!PATH` in `.runctlignore` says that a file is none of these. `runs/`, `.git` and virtual
environments never go.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from runctl.errors import UsageError
from runctl.light import dataclass, pattern
from runctl.units import counted, format_bytes

FOLDER = "runctl-code"  # beside the package `runctl` in the container
IGNORE = ".runctlignore"
MOST_FILES, MOST_BYTES = 10_000, 256 << 20
_GIT_SECONDS = 15.0
_MOST_TEXT = 4 << 20  # of a file that is searched for secrets
_NEVER = (
    ".git", ".hg", ".svn", ".runctl", ".venv", "venv", "node_modules", "__pycache__", "*.pyc", "*.egg-info", ".tox",
    ".nox", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".ipynb_checkpoints", ".aws", ".ssh", ".DS_Store",
)  # fmt: skip
_SECRET = (
    ".env", ".env.*", ".envrc", "*.env", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.kdbx", "id_rsa*", "id_dsa*",
    "id_ecdsa*", "id_ed25519*", ".netrc", "_netrc", ".npmrc", ".pypirc", ".git-credentials", ".htpasswd", ".modal.toml",
    "*.token", "token", "token.txt", "token.json", "kubeconfig",
)  # fmt: skip
_SECRET_WORDS = ("*secret*", "*credential*")  # unless it is code: secrets.py may be anything
_LOCAL = pattern(r"\s*(-e\b|--editable|-r\b|--requirement|-c\b|--constraint|\.{1,2}(/|\[|\s*$)|/|file:)|.*@\s*file:")
_CODE = (".py", ".pyi", ".pyx", ".sh", ".c", ".h", ".cc", ".cpp", ".cu", ".cuh", ".rs", ".go", ".jl", ".js", ".ts")


@dataclass(frozen=True)
class Shipment:
    """Files of a project by their paths in it, with their bytes; `left_out`: what does not go although nobody ignores
    it, with why."""

    project: str
    files: tuple[tuple[str, int], ...]
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.files)

    def to_json(self) -> dict[str, Any]:
        about = {"to": FOLDER, "count": len(self.files), "bytes": self.bytes}
        return {**about, "files": dict(self.files), "left_out": dict(self.left_out)}


def look(project: Path) -> Shipment:
    """What would be sent. Raises UsageError for a secret in a file, and for more than anybody would mean to send."""
    if os.path.realpath(project) in (os.path.realpath(os.path.expanduser("~")), os.sep):
        hint = "put the program into a folder of its own, with a runctl.yaml: runctl init"
        raise UsageError(f"the project is {project}, and all of it would be sent", hint=hint)
    listed = _by_git(project)
    ignored = _ignored(project, (IGNORE,) if listed is not None else (".gitignore", IGNORE))
    files: list[tuple[str, int]] = []
    left_out: list[tuple[str, str]] = []
    for name in sorted(islice(_walked(project), 20 * MOST_FILES) if listed is None else listed):
        why = _verdict(name, ignored)
        if why is None or not os.path.lexists(project / name):
            continue
        if why := why or _no_file(project, project / name):
            left_out.append((name, why))
        else:
            files.append((name, (project / name).stat().st_size))
        if len(files) > MOST_FILES:
            raise _too_much(project, files, f"more than {MOST_FILES:,} files")
    if (size := sum(size for _, size in files)) > MOST_BYTES:
        raise _too_much(project, files, f"{format_bytes(size)}, more than {format_bytes(MOST_BYTES)}")
    _refuse_secrets(project, [name for name, _ in files], ignored)
    return Shipment(str(project), tuple(files), tuple(left_out))


def stage(shipment: Shipment, folder: Path) -> dict[str, str]:
    """Copy the files into a folder, as they are now; returns the sha256 of each. Raises OSError."""
    found = {}
    for name, _ in shipment.files:
        source, target = Path(shipment.project) / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        shutil.copymode(source, target)
        found[name] = hashlib.sha256(target.read_bytes()).hexdigest()
    return found


def digests(shipment: Shipment) -> dict[str, str]:
    """The sha256 of each file as it is now. Raises OSError."""
    project = Path(shipment.project)
    return {name: hashlib.sha256((project / name).read_bytes()).hexdigest() for name, _ in shipment.files}


def absent(shipment: Shipment, folder: str, words: list[str]) -> list[str]:
    """Which of a program's arguments name a file that is here and is not sent; they are relative to `folder`, which is
    relative to the project."""
    project, sent = Path(shipment.project), {name for name, _ in shipment.files}
    found = []
    for word in words:
        path = Path(os.path.normpath(project / folder / word)) if word and "\0" not in word else None
        if path is None or Path(word).is_absolute() or not path.is_relative_to(project) or not _is_file(path):
            continue
        if path.relative_to(project).as_posix() not in sent:
            found.append(word)
    return found


def requirements(project: Path, name: str | None) -> str | None:
    """The path of the project's file of requirements. Raises UsageError where it is none that an image can be made
    of: a file with a secret, one that is not there, or one that names files of this machine."""
    if name is None:
        return None
    path, where = project / name, f"modal.requirements in {project / 'runctl.yaml'}"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{where}: {name} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if found := _secret_in(path):
        hint = "an image is no place for it: give the index without it, or build the image elsewhere"
        raise UsageError(f"{name}:{found[0]} holds {found[1]}", hint=hint)
    for number, line in enumerate(text.splitlines(), 1):
        if _LOCAL.match(line):
            hint = "name packages and versions; the project's own code is sent by itself"
            raise UsageError(f"{name}:{number}: '{line.strip()[:60]}' names a file of this machine", hint=hint)
    return str(path)


def changed(before: dict[str, Any], now: dict[str, str]) -> list[str]:
    """The files that differ between two digests of what was sent."""
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


# --- which files -----------------------------------------------------------------------------------------------------


def _by_git(project: Path) -> set[str] | None:
    """The files of the project that git tracks or would track; None where it cannot say."""
    words = ("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", ".")
    try:
        done = subprocess.run(
            ["git", "-C", str(project), *words], capture_output=True, timeout=_GIT_SECONDS, check=True,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return {os.fsdecode(name) for name in done.stdout.split(b"\0") if name}


def _walked(project: Path) -> Iterator[str]:
    for parent, folders, names in os.walk(project):
        inside = Path(parent).relative_to(project)
        folders[:] = [
            name for name in folders if not _never((inside / name).as_posix()) and not _environment(Path(parent, name))
        ]
        yield from ((inside / name).as_posix() for name in names)


def _environment(folder: Path) -> bool:
    return (folder / "pyvenv.cfg").exists()


def _verdict(name: str, ignored: _Ignored) -> str | None:
    """Why a file is left out by its name, "" if it is not; None for what is ignored."""
    if _never(name):
        return None
    said = ignored.of(name)
    if said is True:
        return None
    last = name.rpartition("/")[2].lower()
    secret = any(fnmatch.fnmatchcase(last, one) for one in _SECRET)
    secret = secret or (not last.endswith(_CODE) and any(fnmatch.fnmatchcase(last, one) for one in _SECRET_WORDS))
    return "its name says that it may hold secrets" if secret and said is None else ""


def _never(name: str) -> bool:
    parts = name.split("/")
    return parts[0] == "runs" or any(fnmatch.fnmatchcase(part, one) for part in parts for one in _NEVER)


def _no_file(project: Path, path: Path) -> str:
    """Why there is nothing to send at a path."""
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(project)):
        return "it is a link out of the project"
    if path.is_dir():
        return "it is a repository of its own" if not path.is_symlink() else "it is a link to a folder"
    return "" if path.is_file() else "it is no file"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _too_much(project: Path, files: list[tuple[str, int]], what: str) -> UsageError:
    large = sorted(files, key=lambda one: -one[1])[:3]
    names = ", ".join(f"{name} ({format_bytes(size)})" for name, size in large)
    hint = f"leave out in {IGNORE} what the program does not need there; data belong on the volume: modal volume put"
    return UsageError(f"the code in {project} is {what}; the largest: {names}", hint=hint)


# --- ignore files ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Ignored:
    """Lines of ignore files, each as (expression, whether it leaves out); the last that fits decides."""

    lines: tuple[tuple[re.Pattern[str], bool], ...]

    def of(self, name: str) -> bool | None:
        """True: left out; False: a line with `!` says that it goes; None: nobody speaks of it."""
        return next((out for line, out in reversed(self.lines) if line.fullmatch(name)), None)


def _ignored(project: Path, names: tuple[str, ...]) -> _Ignored:
    lines: list[tuple[re.Pattern[str], bool]] = []
    for name in names:
        try:
            text = (project / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        for line in text.splitlines():
            line = line.strip()
            if line and not line.startswith("#"):
                lines.append((_expression(line.removeprefix("!")), not line.startswith("!")))
    return _Ignored(tuple(lines))


def _expression(line: str) -> re.Pattern[str]:
    """A line of an ignore file as an expression for whole paths: `*.bin`, `/data/`, `docs/**/*.png`."""
    words = {"**/": "(?:.*/)?", "/**": "/.*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    body = line.strip("/")
    made = "".join(words.get(part) or re.escape(part) for part in re.split(r"(\*\*/|/\*\*|\*\*|\*|\?)", body))
    anywhere = "" if "/" in line.rstrip("/") else "(?:.*/)?"
    return re.compile(anywhere + made + ("/.*" if line.endswith("/") else "(?:/.*)?"), re.DOTALL)


# --- secrets ---------------------------------------------------------------------------------------------------------


def _refuse_secrets(project: Path, names: list[str], ignored: _Ignored) -> None:
    for name in names:
        found = _secret_in(project / name)
        if found is None or (ignored.of(name) is False and not found[2]):
            continue
        hint = f"hold it in a secret of Modal (modal.secrets), or name the file in {IGNORE}"
        hint += "" if found[2] else f"; if it is none: a line !{name} there"
        words = f"{name}:{found[0]} holds {found[1]}, and the project's code would be sent to Modal"
        raise UsageError(words, hint=hint)


def _secret_in(path: Path) -> tuple[int, str, bool] | None:
    """(line, what it is, whether it is a value of this machine's environment) of the first secret of a text."""
    try:
        about = path.stat()
    except OSError:
        return None
    return None if about.st_size > _MOST_TEXT else _searched(str(path), about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=MOST_FILES)
def _searched(path: str, size: int, changed_ns: int) -> tuple[int, str, bool] | None:
    from runctl.gathering import secrets
    from runctl.masking import known

    try:
        data = Path(path).read_bytes()
        text = "" if b"\0" in data[:8192] else data.decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    for value, words in known.of_environment().values:
        if (at := text.find(value)) >= 0:
            return text.count("\n", 0, at) + 1, words, True
    for one in secrets.find((), text):
        return text.count("\n", 0, max(0, one.offset)) + 1, one.kind, False
    return None


def words(shipment: Shipment) -> str:
    """`12 files, 40 KiB`."""
    return f"{counted(len(shipment.files), 'file')}, {format_bytes(shipment.bytes)}"
