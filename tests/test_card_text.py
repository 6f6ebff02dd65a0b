"""The text of a run card: what people write survives whatever runctl does with it."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runctl.cards import card as cards
from runctl.cards import text as texts
from runctl.cards.text import CardError
from runctl.yamldoc import YamlError

CARD = """\
---
card: 1
goal: find out whether hitstun helps  # a comment stays
question: is action_acc better with it?
config: configs/quickstart.yaml
targets:
  - {when: "val/loss < 0.30", means: better than the baseline}
kill:
  - {when: "val/loss > 0.40", after: 1 epoch, do: stop, why: the rate is too high}
status: draft
signatures: []
---

# Hitstun

Prose with a | pipe, `code`, and an example that is no block:

```markdown
<!-- runctl:model -->
```

<!-- runctl:model -->

| old | |
| --- | --- |

<!-- /runctl:model -->

More prose: ünïcödé, a tab\there, and a line with spaces behind{end}

<!-- runctl:results -->
Not run yet.
<!-- /runctl:results -->
The end, without a newline""".replace("{end}", "   ")
SIGNED = [{"by": "Ada", "verdict": "approve", "at": "2026-01-02T03:04:05Z", "digest": "a" * 64}]


def outside(text: texts.Text) -> list[str]:
    """The lines that belong to people: all but the blocks and runctl's own section."""
    left_out = {line for first, last in text.blocks.values() for line in range(first + 1, last)}
    place = text.head.keys.get(("signatures",))
    if place is not None:
        left_out.add(place.line - 1)
        for line in range(place.line, text.end):
            if not text.lines[line].startswith((" ", "-", "\t")) or not text.lines[line].strip():
                break
            left_out.add(line)
    return [line.rstrip("\r\n") for index, line in enumerate(text.lines) if index not in left_out]


def test_a_block_and_a_section_change_and_nothing_else() -> None:
    before = texts.parse(CARD, "hitstun.md")
    after = before.with_block("model", "| new | |\n| --- | --- |").with_section("signatures", SIGNED)
    assert after.block("model") == "| new | |\n| --- | --- |"
    assert after.head.data["signatures"] == SIGNED
    assert outside(after) == outside(before)
    assert after.with_section("signatures", []).with_block("model", before.block("model")).whole == before.whole
    assert after.with_section("run", "hitstun-1").head.data["run"] == "hitstun-1"


def test_windows_line_ends_stay() -> None:
    before = texts.parse(CARD.replace("\n", "\r\n"), "hitstun.md")
    after = before.with_block("model", "x\ny").with_section("signatures", SIGNED)
    assert after.whole.count("\n") == after.whole.count("\r\n")
    assert outside(after) == outside(before)


def test_what_is_agreed_is_without_results_signatures_and_spaces_behind() -> None:
    before = texts.parse(CARD, "hitstun.md")
    same = (
        before.with_block("results", "It worked.").with_section("signatures", SIGNED).with_section("status", "closed")
    )
    assert same.agreed() == before.agreed()
    assert texts.parse(CARD.replace("behind   \n", "behind\n"), "x").agreed() == before.agreed()
    for old, new in (("More prose", "Less prose"), ("0.30", "0.35"), ("| old |", "| other |")):
        assert texts.parse(CARD.replace(old, new), "x").agreed() != before.agreed()


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("<!-- /runctl:model -->\n", "", 22, "the block 'model' has no end"),
        ("| --- | --- |\n\n<!-- /runctl:model", "\n\n<!-- /runctl:modle", 27, "unknown block 'modle'"),
        ("More prose", "<!-- runctl:model -->\n<!-- /runctl:model -->\nMore", 29, "there twice"),
        ("<!-- /runctl:results -->", "text <!-- /runctl:results -->", 33, "not alone on its line"),
        ("goal:", "gaol:", 3, "unknown key 'gaol'"),
        ("status: draft", "status: done", 10, "status: must be"),
        ('"val/loss < 0.30"', '"val/loss is fine"', 7, "targets[0].when"),
        ("after: 1 epoch", "after: soon", 9, "kill[0].after"),
        ("card: 1\n", "card: 1\ncard: 1\n", 3, "given twice"),
        ("configs/quickstart.yaml", "../elsewhere.yaml", 5, "outside the project"),
    ],
)
def test_a_card_that_is_not_in_order_says_where_and_what_to_do(old: str, new: str, line: int, said: str) -> None:
    with pytest.raises(CardError) as caught:
        cards.of(texts.parse(CARD.replace(old, new, 1), "hitstun.md"), Path("hitstun.md"))
    assert any(said in one.message and one.line == line and one.hint for one in caught.value.problems), [
        (one.line, one.message) for one in caught.value.problems
    ]


_PIECES = (
    "<!-- runctl:model -->", "<!-- /runctl:model -->", "<!-- runctl:data -->", "<!--runctl:results-->", "---", "```",
    "~~~~", "<!-- /runctl:", "signatures:", "  - x", "\t", "| a | b |", "# title", "", "ü\u2028\x0b", "key: value",
    "\r",
)  # fmt: skip


def test_five_thousand_edits_of_prose_and_markers_lose_nothing() -> None:
    """Each either cannot be read, with a place, or keeps all that is not runctl's through every change of its own."""
    draw, read = random.Random(7), 0
    wrong: list[CardError | YamlError] = []
    for _ in range(5_000):
        lines = CARD.split("\n")
        for _ in range(draw.randint(1, 4)):
            at, do = draw.randrange(len(lines)), draw.random()
            if do < 0.4:
                lines.insert(at, draw.choice(_PIECES))
            elif do < 0.6:
                lines[at] = draw.choice(_PIECES)
            elif do < 0.8:
                del lines[at]
            else:
                cut = draw.randrange(len(lines[at]) + 1)
                lines[at] = lines[at][:cut] + draw.choice(_PIECES) + lines[at][cut:]
            lines = lines or [""]
        try:
            before = cards.of(texts.parse("\n".join(lines), "x.md"), Path("x.md")).text
            after = before
            for name in before.blocks:
                after = after.with_block(name, "| made | anew |")
            after = after.with_section("signatures", SIGNED)
        except (CardError, YamlError) as error:
            wrong.append(error)
            continue
        read += 1
        assert before.whole == "\n".join(lines)
        assert outside(after) == outside(before)
    assert read > 1_000
    for one in wrong:
        assert (
            all(part.line and part.hint for part in one.problems) if isinstance(one, CardError) else "x.md" in str(one)
        )


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    with contextlib.suppress(CardError, YamlError):
        assert texts.parse(text, "x.md").whole == text
