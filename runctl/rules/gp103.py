"""GP103: GPUs that nothing uses

## Why

Every GPU that is asked for is paid for, by the second. A run of 24.5 hours held two A100s for a model that left both
nearly empty; where the program starts one process, or trains on the CPU, the others are not even warm.

## Fails

```yaml
training: {steps: 100, processes: 2}
compute: {gpu: "A100-80GB:4"}
```

```yaml
training: {steps: 100, device: cpu}
compute: {gpu: A100-80GB}
```

```yaml
task: command
command: {argv: [python, train.py]}
compute: {gpu: "A100-80GB:4"}
```

## Passes

```yaml
training: {steps: 100}
compute: {gpu: "A100-80GB:2"}
```

```yaml
task: command
command: {argv: [torchrun, --nproc-per-node, "4", train.py]}
compute: {gpu: "A100-80GB:4"}
```

## What to do

Ask for as many GPUs as processes are started: runctl's own trainer starts one for each GPU, which share each batch
(leave `training.processes` out, or set it to that number), a program of your own as many as its launcher (`torchrun`,
`accelerate`, `deepspeed`) starts. A program may spread over the GPUs by itself, and another
trainer's launch command is often in no config: those are warnings, or not checked where the config says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.light import pattern
from runctl.units import counted

SEVERITY: Severity = "error"
NONE = ("none", "no", "false", "single", "off", "1")
SHARING = ("ddp", "fsdp", "tensor", "pipeline", "megatron")  # deepspeed also serves one GPU, by offloading
_LAUNCHERS = pattern(r"torchrun|torch\.distributed|accelerate|deepspeed|mpirun|mpiexec|srun|horovod|composer|spawn")
_PROCESSES = pattern(r"--(?:nproc[-_]per[-_]node|num[-_]processes|num[-_]gpus)(?:=(\d+))?")


def check(facts: Facts) -> Iterable[Finding]:
    asked = facts.need("compute.gpu")
    if asked is None:
        return
    if facts.get("training.device") == "cpu":
        message = f"{facts.key('compute.gpu')} is {asked}, but {facts.says('training.device')}: the GPU stays idle"
        fix = f"set {facts.key('training.device')}: auto, or leave {facts.key('compute.gpu')} out"
        yield Finding(message, at=facts.place("compute.gpu"), fix=fix, severity=_foreign(facts))
        return
    count = facts.need("gpu.count")
    if facts.foreign:
        yield from _other(facts, count)
    elif facts.get("task") == "command":
        yield from _command(facts, count)
    else:
        yield from _own(facts, asked)


def _own(facts: Facts, asked: str) -> Iterable[Finding]:
    """runctl's own trainer: a process for each GPU, and a piece of each batch for each process."""
    counts = sorted({count for _, count in facts.get("gpu.choices", ())})
    processes, batch = facts.get("training.processes"), facts.get("training.batch_size")
    if len(counts) > 1:
        numbers = " or ".join(map(str, counts))
        message = f"{facts.key('compute.gpu')} is {asked}: {numbers} processes would share the run"
        yield Finding(message, at="compute.gpu", fix="ask for the same number of GPUs in each choice")
    elif counts and processes is not None and processes != counts[0]:
        gpus = counted(counts[0], "GPU")
        message = f"{facts.says('training.processes')}, but {facts.key('compute.gpu')} asks for {gpus}"
        yield Finding(message, at="training.processes", fix="leave it out: each GPU gets a process")
    elif counts and batch is not None and batch < counts[0]:
        message = f"{facts.says('training.batch_size')}, which {counts[0]} GPUs cannot share"
        yield Finding(message, at="training.batch_size", fix=f"set training.batch_size: {counts[0]} or more")


def _command(facts: Facts, count: int) -> Iterable[Finding]:
    """A program of one's own: what its argv says. It may spread by itself, so never an error."""
    words = list(facts.get("command.argv") or facts.need("command").argv)
    started = _processes(words)
    if started is not None and started != count:
        message = f"the command starts {counted(started, 'process')}, but compute.gpu asks for {counted(count, 'GPU')}"
        fix = "let both be the same number"
        yield Finding(message, at="compute.gpu", fix=fix, severity="error" if started > count else "warning")
    elif count > 1 and not any(_LAUNCHERS.search(word) for word in words):
        message = f"compute.gpu asks for {counted(count, 'GPU')}, and nothing in command.argv starts several processes"
        fix = f"begin the command with torchrun --nproc-per-node {count}, or ask for one GPU"
        yield Finding(message, at="compute.gpu", fix=fix, severity="warning")


def _processes(words: list[str]) -> int | None:
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if match := _PROCESSES.fullmatch(word):
            number = match[1] or after
            return int(number) if number.isdecimal() else None
    return None


def _other(facts: Facts, count: int) -> Iterable[Finding]:
    """Another trainer: only what its config says; the launch command may say the rest."""
    world, shared = facts.get("compute.world_size"), str(facts.get("training.distributed", "")).lower()
    gpus = f"{counted(count, 'GPU')} asked for"
    if world is not None and world not in (count, count * facts.get("compute.nodes", 1)):  # of a machine, or of all
        message = f"{facts.says('compute.world_size')}, with {gpus}"
        yield Finding(message, at="compute.world_size", fix="let both be the same number", severity="warning")
    elif count > 1 and shared in NONE:
        message = f"{facts.says('training.distributed')}, with {gpus}: all but one stay idle"
        fix = f"set {facts.key('training.distributed')}: ddp, or ask for one GPU"
        yield Finding(message, at="training.distributed", fix=fix, severity="warning")
    elif count == 1 and _asked(facts) and any(word in shared for word in SHARING):
        message = f"{facts.says('training.distributed')}, with one GPU asked for"
        fix = f"ask for several GPUs, or leave {facts.key('training.distributed')} out"
        yield Finding(message, at="training.distributed", fix=fix, severity="warning")
    elif count > 1 and world is None and not shared:
        raise NotChecked(f"how {counted(count, 'GPU')} share the work: the launch command says it, not this config")


def _asked(facts: Facts) -> bool:
    """Whether the config itself asks to share the work on one machine; a trainer's default does so where it can."""
    source = facts.source("training.distributed")
    return source is not None and source.kind != "default" and facts.get("compute.nodes", 1) == 1


def _foreign(facts: Facts) -> Severity | None:
    return "warning" if facts.foreign else None
