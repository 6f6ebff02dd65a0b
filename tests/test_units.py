"""Sizes and durations: what people write is read, what is ambiguous is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.units import format_bytes, format_count, format_duration, format_usd, parse_bytes, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", None), (90, 90), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("24h", 86400), ("2 days", 172800), (0.5, 0.5)],
)
def test_durations_are_read_as_people_write_them(text, seconds):
    if seconds is None:
        with pytest.raises(ValueError, match="not a duration"):
            parse_duration(text)
    else:
        assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5 fortnights", "-3m", "1h 5", True, float("nan"), float("inf"), -1])
def test_what_is_not_a_duration_is_refused(text):
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "size"), [("64GiB", 64 * 2**30), ("512 MiB", 2**29), (1024, 1024), ("1.5KiB", 1536)])
def test_sizes_are_binary(text, size):
    assert parse_bytes(text) == size


def test_gb_is_refused_because_it_means_two_things():
    with pytest.raises(ValueError, match="ambiguous; write 64GiB"):
        parse_bytes("64GB")


@pytest.mark.parametrize("text", ["", "many", "-1GiB", "99999999999TiB", True])
def test_what_is_not_a_size_is_refused(text):
    with pytest.raises(ValueError, match="size"):
        parse_bytes(text)


@given(st.integers(0, 10**7))
def test_a_formatted_duration_is_never_longer_than_two_units(seconds):
    text = format_duration(seconds)
    assert 1 <= sum(character.isalpha() for character in text) <= 2


@given(st.integers(0, 2**62))
def test_formatted_sizes_name_binary_units(size):
    assert format_bytes(size).split()[1] in {"B", "KiB", "MiB", "GiB", "TiB"}


def test_counts_and_money_read_well():
    assert [format_count(n) for n in (950, 4_282_386, 1.5e9)] == ["950", "4.28M", "1.5B"]
    assert [format_usd(x) for x in (0, 4.213, 0.004, 1234.5)] == ["$0.00", "$4.21", "$0.004", "$1,234.50"]
    assert [format_duration(x) for x in (0.25, 45, 90, 3725, 90000)] == ["250ms", "45s", "1m30s", "1h02m", "1d01h"]
