"""A recipe → `modal.Image`. The only thing done here is to call the client's methods by the steps' names."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runctl.backends.modal.recipe import Step

_NOT_SENT = ("**/__pycache__", "**/*.pyc")
_LEFT = ("__pycache__", "*.pyc")


def build(steps: Sequence[Step], source: Sequence[str], staged: Path | None = None, code: str | None = None) -> Any:
    """The image of a recipe, with the Python packages of `source` mounted last, so that a changed line of theirs
    rebuilds nothing. Nothing is sent yet. Their data files go too: by itself the client sends none but `*.py`.

    `staged` is a folder with copies of them: the client refuses a file that changes while it is sent. `code` names the
    folder in it that holds what of the project goes along."""
    import modal

    image: Any = modal.Image
    for step in steps:
        image = getattr(image, step.do)(*step.words, **step.options)
    if staged is None:
        return image.add_local_python_source(*source, ignore=list(_NOT_SENT))
    for name in source:
        image = image.add_local_dir(staged / name, f"/root/{name}", ignore=list(_NOT_SENT))
    if code is not None:
        image = image.add_local_dir(staged / code, f"/root/{code}")
    return image


def stage(source: Sequence[str], folder: Path) -> Path:
    """Copy packages that are installed here into a folder, as they are now."""
    for name in source:
        found = importlib.util.find_spec(name)
        if found is None or not found.submodule_search_locations:
            raise ModuleNotFoundError(f"no package {name}")
        left = shutil.ignore_patterns(*_LEFT)
        shutil.copytree(found.submodule_search_locations[0], folder / name, ignore=left, copy_function=shutil.copyfile)
    return folder
