"""What an attempt of a program of one's own is started with: its arguments, its folder and its environment, with the
placeholders of `command` filled. Nothing passes through a shell, and what is filled in stays one argument."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from runctl import placeholders, record
from runctl.fields import text, whole
from runctl.supervisor import kept


def request(
    run: record.RunDir, number: int, content: Mapping[str, Any], env: Mapping[str, str]
) -> tuple[list[str], Path, dict[str, str]]:
    """Arguments, folder and environment of an attempt of the run whose content (`record.content`) is given."""
    config = content.get("config")
    config = config if isinstance(config, dict) else {}
    found = config.get("command")
    section: dict[str, Any] = found if isinstance(found, dict) else {}
    argv = [str(part) for part in content.get("command") or section.get("argv") or ()]
    own = section.get("env")
    variables = {str(name): str(value) for name, value in own.items()} if isinstance(own, dict) else {}
    folder, more = text(section, "cwd") or ".", section.get("when_resuming")
    texts = [*argv, *variables.values(), folder, *(map(str, more) if isinstance(more, list) else ())]
    values = placeholders.of_config(config, texts)
    values |= {"name": run.name, "attempt": str(number), "run_dir": str(run.path), "config": str(run.config)}
    if resume := _resume(run, number):
        values["resume"] = resume
        variables = {"RUNCTL_RESUME": resume, **variables}
    if any("config" in placeholders.names(one) for one in texts):
        record.write_json(run.config, config)
    project = Path(str(content.get("project") or Path.cwd()))
    filled = {name: placeholders.fill(value, values) for name, value in variables.items()}
    return placeholders.arguments(section, argv, values), project / placeholders.fill(folder, values), {**env, **filled}


def preview(run_dir: Path, content: Mapping[str, Any], number: int) -> tuple[list[str], str]:
    """Arguments and folder as an attempt would have them; nothing is written."""
    section = content["config"]["command"]
    argv, folder = [str(part) for part in section["argv"]], section.get("cwd") or "."
    values = placeholders.of_config(content["config"], [*argv, *(section.get("when_resuming") or ()), folder])
    run = record.RunDir(run_dir)
    values |= {"name": run.name, "attempt": str(number), "run_dir": str(run_dir), "config": str(run.config)}
    if number > 1 and (entry := kept.newest(run)[0]):
        values["resume"] = str(kept.place(run, entry))
    return placeholders.arguments(section, argv, values), placeholders.fill(folder, values)


def _resume(run: record.RunDir, number: int) -> str | None:
    """The newest whole checkpoint for an attempt that goes on; where it goes on is put on record for status."""
    if number < 2:
        return None
    entry, passed = kept.newest(run)
    if entry is None and not passed:
        return None
    rows = [{"checkpoint": str(row["path"]), "why": f"checkpoint {row['path']}: {why}"} for row, why in passed]
    step, name = (whole(entry, "step") or 0, str(entry["path"])) if entry else (0, None)
    with suppress(OSError):  # a full disk is told of elsewhere
        record.write_json(
            run.attempt(number).resumed,
            {"schema_version": record.SCHEMA_VERSION, "step": step, "checkpoint": name, "passed_over": rows},
        )
    return os.path.abspath(kept.place(run, entry)) if entry else None
