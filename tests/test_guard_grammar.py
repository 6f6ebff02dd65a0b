"""The grammar of guards: what is accepted, what is refused with a place, and that no text can do harm."""

from __future__ import annotations

import json
import math
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runctl import config as configs
from runctl import preflight
from runctl.errors import ConfigError
from runctl.estimate import calibration
from runctl.guards import grammar, listing
from runctl.guards.defaults import Known

METRICS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.]{0,8}(/[a-z0-9_@]{1,8})?", fullmatch=True).filter(
    lambda name: name not in ("nan", "first", "floor", "spike", "plateau", "no", "drift", "creep", "chance")
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
     "5", "50%", "the", "estimate", "probe", "start", "ln(", "drift", "creep", "chance", "among",
     "within", "mfu", ")", "val/loss", "20GiB", "1e400", "-3", "0"]
)  # fmt: skip


KNOWN = Known(
    usd_per_hour=1.0,
    examples_per_second=100.0,
    probe_examples_per_second=90.0,
    measured=True,
    memory_bytes=1e9,
    gpu=True,
    steps=1000,
    steps_per_epoch=10,
    flops_per_example=1e9,
    peak_flops=1e14,
    peak_words="100 TFLOP/s, the peak of a GPU",
)


@given(st.one_of(st.text(max_size=60), st.lists(WORDS, max_size=12).map(" ".join)))
@settings(max_examples=600, deadline=None)
def test_any_text_is_a_plain_condition_or_a_value_error(text: str) -> None:
    try:
        made = grammar.condition(text)
    except ValueError:
        return
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    (listed, *_) = listing.made({"guards": [{"when": text, "do": "note"}]}, KNOWN)
    assert listed["words"]


@pytest.mark.parametrize("text", grammar.ACCEPTED)
def test_every_example_that_an_error_shows_is_accepted(text: str) -> None:
    assert grammar.condition(text)["test"]["kind"]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("val/loss", "'val/loss' is no condition"),
        ("val/loss >> 3", "'>' was not expected"),
        ("memory > 20GB", "'GB' was not expected; write GiB"),
        ("val/loss > 3 for 0 evals", "0 is no count"),
        ("val/loss > 3 after 1 epoch after 2 epochs", "'after' is given twice"),
        ("nan for 3 evals", "'for' goes with METRIC > NUMBER and with chance only"),
        ("first train/loss > 50% of the start", "a share of something"),
        ("spike of x z > 6 over 2", "at least 5 values"),
        ("val/loss > 1e999", "not finite"),
        ("drift of throughput > 0%", "the limit of a drift must be above zero"),
        ("chance of val/acc among 1.5", "1.5 is no number of classes"),
        ("drift of throughput > 30% for 3 evals", "with chance only"),
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
    assert [one["name"] for one in found if one["on"]] == [
        "first loss",
        "floor 0 of train/loss",
        "spike of train/loss ratio > 10 over 50",
        "no checkpoint for 30m",
        "drift of throughput > 30% after 10m",
        "creep of memory > 30% after 10m",
    ]


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


def guards_of(folder: Path, text: str) -> dict[str, dict[str, Any]]:
    (folder / "runctl.yaml").write_text("{}\n")
    path = folder / "a.yaml"
    path.write_text(text)
    facts, _ = preflight.gather(path)
    return {one["name"]: one for one in facts.need("guards.all")}


def test_the_utilisation_is_held_against_the_catalogue_or_what_was_measured_here(tmp_path: Path) -> None:
    wide = "training: {steps: 100, precision: bf16}\n"
    gpu = guards_of(tmp_path, wide + "compute: {backend: modal, gpu: 'A100-40GB:2'}\n")["mfu < 1% for 10m"]
    assert gpu["on"]
    assert gpu["test"]["peak"] == 2 * 312e12
    assert gpu["test"]["basis"] == "of 624 TFLOP/s, the peak of 2 × A100-40GB in bf16"
    assert gpu["words"] == (
        "a note is made if mfu is below 1 % (of 624 TFLOP/s, the peak of 2 × A100-40GB in bf16) for 10m00s"
    )
    own = "training: {steps: 100}\nguards: [{when: mfu < 20%, do: notify}]\n"
    here = guards_of(tmp_path, own)["mfu < 20%"]
    assert (
        here["off_because"]
        == "the utilisation cannot be told: nothing was measured on this device: runctl probe CONFIG"
    )
    one = measured(tmp_path)
    here = guards_of(tmp_path, own)["mfu < 20%"]
    assert here["on"]
    assert here["test"]["peak"] == one.flops_per_second


def test_a_share_of_the_probe_is_that_of_this_model_on_this_device(tmp_path: Path) -> None:
    text = "training: {steps: 100}\nguards: [{when: throughput < 50% of the probe}]\n"
    name = "throughput < 50% of the probe"
    assert guards_of(tmp_path, text)[name]["off_because"].endswith(
        "none was made of this model on this device: runctl probe CONFIG"
    )
    one = measured(tmp_path)
    found = guards_of(tmp_path, text)
    assert found[name]["test"]["value"] == one.examples_per_second / 2
    wider = guards_of(tmp_path, text + "model: {d_model: 128}\n")
    assert not wider[name]["on"]


def measured(folder: Path) -> calibration.Measurement:
    """What a probe of the config would leave."""
    shape = calibration.shape(configs.load(folder / "a.yaml").config)
    device = calibration.cpu_device(None)
    made = calibration.Measurement("probe", "a", 1, time.time(), shape, device, 50, 0.1, 0.01, 256.0, 1e9, 1.0)
    calibration.save(folder, made)
    return made


@pytest.mark.parametrize("measured_here", [True, False])
def test_every_default_is_listed_and_says_why_it_is_off(measured_here: bool) -> None:
    known = Known(examples_per_second=100.0, measured=measured_here, memory_bytes=1e9)
    found = {one["name"]: one for one in listing.made({"task": "worldmodel", "checkpoint": {"every": "600s"}}, known)}
    off = {name: one["off_because"] for name, one in found.items() if not one["on"]}
    assert all(off.values())
    assert ("throughput < 50% of the estimate for 10m" in off) is not measured_here
    assert set(off) - {"throughput < 50% of the estimate for 10m"} == {
        "memory > 120% of the estimate",
        "mfu < 1% for 10m",
    }
    own = {"task": "command", "declares": {"vocab_size": 50257}}
    for one in listing.made(own, KNOWN):
        if one["name"] == "loss at chance":
            assert (one["on"], one["after"], one["do"]) == (True, {"steps": 100.0}, "note")
            assert one["words"].startswith(
                "a note is made if loss is no better than chance among 50,257 classes, 10.8249"
            )
