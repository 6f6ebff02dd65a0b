"""An adapter for a config, as YAML to be checked by a person: what was read, and a guess for what was not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from runctl.adapt import Adapted, Unread
from runctl.adapters import vocabulary
from runctl.adapters.spec import Take, normal
from runctl.adapters.vocabulary import WORDS
from runctl.config.every import Every

_PLAIN = re.compile(r"[A-Za-z_][\w./-]*")
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "none", "never"})
MAX_CONTAINS = 6
_DEFAULTS = ("# defaults:", "#   checkpoint.every: never", "#   compute.gpu: A100-80GB:2")
_LAUNCH = ('# launch: [python, train.py, --config, "{config}"]',)


def adapter(adapted: Adapted, name: str = "ours") -> str:
    """The text of an adapter file. Where no dialect knew the config, each fact that was found is taken by its exact key
    path; where one did, it is extended. A key that nobody reads and that resembles a known word is a guess, marked so.
    """
    lines = [
        f"# Proposed for {adapted.path} by runctl adapt. Check every line: what is wrong here is checked wrongly.",
        "# Name this file under `adapters:` in runctl.yaml.",
        f"name: {_scalar(name)}",
        f"match: [{_scalar(adapted.match)}]",
    ]
    lines += [f"extends: {adapted.extends}  # all that it reads is read as before"] if adapted.extends else []
    taken = adapted.taken.items()
    facts = [f"  {_fact(fact, adapted)}: {_source(key, take, value)}" for fact, (key, take, value) in taken]
    facts = [*([] if adapted.extends else facts), *_guesses(adapted)]
    lines += ["facts:", *facts] if any(not line.startswith("#") for line in facts) else ["# facts:", *facts]
    lines += [
        "# What the trainer does where a config does not say it, and the hardware where no config has it:",
        *_DEFAULTS,
    ]
    lines += ["# The command that starts the trainer, for people to read:", *_LAUNCH]
    return "\n".join(lines) + "\n"


def _fact(fact: str, adapted: Adapted) -> str:
    """A rate that was taken for one of several is the rate where there is no other."""
    return "training.lr" if fact == "training.lrs" and "training.lr" not in adapted.taken else fact


def _guesses(adapted: Adapted) -> Iterator[str]:
    """The first guess for each fact, and the others as comments."""
    given = set(adapted.taken)
    for one in adapted.unread:
        if one.guess is None:
            continue
        cadence = WORDS[one.guess].parse is vocabulary.cadence and not isinstance(one.value, str)
        line = f"  {one.guess}: {_value({'key': one.key, 'unit': 'steps'}) if cadence else _scalar(one.key)}"
        same = normal(_last(one)) == one.resembles
        because = "as others write it" if same else f"{_last(one)} resembles {one.resembles}"
        yield f"{line}  # a guess: {because}" if one.guess not in given else f"# {line}"
        given.add(one.guess)


def _last(one: Unread) -> str:
    return one.key.rpartition(".")[2]


def _source(key: str, take: Take, value: Any) -> str:
    """How the source is written: the key path alone, or a mapping with what changes its meaning."""
    more: dict[str, Any] = {}
    if isinstance(value, Every) and take.unit and take.unit not in ("share", "per_epoch"):
        more["unit"] = "epochs" if value.epochs is not None else "seconds" if value.seconds is not None else "steps"
    elif take.unit and take.unit != "counted":
        more["unit"] = take.unit
    for name in ("factor", "least", "below"):
        if (bound := getattr(take, name)) is not None:
            more[name] = bound
    if take.value is not None:
        more["value"] = take.value
    if take.values:
        more["values"] = dict(take.values)
    if take.only and not all(str(known).lower() in _WORDS for known, _ in take.values):
        more["only"] = True
    if take.contains:
        some = [(part, means) for part, means in take.contains if means == value]
        more["contains"] = dict(take.contains if len(take.contains) <= MAX_CONTAINS else some)
    exact = [(other, wanted) for other, wanted in take.when if not other.startswith("**.")]
    if exact:
        more["when"] = dict(exact)
    return _value({"key": key, **more}) if more else _scalar(key)


def _value(value: Any) -> str:
    """YAML in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(key)}: {_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    text = str(value)
    bare = _PLAIN.fullmatch(text) and text.lower() not in _WORDS - {"never", "none"}
    return text if bare else json.dumps(text, ensure_ascii=False)
