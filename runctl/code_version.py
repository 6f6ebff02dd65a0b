"""The code that a run is launched with: commit, and what was not committed. Secrets never.

The difference to the commit goes into the run's `code.diff`, new text files included, so that the code can be had
again when the machine is gone. Files that usually hold secrets are named, not copied; lines that look like a secret
are replaced.
"""

from __future__ import annotations

import difflib
import fnmatch
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
_SECRET_LINE = re.compile(
    rf"{_NAME}([\"'\])]*\s*[:=]|[\"']\s*,)\s*(Bearer )?[\"'][^\"'\s]{{8,}}[\"']"  # key = "value", ["key"] = "value"
    r"|\bkey\s*=\s*[\"'][\w-]{20,}[\"']|\beyJ[\w-]{8,}\.[\w-]+"  # login(key="value"), a JSON web token
    rf"|{_NAME}\s*[:=]\s*(?=\S*\d)[\w+/-]{{16,}}\s*$"  # key: value
    r"|\b[A-Z][A-Z0-9_]*(KEY|SECRET|TOKEN|PASSWORD|PASSWD)[A-Z0-9_]*=[^\s=]{8,}"  # KEY=value
    r"|AKIA[0-9A-Z]{16}|gh[pousr]_\w{20,}|hf_\w{20,}|sk-[\w-]{20,}|xox[baprs]-[\w-]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|://[^/\s:@]+:[^/\s@]{3,}@"
)


@dataclass(frozen=True)
class CodeVersion:
    """`commit` is None outside a git repository; `dirty` counts new files too; `note` says what is missing."""

    commit: str | None
    dirty: bool | None
    diff: str
    note: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {"commit": self.commit, "dirty": self.dirty, "note": self.note}


def read(project: Path) -> CodeVersion:
    """The code version of the folder `project`. Never raises: what git cannot say is noted."""
    commit = _git(project, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return CodeVersion(None, None, "", "not in a git repository with a commit, or git is not installed")
    changed = _git(project, "diff", "--name-only", "-z", "HEAD") or ""
    new = _git(project, "ls-files", "--others", "--exclude-standard", "-z", "--", ".", ":(exclude)runs") or ""
    kept = [name for name in changed.split("\0") if name and not _is_secret(name)]
    left_out = [name for name in (changed + new).split("\0") if name and _is_secret(name)]
    root = Path((_git(project, "rev-parse", "--show-toplevel") or str(project)).strip())
    diff = (_git(root, "diff", "--no-color", "--no-ext-diff", "HEAD", "--", *kept) or "") if kept else ""
    names = [name for name in new.split("\0") if name and not _is_secret(name)]
    diff += "".join(_as_new(project, name) for name in names[:_NEW_FILES])
    if len(names) > _NEW_FILES:
        diff += f"# {len(names) - _NEW_FILES} more new files\n"
    diff += "".join(f"# left out, may hold secrets: {name}\n" for name in left_out)
    return CodeVersion(commit.strip(), bool(changed or new), _clean(diff))


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
    lines, in_key = [], False
    for line in diff.splitlines(keepends=True):
        in_key = (
            (in_key or line.rstrip().endswith("PRIVATE KEY-----"))
            and line[:1] in "+- "
            and not line.startswith(("+++", "--- "))
        )
        secret = in_key or _SECRET_LINE.search(line)
        lines.append(f"{line[:1]}[a line that looks like a secret]\n" if secret else line)
        in_key = in_key and "-----END" not in line
    text = "".join(lines)
    return text if len(text) <= _DIFF_BYTES else text[:_DIFF_BYTES] + f"\n# cut at {_DIFF_BYTES} characters\n"


def _is_secret(name: str) -> bool:
    return any(fnmatch.fnmatch(os.path.basename(name).lower(), pattern) for pattern in _SECRET_FILES)


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            timeout=_GIT_SECONDS,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", errors="replace")
