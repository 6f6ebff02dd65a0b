"""Why a fact of another trainer's config is unknown, in words that a person can act on.

No config of another trainer says `compute.backend`; whoever checks it can. What is asked for is never the name of a
fact that nobody could write or give.
"""

from __future__ import annotations

NOT_SAID = " is not said ("
NOT_WRITTEN, NOT_FOUND, NO_WORD = "the config does not say ", "no key was recognised as ", " gives no "
_GIVEN = {
    "compute.backend": "where it runs is not said (--set compute.backend=modal)",
    "compute.timeout": "its time limit is not said (--set compute.timeout=24h)",
    "compute.memory": "the host's memory is not said (--set compute.memory=64GiB)",
    "compute.disk": "the room on its disk is not said (--set compute.disk=500GiB)",
    "budget.max_cost_usd": "its budget is not said (--set budget.max_cost_usd=50)",
    "budget.max_hours": "its budget of hours is not said (--set budget.max_hours=24)",
    "data.samples": "how many examples the data holds is not said (--set data.samples=N)",
    "data.loaded_bytes": "what the data take in memory is not said (--set data.loaded_bytes=8GiB)",
    "compute.gpu": "no GPU is named: --gpu NAME[:N]",
    "calibration.before": "whether the like has run before is known of runctl's own runs only",
}
_FOLLOWS = {"model.flops": "model.parameters", "model.precision": "training.precision"}
_SETTABLE = (
    "training.", "data.", "checkpoint.", "compute.", "budget.", "tracking.", "declares.", "run.", "model.names",
)  # fmt: skip


def follows(name: str) -> str | None:
    """The fact whose reason is also that of `name`, which no config says itself."""
    return _FOLLOWS.get(name)


def why(name: str, key: str | None, dialect: str) -> str:
    """Why a config has no such fact; `key` is how the dialect spells it, None where it has no word for it."""
    if name in _GIVEN:
        return _GIVEN[name]
    if key is not None:
        return f"{NOT_FOUND if dialect == 'generic' else NOT_WRITTEN}{key}"
    if name.startswith(_SETTABLE):
        return f"the adapter {dialect}{NO_WORD}{name}"
    return "it is not known of other trainers' configs"
