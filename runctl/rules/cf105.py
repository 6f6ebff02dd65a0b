"""CF105: a name that says what the config is not

## Why

A config named after 15M parameters had 10.6M, and one that was recommended as the 125M model had a quarter of a
million: it ran for 24 hours on two GPUs before anyone looked. A config named after one data set read another. Names
are what plans, tables and launch commands go by.

## Fails

```yaml file=wide_webvid.yaml
trainer: {max_steps: 500, batch_size: 8}
data: {train_files: data/openvid/*.tar}
```

```yaml file=sweep_bs64.yaml
trainer: {max_steps: 500, batch_size: 8}
optim: {learning_rate: 0.001}
```

```yaml file=lr_3e-4.yaml
trainer: {max_steps: 500, batch_size: 8, run_name: lr_3e-4, output_dir: out/lr_1e-4}
optim: {learning_rate: 0.0003}
```

```yaml file=frames-k60.yaml
model: {context_len: 10}
training: {steps: 100}
```

## Passes

```yaml file=wide_webvid_bs8.yaml
trainer: {max_steps: 500, batch_size: 8}
data: {train_files: data/webvid-10M/*.tar}
```

```yaml file=lr_3e-4.yaml
trainer: {max_steps: 500, batch_size: 8, run_name: lr_3e-4, output_dir: out/lr_3e-4}
optim: {learning_rate: 3.0e-4}
```

## What to do

Rename the file, or correct what it says. Read are parameter counts (`135M`, `1.7B`), window lengths (`k60`,
`ctx2048`), batches (`bs64`), rates (`lr_3e-4`), seeds, epochs, precisions and the names of public data sets; a number
that some other value of the config explains is left alone.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator

from runctl.facts import Facts, Finding, Severity
from runctl.gathering import corpora, outputs
from runctl.light import pattern
from runctl.units import format_count

SEVERITY: Severity = "warning"
RATIO = 1.33
_VERSION = pattern(r"@[0-9a-f]{6,40}(?:_\w+)?$")
_TOKENS = pattern(r"[^A-Za-z0-9.]+")
_COUNT = pattern(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)([mMbB])(?![A-Za-z0-9]|\.\d)")
_CONTEXT = pattern(r"(?<![a-z0-9])(?:ctx|context|seq|seqlen|len|length)[-_]?(\d+)(k?)(?![a-z0-9])")
_WINDOW = pattern(r"(?<![a-z0-9])k(\d+)(?![a-z0-9])")
_BATCH = pattern(r"(?<![a-z0-9])(?:bs|batch|batchsize)[-_]?(\d+)(?![a-z0-9])")
_SEED = pattern(r"(?<![a-z0-9])seed[-_]?(\d+)(?![a-z0-9])")
_EPOCHS = pattern(r"(?<![a-z0-9.])(\d+)[-_]?(?:ep|epochs?)(?![a-z0-9])")
_STEPS = pattern(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)(k?)[-_]?steps?(?![a-z0-9])")
_RATE = pattern(r"(?<![a-z0-9.])(?:lr[-_]?)?(\d+(?:\.\d+)?)e-?(\d+)(?![a-z0-9])")
_PRECISION = pattern(r"(?<![a-z0-9])(bf16|fp16|fp32|fp8)(?![a-z0-9])")
_FOLLOWED = pattern(r"[-_ ]?(?:tokens?|tok|samples?|steps?|frames?|games?|images?|rows|docs|pairs|clips|videos|ctx)\b")
_MODEL_KEYS = frozenset((
    "llm", "model", "model_name", "base_model", "model_name_or_path", "model_id", "pretrained", "backbone",
    "model_path", "pretrained_model_name_or_path", "llm_model", "checkpoint", "hf_model",
))  # fmt: skip
SHORT_MINUTES, FAR = 90, 20


def check(facts: Facts) -> Iterable[Finding]:
    if facts.get("config.kind") == "other":
        return
    stem = _VERSION.sub("", facts.get("config.stem", "")).rpartition("__")[2]
    if any(character.isdigit() for character in stem):
        lowered = stem.lower()
        for judge, hints in _JUDGES:
            if any(hint in lowered for hint in hints):
                yield from judge(facts, stem)
    yield from _data(facts, stem)
    yield from _folder(facts)


def _found(facts: Facts, stem: str, truth: str, *at: str) -> Finding:
    fix = "rename the file, or correct what it says"
    return Finding(f"the file is named {stem}, but {truth}", at=facts.place(*at), fix=fix)


def _parameters(facts: Facts, stem: str) -> Iterator[Finding]:
    """Parameter counts, against the model's own or the name of the model that it loads."""
    claims = []
    for match in _COUNT.finditer(stem):
        value = float(match[1]) * {"m": 1e6, "b": 1e9}[match[2].lower()]
        before = _TOKENS.split(stem[: match.start()].rstrip("-_"))[-1].lower()
        if not _FOLLOWED.match(stem[match.end() :]) and before + match[0].lower() not in corpora.KINDS:
            claims.append((value, match[0]))
    plans = [facts.get(name) for name in ("training.samples", "training.tokens", "run.steps", "data.samples")]
    claims = [
        (value, words) for value, words in claims if not any(plan and _close(value, plan, 1.05) for plan in plans)
    ]
    count = facts.get("model.parameters")
    if not claims:
        return
    if count:
        minutes = [words for value, words in claims if words.endswith("m") and value <= SHORT_MINUTES * 1e6]
        far = all(not _close(value, count, FAR) for value, _ in claims)
        if not any(_close(value, count, RATIO) for value, _ in claims) and not (minutes and far):
            truth = f"the model has {format_count(count)} parameters"
            widths = ("declares.d_model", "declares.n_layers", "model.names", "training.batch_size")
            yield _found(facts, stem, truth, "model.parameters", "model.d_model", "declares.parameters", *widths)
        return
    for one in facts.need("config.scalars"):
        section, _, last = one.key.lower().rpartition(".")
        loads = last in _MODEL_KEYS or (last in ("name", "path") and section.rpartition(".")[2] in _MODEL_KEYS)
        if not loads or not isinstance(one.value, str):
            continue
        loaded = [
            float(m[1]) * {"m": 1e6, "b": 1e9}[m[2].lower()] for m in _COUNT.finditer(one.text.rpartition("/")[2])
        ]
        if loaded and not any(_close(value, other, RATIO) for value, _ in claims for other in loaded):
            message = f"the file is named {stem}, but {one.key} loads {one.text.rpartition('/')[2]}"
            yield Finding(message, at=one.position, fix="rename the file, or load the other model", key=one.key)
            return


