"""What several rules advise, in the words of the config's own dialect."""

from __future__ import annotations

from runctl.estimate.cost import step_seconds
from runctl.facts import WHOLE, Facts, NotChecked
from runctl.light import pattern
from runctl.units import format_duration

AFFORDABLE = 600.0  # seconds of work that most can afford to lose
SHARE = 20  # saves in a run, at least
TELLING = 60.0  # seconds of work below which a guessed pace says nothing


_MIXED = pattern(r"(amp_)?(?:bf16|fp16|16)(-mixed|-true)?")


def cadence(facts: Facts) -> str:
    """`set checkpoint.every: 10m`; a trainer that counts steps is told how many, by the pace where it is known."""
    key = facts.key("checkpoint.every")
    if not facts.foreign:
        return f"set {key}: 10m"
    every, steps = facts.get("checkpoint.every"), facts.get("run.steps")
    if every is not None and every.seconds is not None:
        return f"let {key} save every 10 minutes"
    if steps is None:
        return f"let it save every 10 to 30 minutes of work ({key})"
    step = likely_step(facts)
    affordable = AFFORDABLE if not step or AFFORDABLE / step >= SHARE else 3 * AFFORDABLE  # steps of half a minute
    count = rounded(min(affordable / step, steps / SHARE) if step else steps / SHARE)
    said = f"the run has {steps:,} steps"
    if step and count * step >= TELLING:
        said = f"about {format_duration(count * step)} of work"
    last = key.rpartition(".")[2].lower()
    if facts.dialect in WHOLE and last in ("save_strategy", "saves_per_epoch"):
        other = f"{key.removesuffix(last)}save_steps: {count}"
        if last == "save_strategy":
            return f"set {key}: steps, and {other} ({said})"
        return f"set {other} in place of {key} ({said})"
    counts_otherwise = every is not None and every.epochs is not None and "per_epoch" not in last
    if counts_otherwise or any(word in last for word in ("epoch", "strategy", "minute", "hour", "second", "enable")):
        return f"let it save every {count} steps ({said}), not by {key}"
    unit = "ba" if _written(facts, key).strip().endswith(("ba", "ep")) else ""  # as MosaicML's composer counts
    return f"set {key}: {count}{unit} ({said})"


def _written(facts: Facts, key: str) -> str:
    """The value of a key as the config writes it; "" where it has none."""
    return next((one.text for one in facts.get("config.scalars", ()) if one.key == key), "")


def likely_step(facts: Facts) -> float | None:
    """Likely seconds of an optimizer step, or None where nothing says."""
    try:
        return step_seconds(facts)[1] or None
    except (NotChecked, KeyError, ZeroDivisionError):
        return None


def rounded(number: float) -> int:
    """Down to 1, 2 or 5 times a power of ten, at least 1: `1340` → 1000."""
    power = 1
    while power * 10 <= number:
        power *= 10
    return max(1, next((power * digit for digit in (5, 2, 1) if power * digit <= number), 1))


def bare(facts: Facts) -> bool:
    """Whether the precision is said by a switch that names none: `amp: true`."""
    key = facts.key("training.precision")
    switch = _written(facts, key).lower() in ("true", "false", "yes", "no", "on", "off")
    return facts.foreign and switch and not any(name in key.lower() for name in ("bf16", "fp16", "fp32", "tf32"))


def precision(facts: Facts, wanted: str) -> str:
    """`set training.precision: bf16`, as the dialect writes it: `bf16: true`, `dtype: bfloat16`."""
    key = facts.key("training.precision")
    section, dot, last = key.rpartition(".")
    if section.rpartition(".")[2] in ("bf16", "fp16"):  # a section of its own: fp16.enabled
        above, dot, own = section.rpartition(".")
        return f"set {above}{dot}{wanted}.enabled: true, and {own}.{last}: false"
    if last in ("bf16", "fp16", "fp32", "tf32"):
        other = "" if last == wanted or last not in ("bf16", "fp16") else f" and {last}: false"
        return f"set {section}{dot}{wanted}: true{other}" if wanted != "fp32" else f"set {key}: false"
    if bare(facts):
        if _written(facts, key).lower() in ("false", "no", "off"):
            return f"set {key}: true, and see that it computes in {wanted}"
        return f"tell the trainer to compute in {wanted}: {last} only says that it is not fp32"
    mixed = _MIXED.fullmatch(_written(facts, key).lower())
    if mixed and wanted in ("bf16", "fp16"):  # 16-mixed of Lightning, amp_fp16 of Composer
        lead, tail = mixed.groups("")
        return f"set {key}: {lead}{wanted if lead or wanted == 'bf16' else '16'}{tail}"
    long = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}.get(wanted, wanted)
    return f"set {key}: {long if last.endswith('dtype') else wanted}"
