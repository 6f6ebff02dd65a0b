"""What is wrong with a `command` section, beyond its types: placeholders, patterns, and where it saves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from runctl.errors import did_you_mean
from runctl.placeholders import OF_THE_RUN, RUN_DIR, look_up, names, written
from runctl.yamldoc import Path

if TYPE_CHECKING:
    from runctl.config.model import Command, RunConfig

_MOST_STARS = 8
Problems = Iterator[tuple[Path, str, str | None]]


def problems(config: RunConfig) -> Problems:
    """What is wrong with a config's `command` section, beyond its types: (path, message, hint)."""
    section = config.command
    if section is None:
        return
    yield from _placeholders(section, config)
    if section.checkpoints is not None:
        yield from _place(section.checkpoints.path)
        if (done := section.checkpoints.done) is not None and (not done or "/" in done or ".." in done):
            yield ("command", "checkpoints", "done"), f"command.checkpoints.done: {done[:60]!r} is no file's name", None
    if section.progress is not None:
        from runctl.output import presets, template  # not for the many configs without

        for index, text in enumerate(section.progress.patterns):
            try:
                _ = text in presets.PRESETS or template.compiled(text)
            except template.Bad as error:
                where: Path = ("command", "progress", index)
                yield where, f"command.progress.patterns[{index}]: {error}", error.hint


def _placeholders(section: Command, config: RunConfig) -> Problems:
    given: list[tuple[Path, str]] = [(("command", "argv", index), text) for index, text in enumerate(section.argv)]
    given += [(("command", "when_resuming", index), text) for index, text in enumerate(section.when_resuming)]
    given += [(("command", "env", name), text) for name, text in section.env.items()]
    given += [(("command", "cwd"), section.cwd)] if section.cwd else []
    if not any("{" in text for _, text in given):
        return
    effective = config.model_dump(mode="json")
    for path, text in given:
        for name in names(text):
            shown = f"command.{path[1]}" + (f"[{path[2]}]" if len(path) > 2 else "")
            if wrong := _wrong(name, str(path[1]), text, effective):
                yield path, f"{shown}: {wrong[0]}", wrong[1]


def _wrong(name: str, key: str, text: str, config: Mapping[str, Any]) -> tuple[str, str] | None:
    if name == "resume" and key != "when_resuming":
        hint = 'write it as command.when_resuming: [--resume, "{resume}"]; "{when_resuming}" says where in argv'
        return "'{resume}' has no value on the first attempt", hint
    if name == "when_resuming" and (key != "argv" or text != "{when_resuming}"):
        return "'{when_resuming}' stands for whole arguments", "give it as an entry of argv, alone"
    if name in OF_THE_RUN:
        return None
    value = look_up(config, name)
    if value is ...:
        known = [*OF_THE_RUN, *leaves(config)]
        near = did_you_mean(name, known)
        itself = f" (for the text itself: {{{{{name}}}}})"
        hint = (near or f"known: {_known()}, and the config's keys such as {{training.lr}}") + itself
        return f"unknown placeholder '{{{name}}}'", hint
    if value is None:
        return f"'{{{name}}}' has no value in this config", f"set {name}"
    if written(value) is None:
        return (
            f"'{{{name}}}' is a {'list' if isinstance(value, list) else 'section'}, not one value",
            "name one of its keys",
        )
    return None


def leaves(config: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """The dotted names of all single values."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}"


def _known() -> str:
    return ", ".join(f"{{{name}}}" for name in OF_THE_RUN)


def _place(text: str) -> Problems:
    """A pattern of paths that could leave its folder, or names none."""
    where: Path = ("command", "checkpoints", "path")
    rest = text.removeprefix(RUN_DIR)
    hint = 'give a path within its working folder, or begin it with "{run_dir}/": out/ckpt-{step}.pt'
    said = f"command.checkpoints: {text[:80]!r}"
    if rest.startswith(("/", "~")) or ".." in rest.split("/"):
        yield where, f"{said} leaves the folder of the program", hint
    elif "**" in rest or rest.count("*") > _MOST_STARS or not rest.strip("/."):
        yield where, f"{said} is no pattern of paths", "* stands for any letters of one name, {step} for the step"
    elif rest.count("{step}") > 1:
        yield where, f"{said} names {{step}} twice", None
    elif odd := [name for name in names(rest) if name not in ("step", "name", "seed")]:
        yield (
            where,
            f"{said}: '{{{odd[0]}}}' does not stand here",
            "known: {step}, {name}, {seed}, and {run_dir}/ in front",
        )
