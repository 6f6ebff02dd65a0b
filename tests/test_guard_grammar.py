"""The grammar of guards: what is accepted, what is refused with a place, and that no text can do harm."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runctl import config as configs
from runctl.errors import ConfigError
from runctl.guards import grammar, listing
from runctl.guards.defaults import Known

METRICS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.]{0,8}(/[a-z0-9_@]{1,8})?", fullmatch=True).filter(
    lambda name: name not in ("nan", "first", "floor", "spike", "plateau", "no")
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False).map(repr)
OPS = st.sampled_from([">", "<", ">=", "<="])
CLAUSES = st.lists(
    st.sampled_from(["after 1 epoch", "for 3 evals", "on missing stop"]), unique_by=lambda text: text.split()[0]
)


@given(METRICS, OPS, NUMBERS, CLAUSES)
@settings(max_examples=200, deadline=None)
def test_every_comparison_is_read_as_it_is_written(metric: str, op: str, number: str, clauses: list[str]) -> None:
    made = grammar.condition(" ".join([metric, op, number, *clauses]))
    test = made["test"]
    assert (test["metric"], test["op"], test["value"]) == (grammar.ALIASES.get(metric, metric), op, float(number))
    assert made["after"] == ({"epochs": 1.0} if "after 1 epoch" in clauses else None)
    assert made["hold"] == ({"times": 3} if "for 3 evals" in clauses else None)
    assert made["missing"] == ("stop" if "on missing stop" in clauses else "note")


WORDS = st.sampled_from(
    ["nan", "in", "spike", "of", "z", "ratio", ">", "<", "over", "plateau", "by", "less", "than", "first", "far",
     "from", "floor", "no", "checkpoint", "for", "after", "on", "missing", "stop", "evals", "epoch", "steps", "10m",
     "5", "50%", "the", "estimate", "start", "ln(", ")", "val/loss", "20GiB", "1e400", "-3", "0"]
)  # fmt: skip


@given(st.one_of(st.text(max_size=60), st.lists(WORDS, max_size=12).map(" ".join)))
@settings(max_examples=600, deadline=None)
def test_any_text_is_a_plain_condition_or_a_value_error(text: str) -> None:
    try:
        made = grammar.condition(text)
    except ValueError:
        return
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    (listed, *_) = listing.made({"guards": [{"when": text, "do": "note"}]}, Known(1.0, 100.0, 1e9, 10))
    assert listed["words"]


@pytest.mark.parametrize("text", grammar.ACCEPTED)
def test_every_example_that_an_error_shows_is_accepted(text: str) -> None:
    assert grammar.condition(text)["test"]["kind"]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("val/loss", "'val/loss' is no condition"),
        ("val/loss >> 3", "'>' was not expected"),
        ("val/loss > 3 for 0 evals", "0 is no count"),
        ("val/loss > 3 after 1 epoch after 2 epochs", "'after' is given twice"),
        ("nan for 3 evals", "'for' goes with METRIC > NUMBER only"),
        ("first train/loss > 50% of the start", "a share of something"),
        ("spike of x z > 6 over 2", "at least 5 values"),
        ("val/loss > 1e999", "not finite"),
        ("__import__('os').system('true')", "was not expected"),
        ("x" * 2_000 + " > 1", "2,004 characters"),
    ],
)
def test_a_bad_condition_says_what_is_wrong(text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=re.escape(wrong)):
        grammar.condition(text)


def test_numbers_may_be_sizes_shares_and_logarithms() -> None:
    assert grammar.condition("memory > 1.5GiB")["test"]["value"] == 1.5 * 2**30
    assert grammar.condition("skipped > 1%")["test"]["value"] == 0.01
    assert grammar.condition("floor ln(256)")["test"]["value"] == math.log(256)
    assert grammar.moment("1h30m") == {"seconds": 5400.0}


def test_a_bad_guard_is_an_error_at_its_place_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "training: {steps: 10}\nguards:\n  - {when: nan}\n  - when: val/loss is bad\n  - {when: nan, after: soon}\n"
    )
    with pytest.raises(ConfigError) as caught:
        configs.load(path)
    first, second = caught.value.problems
    assert (first.line, first.column) == (4, 5)
    assert first.message.startswith("guards[1].when: 'val/loss is bad' is no condition: 'is' was not expected")
    assert "val/loss > 0.40" in (first.hint or "")
    assert (second.line, second.message) == (5, "guards[2].after: 'soon' is no point of a run: 'soon' was not expected")


def test_guards_are_told_in_words() -> None:
    config = {"task": "worldmodel", "guards": [{"when": "val/loss > 0.40", "after": "1 epoch", "do": "stop"}]}
    (one, *_) = listing.made(config)
    assert one["words"] == (
        "the run will be stopped, with a checkpoint, if val/loss is above 0.4 at any validation after epoch 1"
    )


def test_a_guard_of_the_config_takes_the_place_of_the_default_about_the_same() -> None:
    found = listing.made(
        {"task": "worldmodel", "checkpoint": {"every": "600s"}, "guards": [{"when": "nan", "do": "nothing"}]}
    )
    assert [(one["name"], one["on"]) for one in found if one["test"]["kind"] == "nan"] == [("nan", False)]
    assert [one["name"] for one in found if one["on"]] == ["first loss", "no checkpoint for 30m", "skipped > 1%"]


def test_a_share_of_the_estimate_becomes_a_number_or_is_off_with_the_reason() -> None:
    config = {"guards": [{"when": "throughput < 50% of the estimate", "do": "stop"}]}
    known = listing.made(config, Known(examples_per_second=900.0))[0]
    assert (known["test"]["value"], known["on"]) == (450.0, True)
    unknown = listing.made(config, Known(why={"examples_per_second": "no windows were counted"}))[0]
    assert not unknown["on"]
    assert unknown["off_because"].endswith("no windows were counted")


@pytest.mark.parametrize(
    ("usd_per_hour", "on", "why"),
    [(2.5, True, ""), (0.0, False, "costs nothing here"), (None, False, "price is unknown")],
)
def test_a_ceiling_of_money_needs_a_price(usd_per_hour: float | None, on: bool, why: str) -> None:
    found = listing.made({"budget": {"max_cost_usd": 10}}, Known(usd_per_hour=usd_per_hour))
    (ceiling,) = [one for one in found if one["name"] == "budget.max_cost_usd"]
    assert ceiling["on"] is on
    assert why in ceiling["off_because"]
