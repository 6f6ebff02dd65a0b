"""The simulated world: bodies, platforms, attacks. All arrays are (G, 2): games by players.

Lengths are game units, speeds game units per frame, the floor is y = 0. Action numbers follow those of Melee where
an action has a counterpart there. A frame is: age and time out actions, obey the controller, move, collide, hit.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from runctl.tasks.worldmodel.games import Array

if TYPE_CHECKING:
    from runctl.tasks.worldmodel.policy import Pad

DEAD, REBIRTH, STANDING, WALKING, TURNING, DASHING, RUNNING = 0, 12, 14, 15, 18, 20, 21
SQUATTING_TO_JUMP, JUMPING, AIR_JUMPING, FALLING, CROUCHING, LANDING = 24, 25, 27, 29, 39, 42
JAB, SMASH, AIR_ATTACK, AIR_LANDING = 44, 58, 65, 70
HURT_ON_GROUND, HURT_IN_AIR, GUARDING, SHOOTING = 75, 84, 179, 341

NEXT = {  # action: (frames it lasts, what follows)
    DEAD: (45, REBIRTH),
    REBIRTH: (50, FALLING),
    TURNING: (5, STANDING),
    DASHING: (11, RUNNING),
    LANDING: (4, STANDING),
    AIR_LANDING: (14, STANDING),
    JUMPING: (32, FALLING),
    AIR_JUMPING: (38, FALLING),
    JAB: (15, STANDING),
    SMASH: (38, STANDING),
    AIR_ATTACK: (30, FALLING),
    SHOOTING: (34, STANDING),
}
ATTACKS = {  # action: (first and last frame that hits, reach, damage, knockback, last-attack id)
    JAB: (3, 5, 13.0, 4.0, 0.9, 2),
    SMASH: (12, 16, 17.0, 14.0, 2.2, 10),
    AIR_ATTACK: (4, 12, 14.0, 9.0, 1.5, 13),
}
# character id: gravity, fall speed, air speed, walk speed, dash speed, jump speed, air jump speed, weight
CHARACTERS = {
    1: (0.23, 2.8, 0.83, 1.6, 2.2, 3.7, 4.1, 0.75),
    2: (0.13, 2.9, 1.12, 0.85, 2.3, 3.1, 2.8, 1.04),
    19: (0.12, 2.1, 1.0, 1.3, 1.9, 2.9, 2.7, 0.90),
    9: (0.08, 1.9, 1.35, 0.7, 1.5, 2.4, 2.3, 0.6),
}
STAGES = {31: (68.0, 27.2, 20.0, 57.6), 32: (85.0, 0.0, 0.0, 0.0)}  # half floor; platform height, inner, outer edge
BLAST_X, BLAST_TOP, BLAST_BOTTOM = 220.0, 190.0, -105.0
FRICTION, AIR_FRICTION, DRIFT, KNOCKBACK_DECAY = 0.08, 0.02, 0.07, 0.051


@dataclass
class World:
    """The state of all games of a batch; `stage` and `floor` are (G,) and (G, 1), the rest (G, 2)."""

    stage: Array
    floor: Array
    platform: Array
    character: Array
    body: Array
    x: Array
    y: Array
    vx: Array
    vy: Array
    push_x: Array
    push_y: Array
    percent: Array
    shield: Array
    stocks: Array
    combo: Array
    hitlag: Array
    hitstun: Array
    action: Array
    age: Array
    facing: Array
    jumps: Array
    on_ground: Array
    ground: Array
    safe: Array
    l_cancel: Array
    last_attack: Array
    shot_x: Array
    shot_y: Array
    shot_v: Array
    shot_left: Array


def start(rng: np.random.Generator, games: int) -> World:
    """Both players stand facing each other on a random stage."""
    zero = np.zeros((games, 2))
    made = {field.name: zero.copy() for field in fields(World)}
    made["stage"] = rng.choice(np.array(list(STAGES)), games)
    made["floor"] = np.array([[STAGES[int(stage)][0]] for stage in made["stage"]])
    made["platform"] = np.array([STAGES[int(stage)][1:] for stage in made["stage"]])
    made["character"] = rng.choice(np.array(list(CHARACTERS)), (games, 2))
    made["body"] = np.array([[CHARACTERS[int(who)] for who in pair] for pair in made["character"]])
    made["x"] = np.tile(np.array([-40.0, 40.0]), (games, 1)) + rng.uniform(-8, 8, (games, 2))
    made["facing"] = np.tile(np.array([1.0, -1.0]), (games, 1))
    made["shield"] += 60
    made["stocks"] += 4
    made["jumps"] += 2
    made["on_ground"] += 1
    made["action"] = np.full((games, 2), STANDING)
    return World(**made)


def step(world: World, pad: Pad, rng: np.random.Generator) -> None:
    """Advance every game by one frame, in place."""
    frozen = world.hitlag > 0
    world.hitlag = np.maximum(world.hitlag - 1, 0)
    live = ~frozen
    world.age = world.age + live
    world.safe = np.maximum(world.safe - live, 0)
    _time_out(world, live)
    _obey(world, pad, live)
    _move(world, pad, live)
    _land(world, pad, live)
    _hit(world)
    _shots(world, rng)
    _blast(world)


def observe(world: World) -> dict[str, Array]:
    """The columns of this frame, (G, 2) each, under the names of the encoding."""
    airborne = world.on_ground == 0
    single: dict[str, Array] = {
        "percent": world.percent, "x": world.x, "y": world.y, "shield": world.shield,
        "self_air_x": np.where(airborne, world.vx, 0), "self_y": world.vy,
        "attack_x": world.push_x, "attack_y": world.push_y,
        "self_ground_x": np.where(airborne, 0, world.vx),
        "state_age": world.age, "hitlag": world.hitlag, "hitstun": world.hitstun,
    }  # fmt: skip
    whole: dict[str, Array] = {
        "jumps": world.jumps, "character": world.character, "l_cancel": world.l_cancel, "hurtbox": world.safe > 0,
        "last_attack": world.last_attack, "stocks": world.stocks, "combo": world.combo,
        "facing": world.facing > 0, "invulnerable": world.safe > 0, "on_ground": world.on_ground,
    }  # fmt: skip
    ids: dict[str, Array] = {"action": world.action.astype(np.uint16), "ground": world.ground.astype(np.uint16)}
    rows: dict[str, Array] = {name: values.astype(np.float32) for name, values in single.items()}
    rows |= {name: values.astype(np.uint8) for name, values in whole.items()}
    return {**rows, **ids, **_items(world), **_flags(world)}


def _enter(world: World, where: Array, action: int) -> None:
    world.action[where] = action
    world.age[where] = 0


def _is(world: World, *actions: int) -> Array:
    found: Array = np.isin(world.action, actions)
    return found


def _time_out(world: World, live: Array) -> None:
    """End actions that have lasted their time, and hitstun."""
    before = world.action.copy()
    for action, (length, following) in NEXT.items():
        over = live & (before == action) & (world.age >= length)
        if not over.any():
            continue
        if action == DEAD:
            world.x[over], world.y[over], world.percent[over], world.shield[over] = 0, 55, 0, 60
        if action == REBIRTH:
            world.safe[over], world.jumps[over] = 90, 1
        _enter(world, over, following)
        if following == STANDING:
            _enter(world, over & (world.on_ground == 0), FALLING)
    soft = live & (before == AIR_LANDING) & (world.l_cancel == 1) & (world.age >= 7)
    _enter(world, soft, STANDING)
    world.hitstun = np.maximum(world.hitstun - live, 0)
    freed = live & _is(world, HURT_IN_AIR, HURT_ON_GROUND) & (world.hitstun == 0)
    _enter(world, freed & (world.on_ground == 0), FALLING)
    _enter(world, freed & (world.on_ground == 1), STANDING)
    world.combo[:, ::-1][freed] = 0


def _obey(world: World, pad: Pad, live: Array) -> None:
    """Start what the controller asks for, where the current action allows it."""
    body = world.body
    ready = live & (world.on_ground == 1) & _is(world, STANDING, WALKING, DASHING, RUNNING, CROUCHING, GUARDING)
    jump = pad.button("x") | pad.button("y")
    guard, forward = pad.shoulder > 0.3, np.abs(pad.stick_x) > 0.25
    attack = ready & (pad.button("a") | pad.button("z"))
    smash = ready & (np.abs(pad.cstick_x) > 0.5)
    shoot = ready & pad.button("b")
    leap = ready & jump & ~attack & ~smash & ~shoot
    _enter(world, attack, JAB)
    _enter(world, smash & ~attack, SMASH)
    world.facing = np.where(smash & ~attack, np.sign(pad.cstick_x), world.facing)
    _enter(world, shoot & ~attack & ~smash, SHOOTING)
    _enter(world, leap, SQUATTING_TO_JUMP)
    free = ready & ~(attack | smash | shoot | leap)
    _enter(world, free & guard & ~_is(world, GUARDING), GUARDING)
    _enter(world, free & ~guard & _is(world, GUARDING), STANDING)
    free &= ~guard
    turn = free & forward & (np.sign(pad.stick_x) != world.facing)
    world.facing = np.where(turn, np.sign(pad.stick_x), world.facing)
    _enter(world, turn, TURNING)
    free &= ~turn
    hard = np.abs(pad.stick_x) > 0.8
    _enter(world, free & hard & _is(world, STANDING, CROUCHING), DASHING)
    _enter(world, free & forward & ~hard & _is(world, STANDING, CROUCHING, RUNNING), WALKING)
    _enter(world, free & ~forward & _is(world, WALKING, RUNNING), STANDING)
    low = free & ~forward & (pad.stick_y < -0.6)
    _enter(world, low & _is(world, STANDING), CROUCHING)
    _enter(world, free & ~low & _is(world, CROUCHING), STANDING)

    off = live & _is(world, SQUATTING_TO_JUMP) & (world.age >= 4)
    world.vy = np.where(off, np.where(jump, 1.0, 0.75) * body[..., 5], world.vy)
    world.on_ground[off] = 0
    world.jumps[off] = 1
    _enter(world, off, JUMPING)
    airy = live & (world.on_ground == 0) & _is(world, JUMPING, AIR_JUMPING, FALLING) & ~off
    again = airy & jump & (world.jumps > 0) & (world.age > 6)
    world.vy = np.where(again, body[..., 6], world.vy)
    world.jumps[again] = 0
    _enter(world, again, AIR_JUMPING)
    _enter(world, airy & ~again & pad.button("a"), AIR_ATTACK)


def _move(world: World, pad: Pad, live: Array) -> None:
    """Speeds after this frame's forces, then positions by them."""
    gravity, fall, air, walk, dash = (world.body[..., index] for index in range(5))
    ground = world.on_ground == 1
    wanted = np.where(_is(world, WALKING), walk * np.abs(pad.stick_x), 0.0)
    wanted = np.where(_is(world, DASHING, RUNNING), dash, wanted) * world.facing
    grip = np.where(wanted != 0, 0.5, FRICTION)
    on_floor = world.vx + np.clip(wanted - world.vx, -grip, grip)
    steer = np.where(_is(world, HURT_IN_AIR, DEAD, REBIRTH), 0.0, pad.stick_x)
    target = steer * air
    rate = np.where(np.abs(steer) > 0.2, DRIFT, AIR_FRICTION)
    in_air = world.vx + np.clip(target - world.vx, -rate, rate)
    held = _is(world, DEAD, REBIRTH)
    world.vx = np.where(live, np.where(held, 0.0, np.where(ground, on_floor, in_air)), world.vx)
    fast = (pad.stick_y < -0.6) & (world.vy < 0) & _is(world, FALLING, AIR_ATTACK)
    dropped = np.where(fast, -1.25 * fall, np.maximum(world.vy - gravity, -fall))
    world.vy = np.where(live, np.where(held | ground, 0.0, dropped), world.vy)
    strength = np.hypot(world.push_x, world.push_y)
    keep = np.maximum(strength - KNOCKBACK_DECAY, 0) / np.maximum(strength, 1e-9)
    world.push_x = np.where(live, world.push_x * keep, world.push_x)
    world.push_y = np.where(live, world.push_y * keep, world.push_y)
    world.x = np.where(live & ~held, world.x + world.vx + world.push_x, world.x)
    world.y = np.where(live & ~held, world.y + world.vy + world.push_y, world.y)


