"""The probe: some real steps of a config, measured, and the canary that looks whether they are sound.

It is the loop itself that runs here, on a run folder of its own: the same data, model, loss and optimizer, the same
validation and the same checkpoints. What it finds goes into `probe.json`: checks that hold or not, each with what
was seen, and a measurement that calibrates the next estimate.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from runctl import record
from runctl.config import RunConfig
from runctl.estimate import calibration
from runctl.train import checkpoint, measure, threads
from runctl.train.job import Head, Job
from runctl.train.loop import Loop, Outcome, Place
from runctl.train.sums import NonFinite
from runctl.train.timing import BORN, ENOUGH, WARM_UP, Timing

SHARE = 0.8  # of the time when the steps end; a validation and a checkpoint follow
LEAST_SHARE = 0.4  # of the time is for steps, however long the start-up was
VALIDATION_SECONDS = 3.0
AGAIN = 2  # steps that are run again after a reload
UNTRAINED = (0.6, 1.5)  # a head's first loss, as a share of ln V; and half a nat above
LEAK = 0.9  # a shuffled loss below this share of the targets' entropy
FEWEST = 32  # windows: in a batch of less, chance may look like a leak
TINY = 0.05  # nats: the targets of a batch are nearly all the same, and say nothing
CLOSE = 1e-3  # how far losses may lie apart after a reload on CUDA, whose sums have no fixed order


@dataclass(frozen=True)
class Check:
    """One condition: whether it holds, what was seen, and what to do if it does not."""

    name: str
    ok: bool
    said: str
    fix: str = ""


def probe(job: Job, config: RunConfig, place: Place, seconds: float) -> Outcome:
    """Run real steps for about `seconds` and at least ENOUGH of them; write probe.json. Never resumes."""
    loop = Loop(job, config, place)
    checks: list[Check] = []
    try:
        loop.resume()
        loop.rehearse()
        checks.append(Check("evaluation", True, "one batch of held-out windows was evaluated"))
        job.metrics()  # waits for what is still counted for them, which would slow the steps
        checks += _promises(loop)
        checks += _first_loss(loop)
        checks.append(_blind(loop))
        timing = _steps(loop, seconds)
        if tried := threads.compare(loop, seconds):
            checks.append(Check("threads", True, tried.words()))
        checks.append(_finite(loop))
        checks += _leaks(loop)
        _validate(loop, timing)
        again, saved = _reload(loop, timing)
        checks.append(again)
        one = measure.measurement(loop, timing, kind="probe", name=config.name, memory=measure.peak_of_a_step(loop))
    except NonFinite as error:
        checks.append(Check("finite", False, error.message, error.hint or ""))
        one, saved = None, None
    finally:
        place.heartbeat.refresh()
        loop.writer.close(place.heartbeat.beat)
    found: dict[str, Any] = {
        "schema_version": record.SCHEMA_VERSION,
        "checks": [asdict(check) for check in checks],
        "measurement": calibration.to_json(one) if one else None,
        "checkpoint": saved,
    }
    record.write_json(place.run.path / "probe.json", found)
    return Outcome("succeeded", loop.state.step, loop.plan.total_steps, {}, loop.notes)


def _promises(loop: Loop) -> Iterator[Check]:
    """Whether batch and model are what the config says."""
    wanted = loop.job.expected()
    batch = loop.job.batch(_some(loop), validation=False)
    shapes = {"batch": list(batch.shape), "parameters": sum(one.numel() for one in loop.parameters)}
    for name, expected in wanted.items():
        said = f"{_shown(shapes[name])}, as the config says"
        if shapes[name] != expected:
            said = f"{_shown(shapes[name])}, but the config says {_shown(expected)}"
        yield Check(name, shapes[name] == expected, said, "this is a defect of the task: report it")


def _first_loss(loop: Loop) -> Iterator[Check]:
    """Whether heads that know nothing have the loss of guessing."""
    for head in _heads(loop):
        low, high = UNTRAINED[0] * head.untrained, UNTRAINED[1] * head.untrained + 0.5
        said = f"{head.loss:.3f} nats before training; guessing among {head.classes} classes costs {head.untrained:.3f}"
        fix = "too low: the answer is in the input; too high: inputs or first weights are out of scale"
        yield Check(f"first loss, {head.name}", low <= head.loss <= high, said, fix)


def _blind(loop: Loop) -> Check:
    """Whether the model sees the frame that it is to predict."""
    with torch.random.fork_rng(devices=[loop.place.device] if loop.place.device.type == "cuda" else []):
        strayed = loop.job.strays(loop.job.batch(_some(loop), validation=False))
    said = "another next frame, with the same controllers, changes no prediction"
    if strayed:
        said = f"another next frame, with the same controllers, changes predictions by up to {strayed:.3g}"
    return Check("blind", strayed == 0, said, "the answer is among the inputs: look at how a window is cut")


def _leaks(loop: Loop) -> Iterator[Check]:
    """Whether a head does better on wrong targets than is possible: then its loss does not look at them."""
    for head in _heads(loop):
        if head.floor < TINY or len(_some(loop)) < FEWEST:
            continue
        said = f"{head.shuffled:.3f} nats on the targets of other windows, whose entropy is {head.floor:.3f}"
        fix = "the loss does not depend on the targets: look at what it compares"
        yield Check(f"no leak, {head.name}", head.shuffled >= LEAK * head.floor, said, fix)


def _some(loop: Loop) -> torch.Tensor:
    """The windows of the first forward pass."""
    return loop.order.windows(0)[: loop.config.training.batch_size]


def _heads(loop: Loop) -> list[Head]:
    windows = _some(loop)
    with torch.random.fork_rng(devices=[loop.place.device] if loop.place.device.type == "cuda" else []):
        return list(loop.job.heads(loop.job.batch(windows, validation=False)))


def _steps(loop: Loop, seconds: float) -> Timing:
    """Real optimizer steps until SHARE of the time is over."""
    heartbeat, timing = loop.place.heartbeat, loop.timing
    heartbeat.phase("training", "probing")
    loop.job.model.train()
    timing.go()
    now = time.monotonic()
    until = max(BORN + SHARE * seconds, now + LEAST_SHARE * seconds)
    while not loop.place.control.stopping:
        loop.step()
        if loop.state.step % 16 == 0 or loop.state.step in (WARM_UP, WARM_UP + ENOUGH):
            _wait(loop)
        timing.step(loop.windows)
        heartbeat.beat()
        if timing.enough and time.monotonic() >= until:
            break
    loop.place.control.check()
    _wait(loop)
    timing.wait()
    return timing


def _finite(loop: Loop) -> Check:
    """Raises NonFinite where a loss, a gradient or a weight is not finite."""
    loop.state.sums.check(loop.state.step)
    if not loop.state.finite():
        raise NonFinite("weights", loop.state.step)
    return Check("finite", True, f"losses, gradients and weights of {loop.state.step:,} steps are finite")


def _validate(loop: Loop, timing: Timing) -> None:
    """Measure the validation on more and more windows, until the clock says something."""
    loop.place.heartbeat.phase("validating", "probing")
    count = loop.config.training.batch_size
    while True:
        chosen = loop.held_out[:count]
        began = time.monotonic()
        loop.evaluate(chosen)
        took = time.monotonic() - began
        if took >= VALIDATION_SECONDS or len(chosen) == len(loop.held_out):
            timing.validation(took, len(chosen))
            return
        count *= 4


def _reload(loop: Loop, timing: Timing) -> tuple[Check, dict[str, Any]]:
    """Save, go on, load, and go on again: the losses must be the same."""
    loop.place.heartbeat.phase("checkpointing", "probing")
    began = time.monotonic()
    loop.save()
    loop.writer.wait(loop.place.heartbeat.beat)
    timing.write.append(time.monotonic() - began)
    step = loop.state.step
    unbroken = [_loss_of_a_step(loop) for _ in range(AGAIN)]
    loaded = checkpoint.load_newest(loop.place.run, loop.identity)
    if loaded is None:
        raise RuntimeError("the checkpoint that was just written is not there")
    loop.state.restore(loaded)
    resumed = [_loss_of_a_step(loop) for _ in range(AGAIN)]
    exact = loop.place.device.type == "cpu"
    ok = all(
        one == other if exact else math.isclose(one, other, rel_tol=CLOSE)
        for one, other in zip(unbroken, resumed, strict=True)
    )
    said = f"step {step + 1} after a reload: loss {resumed[0]:.6f}, without it {unbroken[0]:.6f}"
    files = loaded.manifest["files"].values()
    size = sum(int(entry["bytes"]) for entry in files)
    return Check("reload", ok, said, "a resume would not go on where the run was: report it"), {"bytes": size}


def _loss_of_a_step(loop: Loop) -> float:
    loop.step()
    return loop.state.sums.last(loop.state.step)


def _wait(loop: Loop) -> None:
    """Let the device catch up, so that the clock tells its time; a probe can afford it."""
    if loop.place.device.type == "cuda":
        torch.cuda.synchronize(loop.place.device)


def _shown(value: Any) -> str:
    return " × ".join(map(str, value)) if isinstance(value, list) else f"{value:,}"
