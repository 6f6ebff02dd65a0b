"""What the live tests run in containers: standard library and modal only."""

from __future__ import annotations

import os
import time


def nothing() -> str:
    return "done"


def linger(volume: str, path: str) -> None:
    """A second line for each second that it lives on after its cancellation."""
    import modal

    place = f"/vol/{path}"
    os.makedirs(os.path.dirname(place), exist_ok=True)

    def add(line: str) -> None:
        with open(place, "a") as file:
            file.write(line + "\n")
        modal.Volume.from_name(volume).commit()

    add("begun")
    try:
        time.sleep(100)
    except BaseException as error:
        for second in range(45):
            add(f"{type(error).__name__} {second}")
            time.sleep(1)
        raise


def link(volume: str, folder: str) -> str:
    """Whether a link can be made, committed and read."""
    import modal

    os.makedirs(f"/vol/{folder}", exist_ok=True)
    try:
        with open(f"/vol/{folder}/file", "w") as file:
            file.write("text")
        os.symlink("file", f"/vol/{folder}/link")
        modal.Volume.from_name(volume).commit()
        with open(f"/vol/{folder}/link") as file:
            return f"made and read: {file.read()}"
    except OSError as error:
        return f"{type(error).__name__}: {error}"
