"""Text that a terminal shows as it is: nothing in it moves the cursor, sets a title, hides or turns what stands there.

Reasons, messages, names and lines of a log are written by programs, and a run may come from somebody else. Colours are
dropped; any other control character becomes its picture (ESC is ␛), and what turns the direction of writing or is no
character becomes �. Each takes one place, as before, so that tables stay in line.
"""

from __future__ import annotations

from runctl.light import pattern

_COLOUR = pattern(r"\x1b\[[0-9;:]*m")
_BAD = pattern(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_PICTURES = {number: 0x2400 + number for number in range(0x20)} | {0x7F: 0x2421}
_NOT_SHOWN = 0xFFFD


def plain(text: str) -> str:
    """The text without what a terminal would do; line breaks and tabs are kept."""
    if text.isascii() and text.isprintable():
        return text
    return _BAD.sub(lambda match: chr(_PICTURES.get(ord(match[0]), _NOT_SHOWN)), _COLOUR.sub("", text))
