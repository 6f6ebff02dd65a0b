"""The words of a trainer's Python code: which keys of a config it can ever read.

A key is read where its name stands in the code as an identifier, an attribute, or a whole quoted word; comments and
docstrings read nothing. The code is text here: it is never imported or run, and files are read under limits.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from runctl.errors import UsageError

MAX_FILES = 5_000
MAX_FILE_BYTES = 1 << 20
MAX_BYTES = 64 << 20
_SKIPPED = {"node_modules", "site-packages", "__pycache__", "venv", "env", "build", "dist", "runs", "wandb", "outputs"}
_TOKEN = re.compile(
    r"""(?P<long>\"\"\".*?(?:\"\"\"|\Z)|'''.*?(?:'''|\Z))"""
    r"""|(?P<quoted>"(?:[^"\\\n]|\\.)*"?|'(?:[^'\\\n]|\\.)*'?)"""
    r"""|(?P<comment>\#[^\n]*)|(?P<name>[^\W\d]\w*)""",
    re.DOTALL,
)
_WORDS = re.compile(r"-{0,2}[\w.\-/]+")
_FIELD = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True)
class Words:
    """`names` are the words of the code's `files` files; `whole` is false where the limits cut some off."""

    names: frozenset[str]
    files: int
    whole: bool


@lru_cache(maxsize=8)
def words(folder: Path) -> Words:
    """The words of every Python file under a folder, read once. Raises UsageError where there is none."""
    if not folder.is_dir():
        raise UsageError(f"--source {folder}: there is no such folder", hint="give the folder of the training code")
    names: set[str] = set()
    files = total = 0
    whole = True
    for path in _files(folder):
        if files >= MAX_FILES or total >= MAX_BYTES:
            whole = False
            break
        try:
            if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
                whole = False
                continue
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            whole = False
            continue
        files, total = files + 1, total + len(text)
        names |= of(text)
    if not files:
        raise UsageError(f"--source {folder}: there is no Python code in it", hint="give the folder of the trainer")
    return Words(frozenset(names), files, whole)


def of(text: str) -> set[str]:
    """The words of one file: its identifiers, and the words of quoted texts that are names or paths of names."""
    found: set[str] = set()
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "name":
            found.add(match[0])
        elif kind == "quoted":
            inner = match[0].strip("\"'")
            if _WORDS.fullmatch(inner):
                found.update(_FIELD.findall(inner.lstrip("-").replace("-", "_")))
            elif "{" in inner:  # an f-string reads what stands in its braces
                found.update(name for part in re.findall(r"\{([^{}]*)\}", inner) for name in _FIELD.findall(part))
    return found


def _files(folder: Path) -> list[Path]:
    found: list[Path] = []
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _SKIPPED)
        found += [Path(root) / name for name in sorted(files) if name.endswith((".py", ".pyi"))]
        if len(found) > 4 * MAX_FILES:
            break
    return found
