"""The YAML reader: positions, YAML 1.2 numbers, duplicate keys, and limits that cannot be crashed."""

import contextlib
import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from runctl import yamldoc

DEEP = 100_000


def test_every_key_and_value_has_its_position():
    document = yamldoc.parse("a: 1\nb:\n  c: [x, y]\n", "f.yaml")
    assert str(document.keys[("b", "c")]) == "f.yaml:3:3"
    assert str(document.values[("b", "c", 1)]) == "f.yaml:3:10"
    assert str(document.position(("b", "missing"))) == "f.yaml:2:1"


def test_scientific_notation_is_a_number():
    assert yamldoc.parse("lr: 3e-4").data == {"lr": 3e-4}
    assert yaml.safe_load("lr: 3e-4") == {"lr": "3e-4"}  # the trap this reader exists for


def test_duplicate_keys_are_reported_with_both_places():
    (duplicate,) = yamldoc.parse("a: 1\nb: {x: 1, x: 2}\n").duplicates
    assert duplicate.path == ("b", "x")
    assert (duplicate.first.column, duplicate.second.column) == (5, 11)


def test_merge_keys_and_anchors_work_as_in_yaml():
    text = "base: &b {x: 1, y: 2}\nrun: {<<: *b, y: 3}\nlist: [*b, {<<: [*b]}]\n"
    assert yamldoc.parse(text).data == yaml.safe_load(text)


@pytest.mark.parametrize("text", ["[" * DEEP, "- " * DEEP, "{a: " * DEEP, "a: " + "[" * DEEP])
def test_deep_nesting_is_refused_and_does_not_crash(text):
    with pytest.raises(yamldoc.YamlError, match=r":1:\d+: nested deeper than 64 levels"):
        yamldoc.parse(text)


def test_nested_aliases_that_would_fill_memory_are_refused():
    lines = ["a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(yamldoc.YamlError, match="more than 100,000 values once aliases are expanded"):
        yamldoc.parse("\n".join(lines))


def test_five_megabytes_of_nested_aliases_are_refused_by_size(tmp_path):
    path = tmp_path / "laughs.yaml"
    path.write_text("a: &a [x]\n" + "b: [*a, *a]\n" * 450_000)
    with pytest.raises(yamldoc.YamlError, match="larger than 1 MiB"):
        yamldoc.load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:\n\tb: 1\n", "t.yaml:2:1: cannot be read as YAML"),
        ("a: [1\nb: 2\n", "t.yaml:2:2: cannot be read as YAML"),
        ("a: !!python/object:os.system x", "cannot be read as YAML"),
        ("a: !mine {b: 1}", "tag !mine is not allowed"),
        ("a: *nobody", "unknown or unfinished anchor"),
        ("a: &a [*a]", "unknown or unfinished anchor"),
        ("? [a]\n: 1", "key must be a plain word"),
        ("a: 1\n---\nb: 2\n", "more than one YAML document"),
        ("a: !!int many", "not a valid int"),
        ("a: !!set x", "'x' is not a valid set"),
        ("{<<: 3}", "'<<' merges mappings only"),
    ],
)
def test_bad_yaml_is_refused_with_its_place(text, message):
    with pytest.raises(yamldoc.YamlError) as caught:
        yamldoc.parse(text, "t.yaml")
    assert message in caught.value.message


def test_a_tab_is_named_as_the_cause():
    with pytest.raises(yamldoc.YamlError) as caught:
        yamldoc.parse("a:\n\tb: 1\n")
    assert "use spaces" in (caught.value.hint or "")


def test_missing_and_binary_files_are_refused(tmp_path):
    (tmp_path / "train.yaml").write_text("a: 1")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(yamldoc.YamlError) as caught:
        yamldoc.load(tmp_path / "trian.yaml")
    assert caught.value.hint == "did you mean 'train.yaml'?"
    for path, message in ((tmp_path / "binary.yaml", "not UTF-8"), (tmp_path, "is a folder")):
        with pytest.raises(yamldoc.YamlError, match=message):
            yamldoc.load(path)


OTHER_NUMBERS = re.compile(r"[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+|[-+]?0[\d_]*\d")  # texts to PyYAML, numbers here
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.text(max_size=8).filter(lambda text: not OTHER_NUMBERS.fullmatch(text))
)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1, max_size=6), inner, max_size=4),
    max_leaves=20,
)


@given(trees)
def test_what_pyyaml_writes_is_read_back(tree):
    assert yamldoc.parse(yaml.safe_dump(tree)).data == yaml.safe_load(yaml.safe_dump(tree)) == tree


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_and_never_crashes(text):
    with contextlib.suppress(yamldoc.YamlError):
        yamldoc.parse(text)


@pytest.mark.parametrize(
    ("text", "value"), [("1:30", "1:30"), ("1:30.5", "1:30.5"), ("0512", 512), ("0x10", 16), ("0", 0)]
)
def test_numbers_are_what_they_look_like_and_nothing_counts_in_sixties_or_eights(text, value):
    assert yamldoc.parse(f"a: {text}").data == {"a": value}
