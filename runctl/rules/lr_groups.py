"""The learning rates of parameter groups in a config: `lr_dino`, `lr_llm`, `vision_lr`, not `min_lr` or `lr_steps`."""

from __future__ import annotations

from collections.abc import Iterator

from runctl.facts import Facts
from runctl.light import pattern
from runctl.yamldoc import Written

_PARTS = pattern(r"[._\-/\[\]]+")
_NO_PEAK = pattern(  # words of keys that hold no group's peak rate
    r"min|minimum|end|final|last|floor|decay|warmup|warm|scheduler|schedule|schedulers|sched|target|start|"
    r"init|initial|factor|scale|ratio|mult|multiplier|patience|gamma|power|steps|step|iters|epochs|find|"
    r"finder|log|logging|monitor|cooldown|period|layerwise|type|name|eta|noise|momentum|beta|eps|dropout|"
    r"weight|wd|cycle|cycles|restart|restarts|total|anneal|annealing|offset|threshold|delta|sweep|range|"
    r"values"
)


def of(facts: Facts) -> Iterator[tuple[str, float, Written]]:
    """(dotted key, rate, where it is written) of every group whose rate is a plain number."""
    for written in facts.get("config.scalars", ()):
        key = written.key.lower()
        if "lr" not in key and "learning_rate" not in key:
            continue
        key = key.replace("learning_rate", "lr")
        words = _PARTS.split(key.rpartition(".")[2])
        if "lr" not in words or len(words) < 2 or any(map(_NO_PEAK.fullmatch, _PARTS.split(key))):
            continue
        rate = _rate(written.value)
        if rate is not None:
            yield written.key, rate, written


def _rate(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
