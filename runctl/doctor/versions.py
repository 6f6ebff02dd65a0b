"""Versions of installed packages: compared with what is asked for, and with those that are known to go wrong."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runctl import shipped
from runctl.doctor import BAD, OK, WARN, Check
from runctl.gathering import surroundings

_PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?\s*==\s*([\w.+!-]+)")
_NEED = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?\s*\(?([^;)]*)\)?\s*(?:;\s*(.*))?$")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([\w-]+)['\"]")
_SHOWN = 5


def installed(name: str) -> str | None:
    """The version of a package in this environment."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def holds(version: str, bounds: str) -> bool:
    """Whether a version is within bounds, all of them: `>=2, <2.3`, `==1.4`. Only numbers are compared: `2.3.0+cpu`
    is 2.3.0. A bound of another form holds."""
    for bound in filter(None, (part.strip() for part in bounds.split(","))):
        found = re.match(r"(==|>=|<=|!=|~=|<|>)\s*(.+)", bound)
        if not found:
            continue
        sign, wanted = found[1], found[2].strip()
        if sign in ("==", "!=") and wanted.endswith(".*"):
            same = _numbers(version)[: wanted.count(".")] == _numbers(wanted[:-2])[: wanted.count(".")]
            if same != (sign == "=="):
                return False
            continue
        ours, theirs = _padded(version, wanted)
        tests = {"==": ours == theirs, "!=": ours != theirs, ">=": ours >= theirs, "<=": ours <= theirs}
        tests |= {"<": ours < theirs, ">": ours > theirs}
        tests["~="] = ours >= theirs and ours[: wanted.count(".")] == theirs[: wanted.count(".")]
        if not tests[sign]:
            return False
    return True


def needs(project: Path) -> Iterator[Check]:
    """What runctl itself needs, and what each of its extras does."""
    by_extra: dict[str, list[str]] = {}
    for text in importlib.metadata.requires("runctl") or []:
        if not (found := _NEED.match(text)):
            continue
        extra = _EXTRA.search(found[3] or "")
        version = installed(found[1])
        wrong = "not installed" if version is None else "" if holds(version, found[2]) else f"{version} installed"
        by_extra.setdefault(extra[1] if extra else "", [])
        if wrong:
            by_extra[extra[1] if extra else ""].append(f"{found[1]}{found[2].strip()} ({wrong})")
    lacking = by_extra.pop("", [])
    state, advice = (BAD, "install runctl again") if lacking else (OK, "")
    yield Check("environment", "packages", state, ", ".join(lacking) or "all that runctl needs is there", advice)
    by_extra.pop("test", None)
    whole = [name for name, missing in by_extra.items() if not missing]
    parts = [f"{name}: {', '.join(missing)}" for name, missing in by_extra.items() if missing]
    mixed = [name for name, missing in by_extra.items() if any("not installed" not in one for one in missing)]
    seen = f"whole: {', '.join(whole) or 'none'}" + (f"; lacking in {'; in '.join(parts)}" if parts else "")
    advice = f"the extras {', '.join(mixed)} ask for other versions: pip install 'runctl[{mixed[0]}]'" if mixed else ""
    yield Check("environment", "extras", WARN if mixed else OK, seen, advice)


def locked(project: Path) -> Iterator[Check]:
    """Whether this environment is the one that the project's pins describe."""
    kept = "requirements.lock" if (project / "requirements.lock").is_file() else None
    name = surroundings.pins(project) or kept
    if name is None:
        advice = "pin the versions in a lock file, so that the run can be had again"
        yield Check("environment", "pins", WARN, "the project pins no versions", advice)
        return
    lines = (project / name).read_text(encoding="utf-8", errors="replace").splitlines()
    pins = {found[1]: found[2] for line in lines if (found := _PIN.match(line.strip().removeprefix("- ")))}
    if not pins:
        yield Check("environment", "pins", OK, f"{name} (its versions are not compared)")
        return
    other = [
        f"{one} {version}, pinned {pins[one]}" for one in pins if (version := installed(one)) not in (pins[one], None)
    ]
    absent = [one for one in pins if installed(one) is None]
    seen = f"{name}: {len(pins) - len(other) - len(absent)} of {len(pins)} as pinned"
    seen += f"; {_few(other)}" if other else ""
    seen += f"; not installed: {_few(absent)}" if absent else ""
    yield Check("environment", "pins", WARN if other else OK, seen, f"pip install -r {name}" if other else "")


def known_bad(project: Path) -> Iterator[Check]:
    """Installed versions that are known to go wrong (`data/known_bad_versions.yaml`)."""
    entries = shipped.load("known_bad_versions.yaml")
    found = [entry for entry in entries if _is_bad(entry)]
    for entry in found:
        versions = [f"{name} {installed(name)}" for name in (entry["package"], *entry.get("beside", {}))]
        seen = f"{' with '.join(versions)}: {entry['says']} ({'; '.join(entry['sources'])})"
        yield Check("environment", "versions", entry["severity"], seen, entry["fix"])
    if not found:
        yield Check("environment", "versions", OK, f"none of {len(entries)} that are known to go wrong")


def _is_bad(entry: dict[str, Any]) -> bool:
    version = installed(entry["package"])
    beside = [(installed(name), bounds) for name, bounds in entry.get("beside", {}).items()]
    return (
        version is not None
        and any(holds(version, bounds) for bounds in entry["versions"])
        and all(other is not None and holds(other, bounds) for other, bounds in beside)
    )


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _numbers(version: str) -> tuple[int, ...]:
    release = re.match(r"v?(\d+(?:\.\d+)*)", version.strip())
    return tuple(int(part) for part in release[1].split(".")) if release else (0,)


def _padded(one: str, other: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    first, second = _numbers(one), _numbers(other)
    width = max(len(first), len(second))
    return first + (0,) * (width - len(first)), second + (0,) * (width - len(second))
