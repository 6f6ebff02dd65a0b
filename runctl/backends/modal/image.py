"""A recipe → `modal.Image`. The only thing done here is to call the client's methods by the steps' names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runctl.backends.modal.recipe import Step

_NOT_SENT = ("**/__pycache__", "**/*.pyc")


def build(steps: Sequence[Step], source: Sequence[str]) -> Any:
    """The image of a recipe, with the Python packages of `source` mounted last, so that a changed line of theirs
    rebuilds nothing. Nothing is sent yet. Their data files go too: by itself the client sends none but `*.py`."""
    import modal

    image: Any = modal.Image
    for step in steps:
        image = getattr(image, step.do)(*step.words, **step.options)
    return image.add_local_python_source(*source, ignore=list(_NOT_SENT))