def _land(world: World, pad: Pad, live: Array) -> None:
    """Floor and platforms stop what falls on them; what walks off an edge falls."""
    height, inner, outer = (world.platform[:, index, None] for index in range(3))
    speed = world.vy + world.push_y
    over_floor = np.abs(world.x) <= world.floor
    over_platform = (height > 0) & (np.abs(world.x) >= inner) & (np.abs(world.x) <= outer)
    air = live & (world.on_ground == 0) & (speed <= 0) & ~_is(world, DEAD, REBIRTH)
    floor = air & over_floor & (world.y <= 0) & (world.y - speed >= -1e-6)
    deck = air & over_platform & (world.y <= height) & (world.y - speed >= height) & (pad.stick_y > -0.9)
    landed = floor | deck
    world.y = np.where(floor, 0.0, np.where(deck, height, world.y))
    world.ground = np.where(floor, 0, np.where(deck, np.where(world.x > 0, 2, 1), world.ground))
    world.vy = np.where(landed, 0.0, world.vy)
    world.push_y = np.where(landed, 0.0, world.push_y)
    world.on_ground[landed] = 1
    world.jumps[landed] = 2
    cancel = landed & _is(world, AIR_ATTACK)
    staying = _is(world, AIR_LANDING)
    status = np.where(cancel, np.where(pad.button("l"), 1, 2), np.where(staying, world.l_cancel, 0))
    world.l_cancel = np.where(live, status, world.l_cancel)
    _enter(world, cancel, AIR_LANDING)
    _enter(world, landed & ~cancel & ~_is(world, HURT_IN_AIR), LANDING)
    _enter(world, landed & _is(world, HURT_IN_AIR), HURT_ON_GROUND)
    resting = live & (world.on_ground == 1) & ~landed
    off = resting & np.where(world.y > 0, ~over_platform, ~over_floor)
    world.on_ground[off] = 0
    world.jumps[off] = 1
    _enter(world, off & ~_is(world, HURT_ON_GROUND), FALLING)
    _enter(world, off & _is(world, HURT_ON_GROUND), HURT_IN_AIR)


