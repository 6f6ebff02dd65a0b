"""The folder that a config writes to: does it say which run it is, and is something in it already?"""

from __future__ import annotations

import os
import posixpath
from pathlib import Path

from runctl.facts import Facts, NotChecked
from runctl.light import pattern

GENERAL = frozenset((
    "out", "output", "outputs", "result", "results", "run", "runs", "exp", "exps", "experiment", "experiments", "log",
    "logs", "ckpt", "ckpts", "checkpoint", "checkpoints", "model", "models", "artifact", "artifacts", "save", "saved",
    "saves", "tmp", "temp", "work_dir", "workdir", "work_dirs", "train", "training", "workspace", "data", "home", "mnt",
    "content", "default", "test", "debug", "",
))  # fmt: skip
_OPEN = pattern(r"[${}%<>]")


def general(folder: str) -> bool:
    """Whether every part of a path is a word that any run could use: `outputs`, `./results/checkpoints`."""
    parts = [part for part in posixpath.normpath(folder.strip()).split("/") if part not in (".", "..", "~")]
    return all(part.lower() in GENERAL for part in parts)


def open_part(text: str) -> bool:
    """Whether a text holds a variable that something fills in."""
    return bool(_OPEN.search(text))


def entries(facts: Facts) -> tuple[int, str]:
    """How many entries the output folder has (0: it is not there, or empty), and its path. Raises NotChecked where it
    lies outside the project or has parts that are filled in later."""
    folder = facts.need("run.output")
    if open_part(folder):
        raise NotChecked(f"{facts.key('run.output')} is filled in at launch")
    if facts.project is None:
        raise NotChecked("there is no project to look in")
    root = facts.project.root.resolve()
    try:
        path = (root / folder).resolve()
        if not path.is_relative_to(root) or path == root:
            raise NotChecked(f"{folder} is outside the project")
        return _count(path), str(path.relative_to(root))
    except (OSError, ValueError):
        raise NotChecked(f"{folder} cannot be looked into") from None


def _count(path: Path) -> int:
    try:
        with os.scandir(path) as found:
            return sum(1 for entry in found if not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return 0
