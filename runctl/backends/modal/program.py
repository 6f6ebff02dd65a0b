"""What can be said before a launch of a program of one's own in a container: it would not find its files, or what it
saves would be lost with the container."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from runctl import record
from runctl.backends.modal import shipping
from runctl.errors import ProviderError
from runctl.placeholders import RUN_DIR
from runctl.units import counted

if TYPE_CHECKING:
    from runctl.backends.modal.shipping import Shipment
    from runctl.config import RunConfig
    from runctl.config.model import Command

_SHOWN = 5


def check(config: RunConfig, code: Shipment, run_dir: Path, attempt: int) -> list[str]:
    """What is to be said of it; raises ProviderError for what could not go well there."""
    section = config.command
    assert section is not None
    if section.checkpoints is not None and not section.checkpoints.path.startswith(RUN_DIR):
        raise ProviderError(
            f"command.checkpoints is {section.checkpoints.path}, and of a container only what lies below the run's "
            "folder is kept",
            hint=f"let the program save below it, and write: checkpoints: '{RUN_DIR}{section.checkpoints.path}'",
        )
    words, project = [*section.argv, *section.when_resuming], os.path.realpath(code.project)
    inside = [word for word in words if word.startswith((f"{project}/", f"{code.project}/"))]
    if inside:
        hint = "write it relative to the project, or to command.cwd"
        raise ProviderError(f"command.argv names {inside[0]}: in a container the project lies elsewhere", hint=hint)
    if missing := shipping.absent(code, section.cwd or ".", words):
        hint = f".gitignore or {shipping.IGNORE} leaves it out (what is sent: runctl launch --dry-run); data belong on "
        hint += "the volume: modal volume put, and below /vol for the program"
        raise ProviderError(f"command.argv names {missing[0]}, which is here and would not be sent", hint=hint)
    notes = [f"the project's code is sent: {shipping.words(code)} (all of it: --dry-run)"]
    if code.left_out:
        names = [name for name, _ in code.left_out]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        notes.append(f"not sent: {', '.join(names[:_SHOWN])}{more}: {_reasons(code)}")
    if os.path.isabs(section.argv[0]):
        notes.append(f"command.argv begins with {section.argv[0]}: it has to be in the image")
    return notes + _since(section, code, run_dir, attempt)


def _reasons(code: Shipment) -> str:
    return "; ".join(dict.fromkeys(why for _, why in code.left_out))


def _since(section: Command, code: Shipment, run_dir: Path, attempt: int) -> list[str]:
    """Of a resume: which files are others than those that went with the attempt before. Raises ProviderError where the
    program itself is not here."""
    run = record.RunDir(run_dir)
    earlier = (record.read_object(one.sent) for one in reversed(run.attempts()) if one.number < attempt)
    before = next((sent for sent in earlier if sent), {})
    known = before.get("files")
    if not isinstance(known, dict):
        return []
    words = [*section.argv, *section.when_resuming]
    if gone := [word for word in words if word in known and not (Path(code.project) / word).exists()]:
        raise ProviderError(
            f"command.argv names {gone[0]}, which went with the attempt before and is not in {code.project}",
            hint="resume it where its code is",
        )
    names = shipping.changed(known, shipping.digests(code))
    if not names:
        return []
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [f"{counted(len(names), 'file')} of its code changed since then: {', '.join(names[:_SHOWN])}{more}"]
