"""Plain YAML read without the parser: whatever is read so is what the parser says, to the last position."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runctl import yamldoc, yamlplain
from runctl.yamldoc import Document

WORDS = (
    "1", "-1", "+1", "007", "0b", "0b1", "0x1F", "1_000", "1e3", "1.5e-4", "3.0e-4", ".5", "-.5", "1.", ".", "..",
    "...", "true", "No", "on", "null", "~", "abc", "a b", "a  b", "a - b", "a -", "-a", "--", "---", "-", "- a", "+",
    "+a", "2026-11-21", "1:30", "a:b", "a: b", "a:", "a#b", "a #b", "a, b", "[1]", "{a: 1}", '"a"', "'a'", "|", ">",
    "&a b", "*a", "!a b", "!!int 1", "%a", "@a", "=", "<<", "é", "a\u2028b", "5m", "32GiB", "val/loss", ".nan", "-.inf",
    "9" * 5000,
)  # fmt: skip
KEYS = ("a", "b", "lr", "d_model", "x-y", "x.y", "yes", "null", "e5", "<<", "1", "-a", "?", "a b", "", "_", "A" * 101)
lines = st.builds(
    lambda spaces, key, colon, word, rest: f"{' ' * spaces}{key}{colon}{word}{rest}",
    st.integers(0, 4),
    st.sampled_from(KEYS[:7]) | st.sampled_from(KEYS),
    st.sampled_from((": ", ":", ":  ", " : ", ":\t", "")),
    st.just("") | st.sampled_from(WORDS),
    st.sampled_from(("", "", "", " ", "  # said", " #", "# said", "\r", "\t", "\n  # below")),
) | st.sampled_from(("", "# said", "  # said", "---", "...", "%YAML 1.1", "\ufeff", "- a", "   "))
texts = st.lists(lines, max_size=8).map("\n".join) | st.lists(lines, max_size=8).map(
    lambda some: "\n".join([*some, ""])
)


def told(document: Document) -> str:
    """All that a document holds, with types and order."""
    tables = (document.keys, document.values, document.scalars)
    return repr((document.data, [list(table.items()) for table in tables], document.straight, document.duplicates))


@settings(max_examples=2_000)
@given(texts)
def test_what_is_read_without_the_parser_is_what_the_parser_says(text: str) -> None:
    plain = Document("f.yaml", text)
    if yamlplain.read(plain):
        parsed = Document("f.yaml", text)
        yamldoc._Builder(parsed).build(text)
        assert told(plain) == told(parsed)
    else:
        assert told(plain) == told(Document("f.yaml", text))


PLAIN = """\
# A sweep's member.

name: sweep-001
data:
  simulate:   # no dataset
    games: 48
    seconds: 30.0
  train_split: .9
training:
    lr: 3.0e-4
    batch_size: 512\x20
compute:
  memory: 32GiB
  timeout: 1 day
"""


def test_a_usual_config_needs_no_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a survey of many takes twice as long, and no other test would tell."""
    monkeypatch.setattr(yamldoc, "_Builder", None)
    document = yamldoc.parse(PLAIN, "f.yaml")
    assert document.data["data"] == {"simulate": {"games": 48, "seconds": 30.0}, "train_split": 0.9}
    assert str(document.keys["data", "simulate", "games"]) == "f.yaml:6:5"
    assert str(document.values["training", "batch_size"]) == "f.yaml:11:17"
    assert document.scalars["compute", "timeout"].text == "1 day"


@pytest.mark.parametrize(
    "text",
    ["", "a:\n", "a: 1\na: 2\n", "a: 1\n b: 2\n", "a:\n  b: 1\n c: 2\n", " a: 1\nb: 2\n", "a: [1]\n", "a: 'b'\n"],
)
def test_what_is_not_plain_is_left_to_the_parser(text: str) -> None:
    assert not yamlplain.read(Document("f.yaml", text))
