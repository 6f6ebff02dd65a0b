"""Placeholders in the `command` section, and what stands for them when an attempt starts.

A placeholder is a name in braces and nothing else, `{seed}` or `{training.lr}`: JSON, awk and f-strings with more in
their braces stay as they are, and so do `${HOME}` and an argument of several lines, which is a program. `{{seed}}` is
the text `{seed}`. What stands for a placeholder becomes a part of one argument and is never split or read by a shell.

Apart from `config/`, because the supervisor needs it and neither YAML nor the config's sections.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from runctl.light import pattern

OF_THE_RUN = ("name", "seed", "attempt", "run_dir", "config", "resume", "when_resuming")
RUN_DIR = "{run_dir}/"
_FIELD = pattern(r"\{\{([A-Za-z_][\w.]*)\}\}|(?<!\$)\{([A-Za-z_][\w.]*)\}")


def names(text: str) -> list[str]:
    """The placeholders in a text."""
    return [match[2] for match in _FIELD.finditer(text) if match[2]] if "{" in text and "\n" not in text else []


def fill(text: str, values: Mapping[str, str]) -> str:
    """The text with its placeholders filled; one without a value stays as it is."""
    if "{" not in text or "\n" in text:
        return text
    return _FIELD.sub(lambda match: f"{{{match[1]}}}" if match[1] else values.get(match[2], match[0]), text)


def arguments(section: Mapping[str, Any], argv: list[str], values: Mapping[str, str]) -> list[str]:
    """The argument list of an attempt; `when_resuming` has its place where `values` know a checkpoint (`resume`)."""
    more = [str(part) for part in section.get("when_resuming") or ()] if "resume" in values else []
    if "{when_resuming}" in argv:
        at = argv.index("{when_resuming}")
        whole = [*argv[:at], *more, *argv[at + 1 :]]
    else:
        whole = [*argv, *more]
    return [fill(part, values) for part in whole]


def of_config(config: Mapping[str, Any], texts: list[str]) -> dict[str, str]:
    """What stands for the config's own values in these texts: `{seed}`, and any key by its dotted name."""
    found = {"name": str(config.get("name"))}
    seed = written(look_up(config, "training.seed"))
    found["seed"] = "0" if seed is None else seed
    for name in {name for text in texts for name in names(text)} - set(OF_THE_RUN):
        value = written(look_up(config, name))
        if value is not None:
            found[name] = value
    return found


def written(value: Any) -> str | None:
    """A value as an argument: `true`, `512`, `0.0003`, or its text; None for what is none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None


def look_up(config: Any, name: str) -> Any:
    """The value of a dotted key in an effective config; KeyError's place is taken by `...`."""
    for part in name.split("."):
        if not isinstance(config, Mapping) or part not in config:
            return ...
        config = config[part]
    return config


def place(text: str, values: Mapping[str, str]) -> tuple[bool, list[re.Pattern[str]]]:
    """A pattern of paths as one expression for each name in it, and whether it begins in the run's own folder."""
    own = text.startswith(RUN_DIR)
    parts = [part for part in text.removeprefix(RUN_DIR).split("/") if part not in ("", ".")]
    return own, [_expression(part, values) for part in parts]


def _expression(part: str, values: Mapping[str, str]) -> re.Pattern[str]:
    made = []
    for piece in re.split(r"(\{step\}|\*|\?)", part):
        words = {"{step}": r"(?P<step>\d{1,15})", "*": ".*", "?": "."}
        made.append(words.get(piece) or re.escape(fill(piece, values)))
    return re.compile("".join(made), re.DOTALL)
