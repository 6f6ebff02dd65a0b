"""The audit of a dataset: per column the range, mean, zeros, NaN, infinities, and ids that did not fit.

It is gathered game by game while encoding and costs no second pass. Bad values are counted, never repaired:
rule DA103 refuses a dataset that has any.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from runctl.tasks.worldmodel.games import Array


@dataclass(frozen=True)
class ColumnAudit:
    """Facts of one column. `minimum`, `maximum` and `total` are of the finite values only."""

    count: int = 0
    minimum: float = math.inf
    maximum: float = -math.inf
    total: float = 0.0
    zeros: int = 0
    nan: int = 0
    inf: int = 0
    clipped: int = 0

    def __add__(self, other: ColumnAudit) -> ColumnAudit:
        return ColumnAudit(
            self.count + other.count,
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
            self.total + other.total,
            self.zeros + other.zeros,
            self.nan + other.nan,
            self.inf + other.inf,
            self.clipped + other.clipped,
        )

    def to_manifest(self) -> dict[str, float | int | bool | None]:
        """JSON-able facts; `min`, `max` and `mean` are None where no value is finite."""
        finite = self.count - self.nan - self.inf
        known = finite > 0 and self.minimum <= self.maximum
        return {
            "min": self.minimum if known else None,
            "max": self.maximum if known else None,
            "mean": self.total / finite if known else None,
            "zeros": self.zeros,
            "nan": self.nan,
            "inf": self.inf,
            "constant": known and self.minimum == self.maximum and not self.nan and not self.inf,
            "clipped": self.clipped,
        }


@dataclass
class Audit:
    """The columns seen so far."""

    columns: dict[str, ColumnAudit] = field(default_factory=dict)

    def add(self, name: str, facts: ColumnAudit) -> None:
        self.columns[name] = self.columns.get(name, ColumnAudit()) + facts

    def merge(self, other: Audit) -> None:
        for name, facts in other.columns.items():
            self.add(name, facts)

    def to_manifest(self) -> dict[str, dict[str, float | int | bool | None]]:
        return {name: facts.to_manifest() for name, facts in self.columns.items()}

    def to_journal(self) -> dict[str, list[float | None]]:
        """Exact and JSON-able, for an interrupted encode; the infinite ends of an empty range become None."""
        return {
            name: [value if math.isfinite(value) else None for value in asdict(facts).values()]
            for name, facts in self.columns.items()
        }

    @staticmethod
    def from_journal(rows: dict[str, Any]) -> Audit:
        blank = list(asdict(ColumnAudit()).values())
        filled = {
            name: [old if new is None else new for new, old in zip(row, blank, strict=True)]
            for name, row in rows.items()
        }
        return Audit({name: ColumnAudit(*row) for name, row in filled.items()})


def of(values: Array, *, clipped: int = 0, nan: int = 0) -> ColumnAudit:
    """The facts of one column of one game, values (N,) of any number type."""
    count = len(values)
    zeros = count - int(np.count_nonzero(values))
    if values.dtype.kind != "f":
        total = float(values.sum(dtype=np.int64))
        return ColumnAudit(count, float(values.min()), float(values.max()), total, zeros, nan, 0, clipped)
    finite = np.isfinite(values)
    if finite.all():
        total = float(values.sum(dtype=np.float64))
        return ColumnAudit(count, float(values.min()), float(values.max()), total, zeros, 0, 0, clipped)
    nan = int(np.count_nonzero(np.isnan(values)))
    inf = count - nan - int(np.count_nonzero(finite))
    good = values[finite]
    if not len(good):
        return ColumnAudit(count, zeros=zeros, nan=nan, inf=inf, clipped=clipped)
    total = float(good.sum(dtype=np.float64))
    return ColumnAudit(count, float(good.min()), float(good.max()), total, zeros, nan, inf, clipped)
