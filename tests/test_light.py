"""What makes commands start fast, and many configs quick: light classes, patterns put off, compiled data."""

import pickle
import re
import subprocess
import sys
from functools import cached_property
from pathlib import Path

import pytest

from runctl import preflight, shipped, surveys, yamldoc
from runctl.light import asdict, dataclass, field, fields, pattern, replace

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Point:
    x: int
    y: int = 2
    tags: list[str] = field(default_factory=list)
    note: str = field(default="", compare=False, repr=False)

    @cached_property
    def sum(self) -> int:
        return self.x + self.y


@pytest.mark.parametrize("made_before", [0, 100])
def test_a_light_class_is_made_compared_and_shown_as_a_dataclass_is(made_before):
    """Also after its constructor was compiled."""
    for number in range(made_before):
        Point(number)
    one = Point(1, tags=["a"])
    assert (one.x, one.y, one.tags, one.sum) == (1, 2, ["a"], 3)
    assert one == Point(1, 2, ["a"], note="another") != Point(1, 3, ["a"])
    assert repr(one).endswith("Point(x=1, y=2, tags=['a'])")
    assert replace(one, y=5) == Point(1, 5, ["a"])
    assert asdict(one) == {"x": 1, "y": 2, "tags": ["a"], "note": ""}
    assert [each.name for each in fields(Point)] == ["x", "y", "tags", "note"]
    assert pickle.loads(pickle.dumps(one)) == one
    assert Point(1).tags is not Point(1).tags
    for arguments, named in (((), {}), ((1, 2, [], "", 5), {}), ((1,), {"x": 1}), ((1,), {"z": 1})):
        with pytest.raises(TypeError):
            Point(*arguments, **named)


def test_a_frozen_light_class_is_hashed_by_its_value_and_another_is_not():
    @dataclass(frozen=True)
    class Key:
        a: int

    @dataclass
    class Loose:
        a: int

    assert {Key(1): "x"}[Key(1)] == "x"
    with pytest.raises(TypeError, match="unhashable"):
        hash(Loose(1))


def test_a_pattern_is_compiled_when_it_is_used():
    late = pattern(r"(\d+)([a-z]*)", re.IGNORECASE)
    assert "search" not in vars(late)
    assert late.fullmatch("12AB")[2] == "AB"
    assert late.sub("-", "a1b 2") == "a- -"
    assert late.pattern == r"(\d+)([a-z]*)"


def test_what_preflight_loads_uses_light_classes_and_patterns():
    """80 standard dataclasses cost 48 ms, 90 regular expressions 17: more than all else that runctl loads."""
    script = (
        "import sys; from runctl import preflight, rules; rules.known(); preflight.gather('configs/quickstart.yaml');"
        "print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('runctl') and m.__file__), sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = []
    for file in map(Path, done.stdout.split()):
        text = file.read_text("utf-8")
        if re.search(r"^from dataclasses import .*\bdataclass\b|^[A-Z_]\w* = re\.compile\(", text, re.MULTILINE):
            heavy.append(file.relative_to(ROOT).as_posix())
    assert sorted(set(heavy) - {"runctl/light.py", "runctl/adapters/folders.py"}) == []


def test_the_compiled_data_files_are_what_their_yaml_says():
    assert shipped.stale() == [], "run: python -m runctl.shipped"
    for name in shipped.names():
        written = yamldoc.parse((shipped.DATA / name).read_text("utf-8"), name).data
        assert repr(shipped.load(name)) == repr(written)


def test_an_edited_data_file_counts_before_it_is_compiled_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "DATA", tmp_path)
    monkeypatch.setattr(shipped, "COMPILED", tmp_path / "compiled")
    (tmp_path / "a.yaml").write_text("a: {true: 1, 2: [x]}")
    assert shipped.make() == ["a.json"]
    assert shipped.load("a.yaml") == {"a": {"true": 1, 2: ["x"]}}
    (tmp_path / "a.yaml").write_text("a: 2")
    assert shipped.load("a.yaml") == {"a": 2}
    (tmp_path / "compiled" / "a.json").write_text("{")
    assert shipped.load("a.yaml") == {"a": 2}


def test_the_benchmark_of_many_configs_writes_configs_that_are_sound(tmp_path):
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import preflight_many

    preflight_many.write(tmp_path / "native", 2, preflight_many.NATIVE)
    preflight_many.write(tmp_path / "foreign", 2, preflight_many.FOREIGN)
    reports = list(surveys.survey(preflight.expand([tmp_path])))
    assert all(isinstance(one, preflight.Report) and one.kind == "training" for one in reports)
    assert {len((tmp_path / kind / "run-00000.yaml").read_text().splitlines()) for kind in ("native", "foreign")} == {
        60
    }
