"""The project: the nearest `runctl.yaml` upward, its root folder, its policy and its prices."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runctl import prices, yamldoc
from runctl.errors import UsageError, did_you_mean
from runctl.light import dataclass, field
from runctl.notices import targets

FILE = "runctl.yaml"
KNOWN = ("policy", "prices", "budget", "adapters", "waivers", "baseline", "notices", "share", "modal")
_MOST_USD = 1e12


@dataclass(frozen=True)
class Project:
    """`root` is absolute; `policy` overrides named policy values (`runctl rules` lists them); `prices` are USD per
    hour by provider and thing, checked (`runctl/prices.py`). `adapters` and `waivers` are as written, `baseline` names
    a file; `document` is runctl.yaml, for the places of what is wrong in it.
    `notices` are who is told of runs; `shared`: the group may read them; `total_usd` is what all runs may cost.
    `modal` is as written, read by `runctl/backends/modal/place.py`."""

    root: Path
    file: Path | None = None
    policy: dict[str, Any] = field(default_factory=dict)
    prices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    adapters: Sequence[Any] = ()
    waivers: Sequence[Any] = ()
    baseline: str | None = None
    document: yamldoc.Document | None = field(default=None, repr=False, compare=False)
    kept: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)
    notices: Sequence[targets.Target] = ()
    shared: bool = False
    total_usd: float | None = None
    modal: Any = field(default_factory=dict)

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
    if data.get("share", "group") != "group":
        hint = "leave it out to share nothing"
        raise UsageError(f"{document.position(('share',))}: share can only be group", hint=hint)
    return Project(
        folder,
        file,
        data.get("policy") or {},
        prices.read(data.get("prices"), document),
        tuple(data.get("adapters") or ()),
        tuple(data.get("waivers") or ()),
        baseline,
        document,
        notices=targets.read(data.get("notices"), document),
        shared="share" in data,
        total_usd=_total_usd(data.get("budget"), document),
        modal=data.get("modal") or {},
    )


def _total_usd(raw: Any, document: yamldoc.Document) -> float | None:
    """`budget: {total_usd: 200}`; raises UsageError with file, line and column."""
    hint = "write: budget: {total_usd: 200}"
    if raw is None:
        return None
    if not isinstance(raw, dict) or set(raw) - {"total_usd"}:
        where = document.position(("budget",))
        raise UsageError(f"{where}: the budget of a project has one key, total_usd", hint=hint)
    usd = raw.get("total_usd")
    if usd is None:
        return None
    if isinstance(usd, bool) or not isinstance(usd, int | float) or not 0 <= usd <= _MOST_USD:
        where = document.position(("budget", "total_usd"))
        raise UsageError(f"{where}: budget.total_usd is {str(usd)[:40]}, no amount of USD", hint=hint)
    return float(usd)
