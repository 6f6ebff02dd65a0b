"""How a step speaks to GitHub Actions: annotations, outputs, the summary, and the event that started the workflow."""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Environment = Mapping[str, str]


def say(level: str, message: str) -> None:
    """An annotation without a place: `notice`, `warning` or `error`."""
    text = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    print(f"::{level} title=runctl::{text}", flush=True)


@contextlib.contextmanager
def no_commands() -> Iterator[None]:
    """What is printed inside is text, even where a line of a config looks like a workflow command."""
    word = secrets.token_hex(16)
    print(f"::stop-commands::{word}", flush=True)
    try:
        yield
    finally:
        sys.stdout.flush()
        print(f"::{word}::", flush=True)


def put(environment: Environment, values: Mapping[str, str]) -> None:
    """Set the step's outputs; each on one line."""
    _append(
        environment.get("GITHUB_OUTPUT"), "".join(f"{key}={' '.join(value.split())}\n" for key, value in values.items())
    )


def summarise(environment: Environment, text: str) -> None:
    """Add to the page that GitHub shows of the run."""
    _append(environment.get("GITHUB_STEP_SUMMARY"), text if text.endswith("\n") else f"{text}\n")


def event(environment: Environment) -> dict[str, Any]:
    """The event that started the workflow; empty where there is none."""
    try:
        found = json.loads(Path(environment["GITHUB_EVENT_PATH"]).read_text(encoding="utf-8"))
    except (KeyError, OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def at(data: Any, *keys: str) -> Any:
    """A value deep in the event; None where any part of the way is missing."""
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _append(file: str | None, text: str) -> None:
    if file:
        with Path(file).open("a", encoding="utf-8") as stream:
            stream.write(text)