def _hit(world: World) -> None:
    """Attacks that reach the other player: shield loss, or damage, hitlag, knockback and hitstun."""
    gap = world.x[:, ::-1] - world.x
    height = np.abs(world.y[:, ::-1] - world.y)
    for action, (first, last, reach, damage, knockback, number) in ATTACKS.items():
        swing = (world.action == action) & (world.age >= first) & (world.age <= last) & (world.hitlag == 0)
        ahead = (np.sign(gap) == world.facing) | (action == AIR_ATTACK)
        open_ = (world.safe == 0) & ~_is(world, DEAD, REBIRTH) & (world.hitlag == 0) & (world.hitstun == 0)
        lands = swing & ahead & (np.abs(gap) < reach) & (height < 12) & open_[:, ::-1]
        if not lands.any():
            continue
        world.last_attack[lands] = number
        world.hitlag[lands] = np.floor(damage / 3 + 3)
        struck = lands[:, ::-1]
        blocked = struck & _is(world, GUARDING)
        world.shield = np.where(blocked, np.maximum(world.shield - damage, 0), world.shield)
        world.hitlag[struck] = np.floor(damage / 3 + 3)
        hurt = struck & ~blocked
        world.combo = np.where(hurt[:, ::-1], world.combo + 1, world.combo)
        world.percent = np.where(hurt, world.percent + damage, world.percent)
        power = knockback * (0.6 + world.percent / 60) * (1.6 - world.body[..., 7])
        away = np.where(world.x >= world.x[:, ::-1], 1.0, -1.0)
        world.push_x = np.where(hurt, away * power * 0.75, world.push_x)
        world.push_y = np.where(hurt, power * 0.66, world.push_y)
        world.vx, world.vy = np.where(hurt, 0.0, world.vx), np.where(hurt, 0.0, world.vy)
        world.hitstun = np.where(hurt, np.floor(power * 9 + 4), world.hitstun)
        world.facing = np.where(hurt, -away, world.facing)
        world.on_ground[hurt] = 0
        _enter(world, hurt, HURT_IN_AIR)
    guarding = _is(world, GUARDING)
    world.shield = np.where(guarding, np.maximum(world.shield - 0.28, 0), np.minimum(world.shield + 0.07, 60))


