"""The encoding: where every value lies, and which settings make another dataset."""

from __future__ import annotations

import subprocess
import sys
from itertools import product

import pytest

from runctl.config.model import Encoding
from runctl.tasks.worldmodel import encoding as encodings
from runctl.tasks.worldmodel.encoding import BYTES, Layout

FLAGS = ("state_age_as_embed", "projectiles", "state_flags", "hitstun")
ALL = [Encoding(**dict(zip(FLAGS, values, strict=True))) for values in product((False, True), repeat=4)]


@pytest.mark.parametrize("encoding", ALL)
def test_columns_follow_each_other_without_gap_or_overlap(encoding: Encoding) -> None:
    layout = encodings.columns(encoding)
    offset = 0
    for column in layout.columns:
        assert column.offset == offset, column
        offset += BYTES[column.dtype]
    assert 0 <= layout.record_bytes - offset < 4
    assert layout.record_bytes % 4 == 0
    assert len(set(layout.names())) == len(layout.columns)


@pytest.mark.parametrize("encoding", ALL)
def test_both_players_have_the_same_columns(encoding: Encoding) -> None:
    columns = encodings.columns(encoding).columns
    first, second = ([column.field for column in columns if column.player == player] for player in (0, 1))
    assert first == second
    assert sorted(first) == sorted(encodings.fields(encoding))
    assert [column.name for column in columns if column.player is None] == ["stage"]


def test_a_frame_takes_at_most_a_third_of_712_bytes_with_every_flag_on() -> None:
    assert encodings.columns(Encoding(**dict.fromkeys(FLAGS, True))).record_bytes <= 712 // 3


@pytest.mark.parametrize(("flag", "names"), [
    ("projectiles", {"item_dx", "item_dy", "items"}),
    ("state_flags", {f"flags{index}" for index in range(5)}),
    ("hitstun", {"hitstun"}),
])  # fmt: skip
def test_a_flag_adds_its_own_columns_and_no_others(flag: str, names: set[str]) -> None:
    without, with_it = encodings.fields(Encoding()), encodings.fields(Encoding(**{flag: True}))
    assert set(with_it) - set(without) == names
    assert set(without) <= set(with_it)


def test_state_age_is_an_id_or_a_number() -> None:
    embedded, plain = (encodings.columns(Encoding(state_age_as_embed=on)) for on in (True, False))
    assert (embedded.column("p0_state_age").dtype, embedded.column("p0_state_age").vocab) == ("u8", 150)
    assert (plain.column("p0_state_age").dtype, plain.column("p0_state_age").vocab) == ("f32", None)


def test_a_layout_survives_its_manifest() -> None:
    layout = encodings.columns(ALL[-1])
    assert Layout.from_manifest(layout.to_manifest()) == layout


def test_only_what_is_stored_changes_the_digest() -> None:
    base = encodings.dataset_digest(Encoding())
    for flag in FLAGS:
        assert encodings.dataset_digest(Encoding(**{flag: True})) != base
    assert encodings.dataset_digest(Encoding(action_vocab=401)) != base
    assert encodings.dataset_digest(Encoding(xy_scale=1.0, action_embed_dim=16)) == base
    assert encodings.dataset_digest(Encoding(state_age_embed_vocab=99)) == base
    embedded = [Encoding(state_age_as_embed=True, state_age_embed_vocab=vocab) for vocab in (99, 150)]
    assert len({encodings.dataset_digest(encoding) for encoding in embedded}) == 2


def test_the_encoding_is_known_without_numpy_and_torch() -> None:
    program = (
        "import sys\n"
        "from runctl.config.model import Encoding\n"
        "from runctl.tasks.worldmodel import encoding\n"
        "encoding.columns(Encoding()), encoding.dataset_digest(Encoding())\n"
        "sys.exit(bool({'numpy', 'torch'} & set(sys.modules)))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
