"""The fast parser: peppi-py. Whole columns as Arrow arrays, about 800,000 frames a second on one core.

Why not its public function: state flags and items are only in what `peppi_py._peppi.read_slippi` returns. Why so
careful: it is Rust behind pyo3, whose panics are BaseExceptions and print to the process' stderr.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from runctl.tasks.worldmodel.games import Array
from runctl.tasks.worldmodel.slp_columns import Items, Recording

NAME = "peppi-py"
PRE = {
    "stick_x": ("joystick", "x"), "stick_y": ("joystick", "y"), "cstick_x": ("cstick", "x"),
    "cstick_y": ("cstick", "y"), "shoulder": ("triggers",), "buttons": ("buttons",),
}  # fmt: skip
POST = {
    "percent": ("percent",), "x": ("position", "x"), "y": ("position", "y"), "shield": ("shield",),
    "self_air_x": ("velocities", "self_x_air"), "self_y": ("velocities", "self_y"),
    "attack_x": ("velocities", "knockback_x"), "attack_y": ("velocities", "knockback_y"),
    "self_ground_x": ("velocities", "self_x_ground"), "state_age": ("state_age",), "hitlag": ("hitlag",),
    "action": ("state",), "jumps": ("jumps",), "character": ("character",), "l_cancel": ("l_cancel",),
    "hurtbox": ("hurtbox_state",), "ground": ("ground",), "last_attack": ("last_attack_landed",),
    "stocks": ("stocks",), "combo": ("combo_count",), "direction": ("direction",), "airborne": ("airborne",),
    "misc": ("misc_as",), **{f"flags{index}": ("state_flags", str(index)) for index in range(5)},
}  # fmt: skip


class Refused(Exception):
    """peppi cannot read this replay."""


def read(data: bytes, ports: Sequence[int]) -> Recording:
    """The recording of the players at these ports; raises Refused for whatever peppi makes of the bytes."""
    import pyarrow  # noqa: F401, needed by peppi only when it reads: its absence must be an ImportError
    from peppi_py._peppi import read_slippi

    with _file(data) as path, _no_stderr():
        try:
            frames = read_slippi(path, False).frames
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # a Rust panic is one
            raise Refused(type(error).__name__) from None
    if frames is None:
        raise Refused("no frames")
    try:
        return _recording(frames, ports)
    except KeyError as missing:
        raise Refused(f"no {missing}") from None


def _recording(frames: Any, ports: Sequence[int]) -> Recording:
    whole: Array = np.ones(len(frames), np.bool_)
    columns = {}
    for port in ports:
        leader = frames.field("ports").field(f"P{port}").field("leader")
        for array in (frames.field("ports").field(f"P{port}"), leader, leader.field("pre"), leader.field("post")):
            if array.null_count:
                whole &= array.is_valid().to_numpy(zero_copy_only=False)
        columns[port] = {**_values(leader.field("pre"), PRE), **_values(leader.field("post"), POST)}
    return Recording(frames.field("id").to_numpy(), whole, columns, _items(frames))


def _values(struct: Any, names: dict[str, tuple[str, ...]]) -> dict[str, Array]:
    found = {}
    for name, path in names.items():
        array = struct
        try:
            for step in path:
                array = array.field(step)
        except KeyError:  # this version of the recording lacks it
            continue
        found[name] = array.to_numpy(zero_copy_only=False)
    return found


def _items(frames: Any) -> Items | None:
    try:
        lists = frames.field("item")
    except KeyError:
        return None
    offsets = lists.offsets.to_numpy()
    values = lists.values.slice(offsets[0], offsets[-1] - offsets[0])
    row: Array = np.repeat(np.arange(len(lists)), np.diff(offsets))
    position = values.field("position")
    return Items(row, position.field("x").to_numpy(), position.field("y").to_numpy())


@contextmanager
def _file(data: bytes) -> Iterator[str]:
    """A path that peppi can open and that vanishes with this process, in memory where the system can."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("replay")
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.NamedTemporaryFile(suffix=".slp") as named:
        named.write(data)
        named.flush()
        yield named.name


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Rust announces a panic on file descriptor 2 before Python hears of it: it is expected here, so it is dropped."""
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)
