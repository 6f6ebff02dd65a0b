"""A console on which text is only text: what a program, a log or a name brings along cannot steer the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from runctl.shown import plain


class PlainConsole(Console):
    """rich's console; its own colours and cursor go their way, the text between them is made plain."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or (segment.text.isascii() and segment.text.isprintable()):
                yield segment
            else:
                yield Segment(plain(segment.text), segment.style)
