"""The project: the nearest `runctl.yaml` upward, its root folder, its policy and its prices."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runctl import prices, yamldoc
from runctl.errors import UsageError, did_you_mean
from runctl.light import dataclass, field

FILE = "runctl.yaml"
KNOWN = ("policy", "prices", "adapters", "waivers", "baseline")


@dataclass(frozen=True)
class Project:
    """`root` is absolute; `policy` overrides named policy values (`runctl rules` lists them); `prices` are USD per
    hour by provider and thing, checked (`runctl/prices.py`). `adapters` and `waivers` are as written, `baseline` names
    a file; `document` is runctl.yaml, for the places of what is wrong in it."""

    root: Path
    file: Path | None = None
    policy: dict[str, Any] = field(default_factory=dict)
    prices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    adapters: Sequence[Any] = ()
    waivers: Sequence[Any] = ()
    baseline: str | None = None
    document: yamldoc.Document | None = field(default=None, repr=False, compare=False)
    kept: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, what: Any, read: Callable[[], Any]) -> Any:
        """What is read from the project's files once for all configs of a call: prices, calibrations."""
        if what not in self.kept:
            self.kept[what] = read()
        return self.kept[what]


def root(config: Path | str | None = None) -> Path:
    """The folder of the nearest `runctl.yaml` above `config`, else above the current folder, else that folder."""
    starts = [Path(os.path.realpath(config)).parent] if config is not None else []
    for start in [*starts, Path.cwd()]:
        for folder in (start, *start.parents):
            if (folder / FILE).exists():
                return folder
    return Path.cwd()


def load(config: Path | str | None = None) -> Project:
    """Read the project's settings; raises UsageError where `runctl.yaml` is not what it must be."""
    folder = root(config)
    file = folder / FILE
    if not file.exists():
        return Project(folder)
    here = Path.cwd()
    document = yamldoc.load(file.relative_to(here) if file.is_relative_to(here) else file)
    data = document.data or {}
    if not isinstance(data, dict) or not isinstance(data.get("policy") or {}, dict):
        raise UsageError(f"{file} must be a mapping with sections: {', '.join(KNOWN)}")
    for key in data:
        if key not in KNOWN:
            hint = did_you_mean(str(key), KNOWN) or f"known: {', '.join(KNOWN)}"
            raise UsageError(f"{file}: unknown key '{key}'", hint=hint)
    for key in ("adapters", "waivers"):
        if not isinstance(data.get(key) or [], list):
            raise UsageError(f"{document.position((key,))}: {key} must be a list")
    baseline = data.get("baseline")
    if baseline is not None and not isinstance(baseline, str):
        raise UsageError(f"{document.position(('baseline',))}: baseline must name a file")
    return Project(
        folder,
        file,
        data.get("policy") or {},
        prices.read(data.get("prices"), document),
        tuple(data.get("adapters") or ()),
        tuple(data.get("waivers") or ()),
        baseline,
        document,
    )
