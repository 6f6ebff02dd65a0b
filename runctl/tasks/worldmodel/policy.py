"""The simulated players: a goal for a while, then another, with a noisy hand on the controller.

All arrays are (G, 2): games by players.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from runctl.tasks.worldmodel.arena import FALLING, World
from runctl.tasks.worldmodel.encoding import BUTTONS, STICKS
from runctl.tasks.worldmodel.games import Array

GOALS = ("approach", "retreat", "jump", "attack", "smash", "shield", "shoot", "wait", "crouch")
ODDS = (0.25, 0.13, 0.15, 0.18, 0.06, 0.07, 0.05, 0.08, 0.03)


@dataclass
class Minds:
    """What each player is up to: an index into GOALS, frames left of it, and how far the stick is pushed."""

    goal: Array
    left: Array
    push: Array
    beat: Array


@dataclass
class Pad:
    """One frame of controller input. Sticks −1…1 in steps of 1/80, `buttons` is bool (8, G, 2) in BUTTONS' order."""

    stick_x: Array
    stick_y: Array
    cstick_x: Array
    cstick_y: Array
    shoulder: Array
    buttons: Array

    def button(self, name: str) -> Array:
        pressed: Array = self.buttons[BUTTONS.index(f"button_{name}")]
        return pressed


def start(games: int) -> Minds:
    shape = (games, 2)
    return Minds(np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape, np.int64))


def act(minds: Minds, world: World, rng: np.random.Generator) -> Pad:
    """Choose this frame's inputs; the number of random draws never depends on the state."""
    shape = minds.goal.shape
    chance = rng.random((5, *shape))
    done = minds.left <= 0
    minds.goal[done] = np.searchsorted(np.cumsum(ODDS), chance[0][done] * 0.9999)
    minds.left[done] = 8 + (chance[1][done] * 28).astype(np.int64)
    minds.push[done] = np.choose((chance[2][done] * 4).astype(np.int64), (0.4, 0.7, 1.0, 1.0))
    minds.beat[done] = 0
    minds.left -= 1
    is_goal = {name: minds.goal == index for index, name in enumerate(GOALS)}

    gap = world.x[:, ::-1] - world.x
    toward = np.where(gap >= 0, 1.0, -1.0)
    close = np.abs(gap) < 16
    stick_x = np.where(is_goal["approach"] | is_goal["jump"], toward, 0.0)
    stick_x = np.where(is_goal["retreat"], -toward, stick_x)
    stick_x = np.where((is_goal["attack"] | is_goal["smash"]) & ~close, toward, stick_x) * minds.push
    stick_y = np.where(is_goal["crouch"], -1.0, 0.0)
    stick_y = np.where((world.action == FALLING) & (chance[3] < 0.3), -1.0, stick_y)

    off_stage = np.abs(world.x) > world.floor
    home = np.where(world.x > 0, -1.0, 1.0)
    stick_x = np.where(off_stage, home, stick_x)
    shaky = np.clip(stick_x + (chance[4] - 0.5) * 0.1 * (stick_x != 0), -1, 1)

    rhythm = minds.beat % 12 == 0
    pressed = np.zeros((len(BUTTONS), *shape), np.bool_)
    press = dict(zip(BUTTONS, pressed, strict=True))
    press["button_x"][:] = (is_goal["jump"] & (minds.beat % 20 < 3)) | (off_stage & (world.vy < 0) & (chance[3] < 0.15))
    press["button_a"][:] = is_goal["attack"] & close & rhythm
    press["button_b"][:] = is_goal["shoot"] & rhythm & ~off_stage
    guard = is_goal["shield"] & ~off_stage
    press["button_r"][:] = guard
    press["button_l"][:] = (world.on_ground == 0) & (world.y < 8) & (world.vy < 0) & (chance[2] < 0.5)
    press["button_y"][:] = is_goal["approach"] & (chance[3] < 0.01)
    press["button_z"][:] = is_goal["smash"] & close & (minds.beat == 6)
    press["button_d_up"][:] = is_goal["wait"] & (chance[3] < 0.005)
    cstick_x = np.where(is_goal["smash"] & rhythm, toward, 0.0)
    cstick_y = np.where(is_goal["smash"] & rhythm & (world.on_ground == 0), 1.0, 0.0)
    minds.beat += 1
    return Pad(np.round(shaky * 80) / 80, stick_y, cstick_x, cstick_y, np.where(guard, 0.9, 0.0), pressed)


def observe(pad: Pad) -> dict[str, Array]:
    """The controller's columns, (G, 2) each."""
    sticks: dict[str, Array] = {name: getattr(pad, name).astype(np.float32) for name in STICKS}
    buttons: dict[str, Array] = {n: pressed.astype(np.uint8) for n, pressed in zip(BUTTONS, pad.buttons, strict=True)}
    return {**sticks, "shoulder": pad.shoulder.astype(np.float32), **buttons}
