"""Prices as the provider itself states them now, for `runctl gpus --live`.

Modal: its client (1.5.4 and later) prints the rates of the workspace with `modal billing rates --json`, USD per hour
under names such as `gpu_hour_cost_a100_80gb`, `cpu_hour_cost` and `mem_gib_hour_cost`. The names are the server's and
are documented nowhere: they were seen in public repositories, and this project has tried none of it with an account.
A GPU's bare name is taken where the figure can be its price of an hour. What has another name is said, not guessed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from runctl import hardware, prices, record
from runctl.errors import ProviderError, UsageError

SECONDS = 60.0  # Modal's client gives up on an unreachable server after about 57
OWN_PRICES = "or write your prices into runctl.yaml: prices: {modal: {A100-80GB: 2.50}}"
_BESIDES = {"cpu_hour_cost": "cpu_core_hour", "mem_gib_hour_cost": "gib_hour"}
_GPU = "gpu_hour_cost_"
_ALSO = {"A10G": ("A10G", "A10")}  # Modal's A10 has the name of the A10G there


@dataclass(frozen=True)
class Refreshed:
    """What was read: USD per hour by thing, the names that are not known here, and where it was kept."""

    usd_per_hour: dict[str, float]
    unknown: list[str]
    file: Path


def refresh(project: Path, provider: str = "modal") -> Refreshed:
    """Read the provider's prices and keep them for estimates. Raises ProviderError where it cannot be asked."""
    found, unknown = read(_ask())
    file = prices.live_file(project, provider)
    file.parent.mkdir(parents=True, exist_ok=True)
    today = date.today().isoformat()
    about = {"schema_version": 1, "source": "Modal's rates for this workspace", "read": today}
    record.write_json(file, {**about, "usd_per_hour": found})
    return Refreshed(found, unknown, file)


def read(data: Any) -> tuple[dict[str, float], list[str]]:
    """(USD per hour by the catalogue's names, names that are not known); raises ProviderError where nothing of it is
    a price."""
    found: dict[str, float] = {}
    unknown: list[str] = []
    for key, value in data.items() if isinstance(data, dict) else ():
        try:
            given = prices.usd(float(value))
            names = _names(str(key)) or _bare(str(key), given)
        except (TypeError, ValueError):
            names = ()
        found.update(dict.fromkeys(names, given) if names else {})
        unknown += [] if names else [str(key)]
    if not found:
        raise ProviderError("modal billing rates answered with nothing that this version knows", hint=OWN_PRICES)
    return found, sorted(unknown)


def _names(key: str) -> tuple[str, ...]:
    if key in _BESIDES:
        return (_BESIDES[key],)
    if not key.startswith(_GPU):
        return ()
    try:
        name = hardware.find(key.removeprefix(_GPU)).name
    except UsageError:
        return ()
    return _ALSO.get(name, (name,))


def _bare(key: str, usd: float) -> tuple[str, ...]:
    """A GPU's name without more, if the figure can be its price of an hour: within four times the list price."""
    try:
        gpu = hardware.find(key)
    except UsageError:
        return ()
    listed = gpu.prices.get("modal")
    plausible = listed is not None and listed.usd_per_hour / 4 <= usd <= listed.usd_per_hour * 4
    return (gpu.name,) if plausible else ()


def _ask() -> Any:
    client = shutil.which("modal")
    if client is None:
        raise ProviderError(
            "live prices are read through Modal's client (1.5.4 or later), which is not installed here",
            hint=f"pip install modal and modal setup, then runctl gpus --live; {OWN_PRICES}",
        )
    command = [client, "billing", "rates", "--json"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise ProviderError(f"modal billing rates did not answer within {SECONDS:.0f} s", hint=OWN_PRICES) from None
    except OSError as error:
        raise ProviderError(f"modal cannot be run: {error.strerror}", hint=OWN_PRICES) from None
    if done.returncode:
        words = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        last = words[-1][:200] if words else f"exit code {done.returncode}"
        raise ProviderError(f"modal billing rates failed: {last}", hint=f"try: modal token info; {OWN_PRICES}")
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise ProviderError("modal billing rates did not answer with JSON", hint=OWN_PRICES) from None
