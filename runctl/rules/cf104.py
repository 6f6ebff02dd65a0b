"""CF104: a value that is not what it looks like

## Why

YAML decides what an unquoted word is, and most trainers read YAML 1.1: `1e-4` is a text there, `no` is false, `010`
is eight and `1:30` is ninety. A quoted `"false"` is a text, and every text is true: a switch that was to be off is on,
and nothing says so. A template whose switches were quoted texts switched them on in every run that left them.

## Fails

```yaml
trainer: {max_steps: 500, batch_size: 8, gradient_checkpointing: "false"}
```

```yaml
trainer: {max_steps: 500, batch_size: 8}
optim: {learning_rate: 1e-4}
```

```yaml
trainer: {max_steps: "500", batch_size: 010}
optim: {learning_rate: 0.001}
```

## Passes

```yaml
trainer: {max_steps: 500, batch_size: 8, gradient_checkpointing: false}
optim: {learning_rate: 1.0e-4}
```

```yaml
training: {steps: 100, lr: 1e-4}
```

## What to do

Write what is meant: `false` without quotes, `1.0e-4` with its point and sign, numbers without leading zeros, and
quotes around words such as `no` where a word is meant. runctl's own configs read `1e-4` as a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from runctl.adapters.vocabulary import WORDS, count, number, switch, text, whole
from runctl.facts import Edit, Facts, Finding, Severity
from runctl.light import pattern
from runctl.rules.cf102 import composed, is_placeholder
from runctl.yamldoc import Position, Written

SEVERITY: Severity = "error"

_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_SAID = frozenset((*_BOOLEANS, "none", "inf", "nan", "-inf"))
_BEGINS = "0123456789+-."
LONGEST = 60
_YAML11_FLOAT = pattern(r"[-+]?(?:\d[\d_]*)?\.[\d_]*(?:[eE][-+]\d+)?")
_SIXTIES = pattern(r"[-+]?[1-9][\d_]*(?::[0-5]?\d)+")
_COMMAS = pattern(r"[-+]?\d{1,3}(?:,\d{3})+,?|[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?,")
_LEADING_ZERO = pattern(r"[-+]?0[\d_]*\d")
_DATE = pattern(r"\d{4}-\d\d-\d\d")
_TEXT_KEY = pattern(
    r"(?:.*_)?(?:strategy|precision|scheduler|schedule|type|mode|backend|dtype|optimizer|optim|activation|policy|name)"
)
_SWITCH_KEY = pattern(
    r"(?:use_|pure_)?(?:bf16|fp16|tf32|amp)|load_in_[48]bit|push_to_hub|(?:torch_)?compile|use_(?:lora|peft|qlora|dora)"
    r"|shuffle|deterministic|\w*(?:checkpointing|packing)|do_(?:train|eval)"
)
_NO_NUMBER = pattern(r"(?:.*_)?(?:commit|revision|sha|hash|tag|version|id|name|date|time)")
_NOT_READ = frozenset(("env", "environment", "env_vars", "labels", "annotations", "vars"))
_LENIENT = ("axolotl",)  # reads its numbers with a schema that turns texts into numbers


def check(facts: Facts) -> Iterable[Finding]:
    if facts.get("config.kind") == "other":
        return
    known: dict[str, str] | None = None
    json = facts.path.endswith(".json")
    for one in facts.need("config.scalars"):
        kind, written = type(one.value), one.text
        if not written or len(written) > LONGEST:
            continue
        if kind is str and (written[0] in _BEGINS or written.lower() in _SAID):
            known = known if known is not None else _known(facts)
            yield from _text(one, known.get(one.key), facts)
        elif ((kind is int and written[0] in "0+-") or kind is float) and not json:  # 1e-4 is a number in JSON
            yield from _number(one, facts)
        elif kind is bool and facts.foreign and one.text.lower() in ("no", "off", "yes", "on"):
            known = known if known is not None else _known(facts)
            yield from _switch(one, known.get(one.key), facts)
    if odd := facts.get("config.odd"):
        yield from _odd(facts, odd)


def _known(facts: Facts) -> dict[str, str]:
    """Key → fact, of a foreign config; a native one's values have been checked against their types."""
    return {key: name for name, key in facts.spelled.items() if name in WORDS} if facts.foreign else {}


def _text(one: Written, name: str | None, facts: Facts) -> Iterator[Finding]:
    """A text that looks like something else."""
    lowered = one.text.strip().lower()
    parse = WORDS[name].parse if name else None
    if one.quoted:
        if lowered in _BOOLEANS:
            yield from _quoted_switch(one, lowered, parse is switch, facts)
        elif parse in (number, whole, count) and _is_number(one.text):
            message = f'{one.key} is the text "{one.text}", not a number'
            fix = f"write it without quotes: {one.text.strip()}"
            yield _finding(one, message, fix, facts, Edit(one.key, one.text.strip()))
        return
    if one.text == "None":
        message = f'{one.key} is the text "None": YAML writes nothing as null, and a text counts as something'
        word = _TEXT_KEY.fullmatch(one.key.rpartition(".")[2].lower())  # some programs know a "None" by name
        severity: Severity = "note" if word else "warning"
        yield _finding(one, message, "write null", facts, Edit(one.key, "null", safe=not word), severity)
    elif not facts.foreign or (parse is None and not one.text[:1].isdigit()):
        return
    elif _SIXTIES.fullmatch(one.text):
        value = 0
        for part in one.text.split(":"):
            value = value * 60 + int(part.replace("_", ""))
        message = f"{one.key} is {one.text}, which YAML 1.1 counts in sixties: trainers that read it so get {value}"
        yield _finding(one, message, f'write {value}, or "{one.text}" where the text is meant', facts)
    elif _COMMAS.fullmatch(one.text) and (parse in (number, whole, count) or one.text.endswith(",")):
        message = f"{one.key} is {one.text}, which YAML reads as text because of its comma"
        plain = one.text.replace(",", "")
        yield _finding(one, message, f"write {plain}", facts, Edit(one.key, plain, safe=False))
    elif _LEADING_ZERO.fullmatch(one.text) and parse is not None:
        yield _finding(one, f"{one.key} is {one.text}: with its leading zero no number", "write it without", facts)
    elif parse in (number, whole, count) and lowered in ("inf", "-inf", "nan"):
        message = f"{one.key} is {one.text}, which YAML reads as text"
        yield _finding(one, message, f"write .{lowered}", facts)
    elif parse is text and _DATE.fullmatch(one.text):
        message = f"{one.key} is {one.text}, which YAML 1.1 reads as a date, not as text"
        yield _finding(one, message, f'write "{one.text}"', facts, Edit(one.key, f'"{one.text}"'), severity="note")