def _close(one: float, other: float, ratio: float) -> bool:
    return 1 / ratio <= one / other <= ratio


def _context(facts: Facts, stem: str) -> Iterator[Finding]:
    name = "declares.seq_len" if facts.foreign else "model.context_len"
    length = facts.get(name)
    claims = [(int(m[1]), m[2]) for m in _CONTEXT.finditer(stem.lower())]
    if not facts.foreign:
        claims += [(int(m[1]), "") for m in _WINDOW.finditer(stem.lower())]
    if not isinstance(length, int) or not claims:
        return
    if not any(length in (value * (1000 if kilo else 1), value * (1024 if kilo else 1)) for value, kilo in claims):
        yield _found(facts, stem, f"{facts.key(name)} is {length:,}", name)


def _batch(facts: Facts, stem: str) -> Iterator[Finding]:
    batch, accumulation = facts.get("training.batch_size"), facts.get("training.accumulation", 1)
    claims = [int(match[1]) for match in _BATCH.finditer(stem.lower())]
    if not batch or not claims:
        return
    known = {batch, batch * accumulation, facts.get("training.global_batch"), facts.get("run.step_examples")}
    if not any(
        claim in known or (claim > batch and claim % (batch * accumulation) == 0 and _spread(facts)) for claim in claims
    ):
        yield _found(facts, stem, f"{facts.key('training.batch_size')} is {batch:,}", "training.batch_size")


def _spread(facts: Facts) -> bool:
    """Whether several devices may share a batch."""
    return (facts.get("gpu.count") or facts.get("compute.world_size") or 1) > 1


def _seed(facts: Facts, stem: str) -> Iterator[Finding]:
    seed = facts.get("training.seed")
    claims = [int(match[1]) for match in _SEED.finditer(stem.lower())]
    if claims and seed is not None and seed not in claims:
        yield _found(facts, stem, f"{facts.key('training.seed')} is {seed}", "training.seed")


def _epochs(facts: Facts, stem: str) -> Iterator[Finding]:
    epochs = facts.get("training.epochs")
    claims = [int(match[1]) for match in _EPOCHS.finditer(stem.lower())]
    if claims and epochs and epochs not in claims:
        yield _found(facts, stem, f"{facts.key('training.epochs')} is {epochs:g}", "training.epochs")


