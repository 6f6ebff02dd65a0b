"""`Every`: how often something happens, in optimizer steps, in time or in epochs."""

from __future__ import annotations

from typing import Any

from runctl.config.settings import Settings, after, before, shown
from runctl.light import pattern
from runctl.units import counted, parse_duration

MOST = 10**15
_STEPS = pattern(r"\s*([\d_]+)\s*(?:steps?)?\s*")
_EPOCHS = pattern(r"\s*(\d+(?:\.\d+)?)\s*epochs?\s*")


class Every(Settings):
    """Exactly one of the three is set. Written as `500`, `"500 steps"`, `"5m"` or `"1 epoch"`."""

    steps: int | None = None
    seconds: float | None = None
    epochs: float | None = None

    @before
    @classmethod
    def _parse(cls, data: Any) -> Any:
        if isinstance(data, bool) or not isinstance(data, str | int | float):
            return data
        text = str(data)
        if match := _STEPS.fullmatch(text):
            return {"steps": int(match[1])}
        if match := _EPOCHS.fullmatch(text):
            return {"epochs": float(match[1])}
        try:
            return {"seconds": parse_duration(text)}
        except ValueError:
            raise ValueError(f"{text!r} is no cadence; write it as '500 steps', '5m' or '1 epoch'") from None

    @after
    def _check(self) -> Every:
        given = [value for value in (self.steps, self.seconds, self.epochs) if value is not None]
        if len(given) != 1 or given[0] <= 0:
            raise ValueError("a cadence is one number above zero: '500 steps', '5m' or '1 epoch'")
        if not given[0] <= MOST:
            raise ValueError("a cadence so seldom is none; write never where it is never")
        return self

    @shown
    def _text(self) -> str:
        return str(self)

    def __str__(self) -> str:
        if self.steps is not None:
            return counted(self.steps, "step").replace(",", "")
        number = self.epochs if self.epochs is not None else self.seconds or 0.0
        text = f"{number:.9f}".rstrip("0").rstrip(".")  # never 1e+06, which nobody writes and nothing here reads
        if self.epochs is None:
            return f"{text}s"
        return f"{text} epoch" if text == "1" else f"{text} epochs"
