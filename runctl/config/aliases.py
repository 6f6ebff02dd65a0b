"""Older spellings that teams' files use, mapped onto today's keys with a note, or refused by name.

Why here and not in the model: an alias is a courtesy to files, not a second name for a thing. After this step
only the names of `RunConfig` exist.
"""

from __future__ import annotations

from typing import Any

from runctl.light import dataclass, field
from runctl.yamldoc import Path

RENAMED: dict[Path, Path] = {
    ("training", "num_epochs"): ("training", "epochs"),
    ("training", "train_split"): ("data", "train_split"),
    ("training", "log_interval"): ("training", "log_every"),
}
UNUSED: dict[Path, str] = {
    ("save_dir",): "checkpoints lie in runs/<run>/checkpoints",
}
ONLY_OFF: dict[Path, str] = {
    ("data", "dataset_dir"): "give the replays to `runctl encode --replays` and set data.encoded",
    ("data", "stage_filter"): "filter the replays before encoding them",
    ("data", "character_filter"): "filter the replays before encoding them",
    ("training", "device"): "",
    ("encoding", "press_events"): "runctl does not encode press events",
    ("encoding", "lookahead"): "runctl predicts the next frame only",
}


@dataclass
class Aliased:
    """`data` with today's keys; `moved` maps a new path to the path that the file used; `dropped`: a setting that
    says nothing was left out."""

    data: dict[str, Any]
    moved: dict[Path, Path] = field(default_factory=dict)
    dropped: bool = False
    notes: list[str] = field(default_factory=list)
    problems: list[tuple[Path, str, str]] = field(default_factory=list)  # path, message, hint


def apply(data: dict[str, Any]) -> Aliased:
    """Rename, drop and refuse old spellings in a copy of `data`."""
    copy = {key: dict(value) if isinstance(value, dict) else value for key, value in data.items()}
    result = Aliased(copy)
    for path, hint in ONLY_OFF.items():
        if not _has(copy, path):
            continue
        value = _get(copy, path)
        if value is None or value in (False, 0):
            result.dropped = True
            _drop(copy, path)
        elif path != ("training", "device"):
            result.problems.append((path, f"{'.'.join(map(str, path))}: {value!r} is not supported", hint))
            _drop(copy, path)
    for path, why in UNUSED.items():
        if _has(copy, path):
            _drop(copy, path)
            result.notes.append(f"{'.'.join(map(str, path))} is not used: {why}")
    for old, new in RENAMED.items():
        if _has(copy, old):
            _move(result, old, new)
    _refuse_several_machines(result)
    _refuse_other_architectures(result)
    return result


def _move(result: Aliased, old: Path, new: Path) -> None:
    data, names = result.data, (".".join(map(str, old)), ".".join(map(str, new)))
    if _has(data, new):
        result.problems.append((old, f"{names[0]} and {names[1]} are one setting, given twice", f"keep {names[1]}"))
        _drop(data, old)
        return
    section = data.setdefault(str(new[0]), {})
    if isinstance(section, dict):
        section[new[1]] = _get(data, old)
        result.moved[new] = old
        result.notes.append(f"{names[0]} is read as {names[1]}")
        _drop(data, old)


def _refuse_several_machines(result: Aliased) -> None:
    """One supervisor and one checkpoint folder lead a run; nothing here starts processes on a second machine."""
    path: Path = ("compute", "nodes")
    if not _has(result.data, path):
        return
    nodes = _get(result.data, path)
    if nodes != 1 or isinstance(nodes, bool):
        message = f"compute.nodes is {str(nodes)[:20]}, but a run is on one machine: one supervisor and one checkpoint "
        hint = "ask for several GPUs of one machine: compute.gpu: NAME:COUNT"
        result.problems.append((path, message + "folder lead it, and nothing starts processes on a second one", hint))
    _drop(result.data, path)


def _refuse_other_architectures(result: Aliased) -> None:
    model = result.data.get("model")
    if not isinstance(model, dict):
        return
    arch = model.get("arch")
    foreign = {"hidden_dim", "trunk_dim"} & set(model)
    if arch == "mamba2" or (arch is None and not foreign):
        return
    name = repr(arch) if arch is not None else f"that has {', '.join(sorted(foreign))}"
    path: Path = ("model", "arch") if arch is not None else ("model", sorted(foreign)[0])
    result.problems.append(
        (path, f"runctl does not train the architecture {name}; known: mamba2", "set model.arch: mamba2")
    )
    for key in [*foreign, "arch"]:
        model.pop(key, None)


def _holder(data: dict[str, Any], path: Path) -> dict[Any, Any]:
    """The section in which a key would stand; an empty one where there is none."""
    node: Any = data
    for key in path[:-1]:
        node = node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else {}


def _has(data: dict[str, Any], path: Path) -> bool:
    return path[-1] in _holder(data, path)


def _get(data: dict[str, Any], path: Path) -> Any:
    return _holder(data, path).get(path[-1])


def _drop(data: dict[str, Any], path: Path) -> None:
    _holder(data, path).pop(path[-1], None)