def _steps(facts: Facts, stem: str) -> Iterator[Finding]:
    steps = facts.get("training.steps") or facts.get("training.micro_steps")
    claims = [float(match[1]) * (1000 if match[2] else 1) for match in _STEPS.finditer(stem.lower())]
    if claims and steps and min(claims) > FAR and not any(_close(claim, steps, 1.05) for claim in claims):
        yield _found(facts, stem, f"the run is {steps:,} steps long", "training.steps", "training.micro_steps")


def _rate(facts: Facts, stem: str) -> Iterator[Finding]:
    if "lr" not in _TOKENS.split(stem.lower().replace("_", "-")) and not re.search(
        r"(?<![a-z])lr[-_]?\d", stem.lower()
    ):
        return
    claims = [float(f"{match[1]}e-{match[2]}") for match in _RATE.finditer(stem.lower())]
    rates = [
        one
        for one in facts.need("config.scalars")
        if re.search(r"(?:^|_)(?:lr|learning_rate)(?:_|$)", one.key.rpartition(".")[2].lower())
    ]
    numbers = [one.value for one in rates if isinstance(one.value, int | float) and not isinstance(one.value, bool)]
    if claims and numbers and not any(_close(claim, rate, 1.001) for claim in claims for rate in numbers if rate > 0):
        shown = ", ".join(dict.fromkeys(f"{rate:g}" for rate in numbers))
        message = f"the file is named {stem}, but its learning rate is {shown}"
        yield Finding(message, at=rates[0].position, fix="rename the file, or correct the rate", key=rates[0].key)


def _precision(facts: Facts, stem: str) -> Iterator[Finding]:
    source, precision = facts.source("training.precision"), facts.get("training.precision")
    claims = [match[1] for match in _PRECISION.finditer(stem.lower())]
    if claims and precision and source and source.kind == "file" and precision not in claims and "fp8" not in claims:
        yield _found(facts, stem, f"{facts.key('training.precision')} is {precision}", "training.precision")


_JUDGES = (
    (_parameters, "mb"),
    (_context, ("ctx", "context", "seq", "len", "k")),
    (_batch, ("bs", "batch")),
    (_seed, ("seed",)),
    (_epochs, ("ep",)),
    (_steps, ("step",)),
    (_rate, ("lr",)),
    (_precision, ("bf16", "fp")),
)


def _data(facts: Facts, stem: str) -> Iterator[Finding]:
    """The name of a public data set, where the config reads another one."""
    wanted = [name for name in corpora.named(stem) if corpora.distinctive(name)]
    train = facts.get("data.train")
    if not wanted or not train:
        return
    read = frozenset().union(*(corpora.named(item) for item in train))
    texts = " ".join(one.text.lower() for one in facts.need("config.scalars") if isinstance(one.value, str))
    plain = re.sub(r"[^a-z0-9]", "", texts)
    for name in wanted:
        if read and name not in plain and not any(corpora.same(name, other) for other in read):
            truth = f"{facts.key('data.train')} reads {', '.join(sorted(read))}"
            yield _found(facts, stem, truth, "data.train")
            return


def _folder(facts: Facts) -> Iterator[Finding]:
    """An output folder that is named as the run is, but for one number: one of the two was copied."""
    name, folder = facts.get("run.name"), facts.get("run.output")
    if not facts.foreign or not name or not folder or outputs.open_part(folder) or outputs.open_part(str(name)):
        return
    ours, theirs = _words(str(name)), _words(posixpath.basename(posixpath.normpath(str(folder))))
    only_ours, only_theirs = ours - theirs, theirs - ours
    if len(only_ours) == len(only_theirs) == 1 and _shape(*only_ours) == _shape(*only_theirs) != "":
        message = f"{facts.key('run.name')} is {name}, but {facts.key('run.output')} is {folder}"
        fix = "name the run and its folder alike: one of the two was copied"
        yield Finding(message, at="run.output", fix=fix)


def _words(text: str) -> set[str]:
    return {word for word in _TOKENS.split(re.sub(r"(?<=\d)e-(?=\d)", "e", text).replace("_", "-").lower()) if word}


def _shape(word: str) -> str:
    """A word with its digits left out; nothing for a word without digits."""
    return re.sub(r"\d+(?:\.\d+)?", "#", word) if any(character.isdigit() for character in word) else ""
