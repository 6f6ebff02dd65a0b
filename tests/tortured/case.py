"""One case from its launch to its end: strike, watch, read every record, take the run up again, compare its losses."""

from __future__ import annotations

import json
import os
import random
import runpy
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tortured.check import Settled, complete, readable, settle
from tortured.faults import Kind
from tortured.scene import CADENCE, HERE, NAME, Scene, history

from runctl import record

_RESUMES = 4


@dataclass(frozen=True)
class Row:
    """What became of a case. `steps_lost` are those done again after the first resume."""

    number: int
    kind: str
    trainer: str
    state: str
    reason: str
    wrong_seconds: float
    steps_lost: int | None
    resumes: int
    equal: bool | None
    notes: tuple[str, ...]
    complaints: tuple[str, ...]
    seconds: float
    skipped: str = ""

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def play(folder: Path, kind: Kind, number: int, seed: int, reference: Path) -> Row:
    """Play a case in `folder`, which it leaves behind; what lives is killed and what is mounted unmounted."""
    began = time.monotonic()
    draw, trainer = drawn(kind, number, seed)
    if why := kind.needs():
        return Row(number, kind.name, trainer, "", "", 0.0, None, 0, None, (), (), 0.0, why)
    config = {section: dict(keys) for section, keys in kind.config.items()}
    scene = Scene(folder, trainer, draw, config=config, env=dict(kind.env))
    if "PYTHONPATH" in kind.env:
        clock = {"TORTURE_CLOCK": str(folder / "clock")}
        scene.env |= clock
        os.environ |= clock
        runpy.run_path(str(HERE / "clock" / "sitecustomize.py"))
    known = json.loads((reference / f"{trainer}.json").read_text())
    try:
        kind.prepare(scene)
        first, lost, resumes, finished = _through(scene, kind)
        whole = history(scene.run) if finished else None
        if whole is not None:
            complete(scene, known, whole)
    finally:
        scene.clean()
    equal = None if kind.refused else whole == known
    return Row(
        number=number,
        kind=kind.name,
        trainer=trainer,
        state=first.state,
        reason=first.reason,
        wrong_seconds=round(first.wrong_seconds, 2),
        steps_lost=lost,
        resumes=resumes,
        equal=equal,
        notes=tuple(scene.notes),
        complaints=tuple(scene.complaints),
        seconds=round(time.monotonic() - began, 1),
    )


def drawn(kind: Kind, number: int, seed: int) -> tuple[random.Random, str]:
    """The random choices of a case, of which the first is its trainer."""
    draw = random.Random(f"{seed}:{number}:{kind.name}")
    return draw, draw.choices(list(kind.trainers), list(kind.trainers.values()))[0]


def _through(scene: Scene, kind: Kind) -> tuple[Settled, int | None, int, bool]:
    """From the launch to the run's end: how it stood after the fault, the steps lost, how often it was resumed, and
    whether it came to its total."""
    launching = scene.launch()
    kind.strike(scene)
    found = settle(scene, kind.limit)
    if launching.returncode is None:
        scene.finish(launching, "launch", NAME)
    allowed = (*kind.ends, "succeeded")
    if found.state not in allowed:
        scene.complain(f"after the fault it is {found.state} ({found.reason}), not {' or '.join(kind.ends)}")
    if found.state == kind.ends[0] and kind.words not in found.reason:
        scene.complain(f"the reason does not say {kind.words}: {found.reason}")
    readable(scene, found, scene.damaged)
    begun = [row for row in record.read_lines(scene.run.events) if row.get("event") == "trainer_started"]
    if len({row.get("attempt") for row in begun}) < len(begun):
        scene.complain("two trainers were started for one attempt")
    reached = max(found.step, scene.reached()) if scene.run.path.exists() else 0
    kind.cure(scene)
    if kind.refused:
        _refused(scene, kind, found.state)
        return found, None, 0, False
    lost, resumes, state = None, 0, found.state
    while state != "succeeded" and resumes < _RESUMES:
        due = _write_in_flight(scene, reached)
        if state == "absent":
            scene.call("launch", f"{NAME}.yaml", "--name", NAME, "--detach")
        elif kind.again is not None and resumes == 0:
            kind.again(scene)
        else:
            done = scene.call("resume", NAME, "--detach", "--json")
            if done.code != 0:
                scene.complain(f"cannot be resumed: {done}")
                break
        resumes += 1
        later = settle(scene, kind.limit)
        if lost is None and state != "absent":
            lost = _steps_lost(scene, reached, due)
        state = later.state
        if state != "succeeded" and kind.again is None:
            scene.complain(f"after a resume it is {state}: {later.reason}")
            break
    if resumes and state == "succeeded":
        readable(scene, later, scene.damaged, short=True)
    return found, lost, resumes, state == "succeeded"


def _write_in_flight(scene: Scene, reached: int) -> bool:
    """Whether a checkpoint was due, and still being written when the run ended."""
    names = [path.name.removeprefix("step-") for path in scene.whole_steps()]
    newest = max((int(name) for name in names if name.isdigit()), default=0)
    due = reached - reached % CADENCE
    return due > newest and (any(scene.run.checkpoints.glob(".tmp-step-*")) or reached - due <= 3)


def _steps_lost(scene: Scene, reached: int, in_flight: bool) -> int | None:
    """Steps done again after the resume; complains of more than the cadence (and a write that was in flight)."""
    attempts = scene.run.attempts()
    if len(attempts) < 2:
        return None
    resumed = record.read_object(attempts[1].resumed).get("step", 0)
    lost = reached - resumed
    most = CADENCE * (1 + scene.lost) + (CADENCE - 1 if in_flight else 0)
    if lost > most:
        scene.complain(f"{lost} steps are lost ({reached} to {resumed}); the cadence allows {most}")
    return lost


def _refused(scene: Scene, kind: Kind, before: str) -> None:
    """A resume must say why it cannot go ahead, and must not begin at step 0."""
    done = scene.call("resume", NAME, "--detach", "--json")
    said = done.out + done.err
    if done.code == 0 or kind.refused not in said:
        scene.complain(f"a resume should be refused for {kind.refused!r}: {done}")
    again = [row for row in record.read_lines(scene.run.metrics) if row.get("attempt") != 1]
    if again:
        scene.complain(f"it went on all the same, at step {again[0].get('step')}")
    left = settle(scene, kind.limit)
    if left.state == "succeeded" != before:
        scene.complain("it succeeded without its checkpoints")