def _quoted_switch(one: Written, lowered: str, known: bool, facts: Facts) -> Iterator[Finding]:
    """`"false"` as a switch: true to every program that does not look closer."""
    path = one.key.lower().split(".")
    if not facts.foreign or any(part in _NOT_READ for part in path[:-1]):
        return
    meant = _BOOLEANS[lowered]
    if not known and (lowered not in ("true", "false") or meant or _TEXT_KEY.fullmatch(path[-1])):
        return
    shown = "true" if meant else "false"
    message = f'{one.key} is the text "{one.text}", ' + (
        "not a switch" if meant else "not a switch: a program takes any text for true"
    )
    sure = known or (_SWITCH_KEY.fullmatch(path[-1]) is not None and lowered == "false")
    severity: Severity = "error" if sure and not meant else "warning"
    fix = f"write it without quotes: {shown}"
    yield _finding(one, message, fix, facts, Edit(one.key, shown, safe=known), severity)


def _number(one: Written, facts: Facts) -> Iterator[Finding]:
    """A number that YAML 1.1 reads as text, or as another number."""
    written = one.text
    if one.quoted or not written:
        return
    if written.lstrip("+-")[:1] == "0" and _LEADING_ZERO.fullmatch(written):
        other = "a text" if set(written) & {"8", "9"} else str(int(written.replace("_", ""), 8))
        message = f"{one.key} is {written}: {one.value} here, but {other} to trainers that read YAML 1.1"
        plain = str(one.value)
        yield _finding(one, message, f"write {plain}", facts, Edit(one.key, plain, safe=False))
        return
    if facts.foreign and type(one.value) is float:
        last = one.key.rpartition(".")[2].lower()
        if ("e" in written or "E" in written) and not _YAML11_FLOAT.fullmatch(written):
            if not _NO_NUMBER.fullmatch(last) and not composed(facts):
                message = f"{one.key} is {written}, which YAML 1.1 reads as text: it wants a point and a sign"
                plain = _pointed(written)
                yield _finding(one, message, f"write {plain}", facts, Edit(one.key, plain))
        elif last.endswith("version") and written.endswith("0") and not written.endswith(".0"):
            message = f"{one.key} is the number {one.value}, not {written}"
            yield _finding(one, message, f'write "{written}"', facts, Edit(one.key, f'"{written}"'))


def _switch(one: Written, name: str | None, facts: Facts) -> Iterator[Finding]:
    """An unquoted `no` where a word is wanted, which YAML 1.1 reads as false."""
    last = one.key.rpartition(".")[2].lower()
    parse = WORDS[name].parse if name else None
    if one.quoted or (parse is switch) or not (parse is text or _TEXT_KEY.fullmatch(last)):
        return
    shown = str(one.value).lower()
    message = f"{one.key} is {one.text}, which YAML 1.1 reads as {shown}, not as a word"
    yield _finding(one, message, f'write "{one.text}"', facts, Edit(one.key, f'"{one.text}"'))


def _odd(facts: Facts, odd: Iterable[tuple[str, str, Position | None]]) -> Iterator[Finding]:
    """Numbers that cannot be meant, such as a batch of 0, where the dialect is sure of what the key means."""
    numbers = {one.key: one for one in facts.need("config.scalars") if type(one.value) in (int, float)}
    for key, fault in {key: fault for key, fault, _ in odd}.items():
        if one := numbers.get(key):
            yield _finding(one, f"{key} is {one.text}, which cannot be meant: {fault}", "correct the number", facts)


def _finding(
    one: Written, message: str, fix: str, facts: Facts, edit: Edit | None = None, severity: Severity = "warning"
) -> Finding:
    if facts.dialect in _LENIENT and severity == "warning":
        severity = "note"
    where = "" if one.position else " (--set)"
    return Finding(message + where, at=one.position, fix=fix, severity=severity, edit=edit, key=one.key)


def _is_number(written: str) -> bool:
    try:
        number(written)
    except ValueError:
        return False
    return not is_placeholder("", written)


def _pointed(written: str) -> str:
    """`1e-4` as YAML 1.1 reads a number: `1.0e-4`; `2e5` is `2.0e+5`."""
    mantissa, mark, exponent = written.partition("e" if "e" in written else "E")
    if "." not in mantissa:
        mantissa += ".0"
    return f"{mantissa}{mark}{exponent if exponent[:1] in '+-' else f'+{exponent}'}"