def _shots(world: World, rng: np.random.Generator) -> None:
    """A fired shot flies level until it ends or stings the other player."""
    fire = (world.action == SHOOTING) & (world.age == 12)
    spread = rng.uniform(-0.5, 0.5, fire.shape)
    world.shot_x = np.where(fire, world.x + 8 * world.facing, world.shot_x + world.shot_v)
    world.shot_y = np.where(fire, world.y + 8, world.shot_y)
    world.shot_v = np.where(fire, world.facing * (4 + spread), world.shot_v)
    world.shot_left = np.where(fire, 35, np.maximum(world.shot_left - 1, 0))
    near = np.abs(world.shot_x - world.x[:, ::-1]) < 5
    level = np.abs(world.shot_y - 8 - world.y[:, ::-1]) < 9
    stings = (world.shot_left > 0) & near & level & (world.safe[:, ::-1] == 0)
    world.shot_left[stings] = 0
    world.percent = np.where(stings[:, ::-1], world.percent + 2, world.percent)


def _blast(world: World) -> None:
    """Beyond the edges of the world a stock is lost; after the last one a new set begins."""
    out = (np.abs(world.x) > BLAST_X) | (world.y < BLAST_BOTTOM) | (world.y > BLAST_TOP)
    out &= ~_is(world, DEAD, REBIRTH)
    if not out.any():
        return
    world.stocks = np.where(out, np.where(world.stocks > 1, world.stocks - 1, 4), world.stocks)
    for values in (world.vx, world.vy, world.push_x, world.push_y, world.hitstun, world.hitlag, world.on_ground):
        values[out] = 0
    world.combo[out[:, ::-1]] = 0
    _enter(world, out, DEAD)


