"""Globs of `runctl.yaml`: which files, by their path from the project's root.

`*` and `?` stay within a folder, `**` does not; `configs/` means all that is in it.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

MOST = 20_000
_PRUNED = ("runs", "node_modules", "__pycache__")


def fits(relative: str, glob: str) -> bool:
    """Whether a path (from the root, with forward slashes) is one of the glob's."""
    return bool(pattern(glob).fullmatch(relative))


@cache
def pattern(glob: str) -> re.Pattern[str]:
    glob = glob.removeprefix("./")
    glob += "**" if glob.endswith("/") else ""
    parts = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", glob)
    return re.compile("".join(parts.get(piece, re.escape(piece)) for piece in pieces))


def judged_whole(glob: str, root: Path, checked: set[str], listed: dict[Path, list[str]] | None = None) -> bool:
    """Whether every file that the glob could mean was among `checked` (paths from the root): those of it that exist,
    and, where none does, all config files of the nearest folder that does exist, at least one. A call that was given
    one file says nothing of a glob that means others too. `listed` keeps what folders hold, for the next glob."""
    folder = _existing(glob, root)
    files = listed.get(folder) if listed is not None else None
    if files is None:
        files = _files(folder, root)
        if listed is not None:
            listed[folder] = files
    meant = [file for file in files if fits(file, glob)] or files
    return 0 < len(files) < MOST and all(file in checked for file in meant)


def _existing(glob: str, root: Path) -> Path:
    """The deepest folder that the glob names without a wildcard and that is there."""
    literal = re.split(r"[*?]", glob.removeprefix("./"), maxsplit=1)[0]
    folder = root / literal
    folder = folder if literal.endswith("/") else folder.parent
    while not folder.is_dir() and folder != root and folder != folder.parent:
        folder = folder.parent
    return folder


def _files(folder: Path, root: Path) -> list[str]:
    """The config files below a folder, as a preflight of it would find them, at most `MOST`."""
    base = f"{root}{os.sep}"
    found: list[str] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _PRUNED]
        paths = (f"{place}{os.sep}{name}" for name in names if _config(name))
        found += [path.removeprefix(base).replace(os.sep, "/") for path in paths]
        if len(found) >= MOST:
            return found[:MOST]
    return found


def _config(name: str) -> bool:
    return name.endswith((".yaml", ".yml")) and name != "runctl.yaml" and not name.startswith(".")
