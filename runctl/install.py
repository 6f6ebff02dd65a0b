"""How the packages of an extra are installed, in the words that are right for the way runctl itself was installed."""

from __future__ import annotations

import importlib.metadata
import json
import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit


def hint(*extras: str) -> str:
    """`pip install 'runctl[train]'`, or with the path of the clone that runctl runs from."""
    wanted = f"[{','.join(extras)}]"
    source = _source()
    if source is None:
        return f"pip install {shlex.quote('runctl' + wanted)}"
    editable, place = source
    return f"pip install {'-e ' * editable}{shlex.quote(place + wanted)}"


def _source() -> tuple[bool, str] | None:
    """(whether it is editable, the folder) that runctl was installed from; None for a package of an index."""
    clone = Path(__file__).parent.parent
    if (clone / "pyproject.toml").is_file():
        return True, str(clone)
    try:
        text = importlib.metadata.distribution("runctl").read_text("direct_url.json")
        about = json.loads(text) if text else None
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None
    if not isinstance(about, dict) or "dir_info" not in about:
        return None
    place = unquote(urlsplit(str(about.get("url"))).path)
    return (bool(about["dir_info"].get("editable")), place) if Path(place).is_dir() else None
