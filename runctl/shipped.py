"""The YAML files that runctl brings (`data/`): written and read by people, loaded as the JSON that was made of them.

    python -m runctl.shipped          makes `data/compiled/*.json` anew

Parsing the catalogue's YAML takes 11 ms, a tenth of a whole preflight; its JSON takes 0.3 ms. The JSON holds a
checksum of the YAML that it was made of: where that no longer fits, the YAML itself is read, so that an edit always
counts. A test says when it is time to make the JSON anew.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
COMPILED = DATA / "compiled"


def load(name: str) -> Any:
    """The data of one shipped YAML file: `hardware.yaml`, `adapters/generic.yaml`."""
    raw = (DATA / name).read_bytes()
    try:
        made = json.loads(_file(name).read_bytes())
        if made["crc32"] == zlib.crc32(raw):
            return _unpacked(made["data"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    from runctl import yamldoc  # which the supervisor and a list of runs do without

    return yamldoc.parse(raw.decode("utf-8"), name).data


def names() -> list[str]:
    """Every shipped YAML file."""
    return sorted(path.relative_to(DATA).as_posix() for path in DATA.rglob("*.yaml"))


def stale() -> list[str]:
    """The JSON files that are missing, are not of today's YAML, or are of none."""
    wanted = {_file(name): _text(name) for name in names()}
    changed = [file for file, text in wanted.items() if not file.exists() or file.read_text("utf-8") != text]
    return sorted(file.name for file in (*changed, *set(COMPILED.glob("*.json")) - set(wanted)))


def make() -> list[str]:
    """Write the JSON of every file; returns the names of those that changed."""
    COMPILED.mkdir(exist_ok=True)
    changed = stale()
    for name in names():
        if _file(name).name in changed:
            _file(name).write_text(_text(name), encoding="utf-8")
    for file in set(COMPILED.glob("*.json")) - set(map(_file, names())):
        file.unlink()
    return changed


def _file(name: str) -> Path:
    return COMPILED / f"{name.replace('/', '-').removesuffix('.yaml')}.json"


def _text(name: str) -> str:
    raw = (DATA / name).read_bytes()
    from runctl import yamldoc

    data = yamldoc.parse(raw.decode("utf-8"), name).data
    made = {"from": name, "crc32": zlib.crc32(raw), "data": _packed(data)}
    return json.dumps(made, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def _packed(data: Any) -> Any:
    """Data as JSON can hold it: a mapping with keys that are no text is a list of pairs under the empty key."""
    if isinstance(data, dict):
        if all(isinstance(key, str) and key for key in data):
            return {key: _packed(value) for key, value in data.items()}
        return {"": [[key, _packed(value)] for key, value in data.items()]}
    return [_packed(item) for item in data] if isinstance(data, list) else data


def _unpacked(data: Any) -> Any:
    if isinstance(data, dict):
        if "" in data:
            return {key: _unpacked(value) for key, value in data[""]}
        return {key: _unpacked(value) for key, value in data.items()}
    return [_unpacked(item) for item in data] if isinstance(data, list) else data


if __name__ == "__main__":
    print("\n".join(make()) or "nothing changed")