def _items(world: World) -> dict[str, Array]:
    """Nearest shot and number of shots, as seen by each player."""
    active = world.shot_left > 0
    count = active.sum(axis=1, keepdims=True).repeat(2, axis=1)
    dx = world.shot_x[:, None, :] - world.x[:, :, None]  # (G, player, shot)
    dy = world.shot_y[:, None, :] - world.y[:, :, None]
    distance = np.where(active[:, None, :], dx * dx + dy * dy, np.inf)
    nearest = distance.argmin(axis=2)[..., None]
    some = count > 0
    return {
        "item_dx": np.where(some, np.take_along_axis(dx, nearest, 2)[..., 0], 0).astype(np.float32),
        "item_dy": np.where(some, np.take_along_axis(dy, nearest, 2)[..., 0], 0).astype(np.float32),
        "items": count.astype(np.uint8),
    }


def _flags(world: World) -> dict[str, Array]:
    """Five bytes with the bits that have a meaning here, at Slippi's places."""
    return {
        "flags0": np.zeros(world.x.shape, np.uint8),
        "flags1": _bit(world.hitlag > 0, 0x20) | _bit(world.safe > 0, 0x04),
        "flags2": _bit(_is(world, GUARDING), 0x80),
        "flags3": _bit(world.hitstun > 0, 0x02),
        "flags4": _bit(_is(world, DEAD), 0x40) | _bit(np.abs(world.x) > 160, 0x80),
    }


def _bit(where: Array, value: int) -> Array:
    bits: Array = np.where(where, value, 0).astype(np.uint8)
    return bits
