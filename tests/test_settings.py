"""The sections' own check: it may doubt what it likes, and must never accept what pydantic would refuse or change."""

import contextlib
import json
import math
import subprocess
import sys
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.cards.contract import Contract
from runctl.config import RunConfig, to_effective
from runctl.config.every import Every
from runctl.config.model import Section
from runctl.config.plain import Bounds, Doubt
from runctl.config.settings import MISSING, FieldInfo, Settings, _check, _made, errors
from runctl.config.twin import model

ODD = [
    None, True, False, 0, 1, -1, 3, 10, 2**53 + 1, 2**63, 10**400, 0.0, -0.0, 0.5, 1e-5, 1e300, math.inf, math.nan, "",
    "5m", "500 steps", "1 epoch", "never", "64GiB", "78.3M", "mamba2", "bf16", "cuda", "\ud800", "é", "0", "1e3", b"x",
    [], ["a"], [1], {}, {"a": "b"}, {"steps": 5}, {"steps": 5, "epochs": 1}, [{"when": "loss > 1"}], (1,), 1j,
]  # fmt: skip
assert Contract  # its sections are tried as well, whatever else this process has imported
SECTIONS = sorted({*Settings.__subclasses__(), *Section.__subclasses__()} - {Section}, key=lambda cls: cls.__name__)


def bounds(field: FieldInfo) -> list[float]:
    """The numbers at and beside the bounds of a field."""
    parts = (field, *getattr(field.annotation, "__metadata__", ()))
    for one in getattr(field.annotation, "__args__", ()):
        parts = (*parts, *getattr(one, "__metadata__", ()))
    edges = [
        value
        for part in parts
        if isinstance(part, Bounds)
        for key, value in part.words.items()
        if key in ("ge", "gt", "le", "lt")
    ]
    return [edge + step for edge in edges for step in (-1, -0.5, 0, 0.5, 1)] + [int(edge) for edge in edges]


def required(field: FieldInfo) -> bool:
    return field.default is MISSING and field.default_factory is None


def some(cls: type[Settings], name: str) -> object:
    """A value that a field takes."""
    meant = get_args(cls.model_fields[name].annotation)  # of a Literal, its words
    for value in ["x", "a" * 64, 1, *reversed(ODD), *meant]:
        with contextlib.suppress(Doubt, ValueError, TypeError, OverflowError):
            return _check(cls, name)(value)
    raise AssertionError(f"{cls.__name__}.{name} takes nothing")


@pytest.mark.parametrize("cls", SECTIONS, ids=lambda cls: cls.__name__)
def test_what_is_accepted_here_is_accepted_by_pydantic_and_means_the_same(cls):
    needed = {name: some(cls, name) for name, field in cls.model_fields.items() if required(field)}
    accepted = 0
    for name, field in {**cls.model_fields, "unknown": None}.items():
        for value in [*ODD, *(bounds(field) if field else [])]:
            data = {**needed, name: value}
            try:
                ours = _made(cls, data)
            except (Doubt, ValueError, AssertionError, TypeError, OverflowError):
                continue
            accepted += 1
            theirs = model(cls).model_validate(data)  # does not raise
            assert repr(ours.model_dump(mode="json")) == repr(theirs.model_dump(mode="json")), data
    assert accepted >= len(cls.model_fields)  # each field takes something


@given(st.dictionaries(st.sampled_from([*RunConfig.model_fields, "unknown"]), st.sampled_from(ODD), max_size=4))
def test_several_odd_values_at_once_are_judged_alike(data):
    with contextlib.suppress(Doubt, ValueError, AssertionError, TypeError, OverflowError):
        ours = _made(RunConfig, {"name": "x", **data})
        theirs = model(RunConfig).model_validate({"name": "x", **data})
        assert ours.model_dump(mode="json") == theirs.model_dump(mode="json")


def test_what_is_doubted_here_is_decided_by_pydantic():
    """A lax Every: pydantic takes "5" for 5 there, the check here does not know that."""
    assert Every.model_validate({"steps": "5"}) == Every(steps=5)
    made = RunConfig.model_validate({"name": "x", "checkpoint": {"every": {"steps": "5"}}, "guards": [{"when": "a"}]})
    assert made.checkpoint.every == Every(steps=5)
    assert made.guards[0].do == "stop"
    assert type(made.guards[0]) is type(RunConfig.model_validate({"name": "x", "guards": [{"when": "a"}]}).guards[0])


def test_every_fault_of_a_config_is_listed_at_once():
    with pytest.raises(ValueError) as caught:
        RunConfig.model_validate({"training": {"batch_size": "512", "lr": -1, "oops": 1}})
    assert {error["loc"] for error in errors(caught.value)} == {
        ("name",), ("training", "batch_size"), ("training", "lr"), ("training", "oops")
    }  # fmt: skip


def test_a_config_survives_json_and_equals_itself():
    made = RunConfig.model_validate({"name": "x", "command": {"argv": ["a"], "env": {"A": "1"}}, "task": "command"})
    assert RunConfig.model_validate(json.loads(json.dumps(to_effective(made)))) == made
    assert made.model_copy(update={"name": "y"}) != made


def test_a_valid_config_is_judged_without_pydantic():
    script = "import sys; from runctl import config; config.load('configs/quickstart.yaml'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pydantic" not in done.stdout
