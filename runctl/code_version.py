"""The code that a run is launched with: commit, and what was not committed. Secrets never.

The difference to the commit goes into the run's `code.diff`, new text files included, so that the code can be had
again when the machine is gone. Files that usually hold secrets are named, not copied; lines that look like a secret
are replaced.
"""

from __future__ import annotations

import difflib
import fnmatch
import os
import subprocess
from pathlib import Path
from typing import Any

from runctl.light import dataclass, pattern

_OWN = (":(exclude)runs", ":(exclude).runctl")  # what runctl writes into the project is no code
_GIT_SECONDS = 15.0
_DIFF_BYTES = 4 << 20
_FILE_BYTES = 1 << 18
_NEW_FILES = 300
_TEXT = (
    ".py",
    ".pyi",
    ".yaml",
    ".yml",
    ".toml",
    ".json",
    ".sh",
    ".md",
    ".cfg",
    ".ini",
    ".txt",
    ".cu",
    ".cpp",
    ".c",
    ".h",
    ".rs",
)
_SECRET_FILES = (
    ".env*",
    "*.env",
    "*.pem",
    "*.key",
    "*.p12",
    "id_*",
    ".netrc",
    ".npmrc",
    ".pypirc",
    "*secret*",
    "*credential*",
    "*token*",
)
_NAME = r"(?i:api[_-]?key|access[_-]?key|secret([_-]?key)?|token|passw(or)?d|credentials?|authorization)"
_SECRET_LINE = pattern(
    rf"{_NAME}([\"'\])]*\s*[:=]|[\"']\s*,)\s*(Bearer )?[\"'][^\"'\s]{{8,}}[\"']"  # key = "value", ["key"] = "value"
    r"|\bkey\s*=\s*[\"'][\w-]{20,}[\"']|\beyJ[\w-]{8,}\.[\w-]+"  # login(key="value"), a JSON web token
    rf"|{_NAME}\s*[:=]\s*(?=\S*\d)[\w+/-]{{16,}}\s*$"  # key: value
    r"|\b[A-Z][A-Z0-9_]*(KEY|SECRET|TOKEN|PASSWORD|PASSWD)[A-Z0-9_]*=[^\s=]{8,}"  # KEY=value
    r"|passw(or)?d\s*[:=]\s*[\"'][^\"'\s]{3,}[\"']"
    r"|AKIA[0-9A-Z]{16}|gh[pousr]_\w{20,}|hf_\w{20,}|sk-[\w-]{20,}|xox[baprs]-[\w-]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|://[^/\s:@]+:[^/\s@]{3,}@"
)
# In files that are no code a value needs no quotes: `password: hunter2`, `TOKEN=abc`, `export DB_PASSWORD = x`.
# What only looks like it is kept: `max_tokens: 5`, `pad_token: <pad>`, `token: ${TOKEN}`, `password: null`.
_PLAIN_SECRET = pattern(
    rf"(?:^|[\s{{,;\"'-])[\w.-]*{_NAME}[\"']?\s*[:=]\s*[\"']?"
    r"(?!(?i:null|none|true|false|yes|no|on|off|str|int)\b|~)[^\s<\[{$\"',}#][^\s\"',}]*"
)
_CODE = (".py", ".pyi", ".cu", ".cpp", ".c", ".h", ".rs")
_MASK = "[a line that looks like a secret]"


@dataclass(frozen=True)
class CodeVersion:
    """`commit` is None outside a git repository; `dirty` counts new files too, runs not; `note`: what is missing."""

    commit: str | None
    dirty: bool | None
    diff: str
    note: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {"commit": self.commit, "dirty": self.dirty, "note": self.note}


@dataclass(frozen=True)
class State:
    """What of the code is nowhere else: files that are changed or new (what runctl writes left out), and commits that
    no remote has; None where there is no remote."""

    changed: tuple[str, ...]
    unpushed: int | None


def state(project: Path) -> State | None:
    """How far the code of the folder `project` is committed and pushed; None where git cannot say."""
    status = ("status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=normal", "--", ":/", *_OWN)
    found = _git(project, *status)
    if found is None or _git(project, "rev-parse", "--verify", "HEAD") is None:
        return None
    changed = tuple(entry[3:] for entry in found.split("\0") if entry)
    if not _git(project, "remote"):
        return State(changed, None)
    count = (_git(project, "rev-list", "--count", "HEAD", "--not", "--remotes") or "0").strip()
    return State(changed, int(count) if count.isdecimal() else 0)


def read(project: Path) -> CodeVersion:
    """The code version of the folder `project`. Never raises: what git cannot say is noted."""
    commit = _git(project, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return CodeVersion(None, None, "", "not in a git repository with a commit, or git is not installed")
    missed: list[str] = []
    changed = _git(project, "diff", "--name-only", "-z", "HEAD", "--", ":/", *_OWN, missed=missed) or ""
    others = ("ls-files", "--others", "--exclude-standard", "-z", "--", ".", *_OWN)
    new = _git(project, *others, missed=missed) or ""
    kept = [name for name in changed.split("\0") if name and not _is_secret(name)]
    left_out = [name for name in (changed + new).split("\0") if name and _is_secret(name)]
    root = Path((_git(project, "rev-parse", "--show-toplevel") or str(project)).strip())
    whole = ("diff", "--no-color", "--no-ext-diff", "HEAD", "--", *kept)
    diff = (_git(root, *whole, missed=missed) or "") if kept else ""
    names = [name for name in new.split("\0") if name and not _is_secret(name)]
    diff += "".join(_as_new(project, name) for name in names[:_NEW_FILES])
    if len(names) > _NEW_FILES:
        diff += f"# {len(names) - _NEW_FILES} more new files\n"
    diff += "".join(f"# left out, may hold secrets: {name}\n" for name in left_out)
    note = f"code.diff is not whole: {'; '.join(missed)}" if missed else None
    dirty = bool(changed or new) or (None if missed else False)
    return CodeVersion(commit.strip(), dirty, _clean(diff) + (f"# {note}\n" if note else ""), note)


def _as_new(project: Path, name: str) -> str:
    path = project / name
    try:
        if not name.endswith(_TEXT) or path.is_symlink() or path.stat().st_size > _FILE_BYTES:
            return f"# new file, not copied: {name}\n"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError):
        return f"# new file, not copied: {name}\n"
    return "".join(
        line if line.endswith("\n") else line + "\n"
        for line in difflib.unified_diff([], lines, "/dev/null", f"b/{name}")
    )


def _clean(diff: str) -> str:
    lines, in_key, name = [], False, ""
    for line in diff.splitlines(keepends=True):
        if line.startswith("+++ "):
            name = line[4:].strip()
        in_key = (
            (in_key or line.rstrip().endswith("PRIVATE KEY-----"))
            and line[:1] in "+- "
            and not line.startswith(("+++", "--- "))
        )
        plain = not name.endswith(_CODE) and not line.startswith(("+++ ", "--- ", "@@"))
        secret = in_key or _SECRET_LINE.search(line) or (plain and _PLAIN_SECRET.search(line[1:]))
        lines.append(f"{line[:1]}{_MASK}\n" if secret else line)
        in_key = in_key and "-----END" not in line
    text = "".join(lines)
    return text if len(text) <= _DIFF_BYTES else text[:_DIFF_BYTES] + f"\n# cut at {_DIFF_BYTES} characters\n"


def without_secrets(text: str) -> str:
    """The text of a config for the record: a line that looks like a secret becomes a comment."""
    found = [
        f"# {_MASK}\n" if _SECRET_LINE.search(line) or _PLAIN_SECRET.search(line) else line
        for line in text.splitlines(keepends=True)
    ]
    return "".join(found)


def _is_secret(name: str) -> bool:
    return any(fnmatch.fnmatch(os.path.basename(name).lower(), pattern) for pattern in _SECRET_FILES)


def _git(folder: Path, *arguments: str, missed: list[str] | None = None) -> str | None:
    """What git prints; None if it cannot say, with the reason added to `missed`."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            timeout=_GIT_SECONDS,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        return done.stdout.decode("utf-8", errors="replace")
    except subprocess.TimeoutExpired:
        why = f"did not end within {_GIT_SECONDS:g} s"
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", errors="replace").strip().splitlines()
        why = f"failed: {said[-1]}" if said else f"failed with exit {error.returncode}"
    except OSError as error:
        why = f"cannot be run: {error.strerror or error}"
    if missed is not None:
        missed.append(f"git {arguments[0]} {why}")
    return None
