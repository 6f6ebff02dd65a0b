"""The table of the benchmarks: what was measured stands in it, with its aim; what failed is named."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(HERE))
    machine = {
        "date": "2026-11-21",
        "cpu": "AMD EPYC",
        "cores": 2,
        "python": "3.11",
        "torch": "2",
        "load_at_start": 1.0,
    }
    own = {"examples_per_second": 900.0, "runctl_times": 1.0, "share_of_matmul": 0.5}
    naive = {"examples_per_second": 300.0, "runctl_times": 3.0}
    shape = {"d_model": 384, "n_layers": 4, "batch": 512, "aim": 10.0}
    contenders = {"runctl, bf16": own, "naive, same model, fp32": naive}
    opened = {"seconds": 0.01, "of_torch_load": 0.02, "anonymous_bytes": 1 << 20}
    loaded = {"seconds": 0.5, "of_torch_load": 1.0, "anonymous_bytes": 1 << 30}
    ways = {"torch.load": loaded, "runctl: open, first batch": opened}
    return {
        "machine": machine,
        "quick": True,
        "parts": {
            "train": {"shapes": {"medium": shape | {"contenders": contenders}}},
            "opening": {"gigabytes": 1.0, "aim": 0.1, "ways": ways},
            "loop": {"failed": "no network"},
        },
    }


def test_every_figure_stands_beside_its_aim_and_what_failed_is_named(parts: dict[str, Any]) -> None:
    import table

    told = table.markdown(parts)
    assert "runctl is 3.00 × as fast | ≥ 10 ×: **missed** |" in told
    assert "10.0 ms, 2.0% of 500 ms; 1 MiB of its own (torch.load 1,024) | ≤ 10%: met |" in told
    assert "Not measured: `benchmarks/loop.py` ended with: no network" in told
    assert "2026-11-21, 2 cores of AMD EPYC" in told
    assert "`--quick`" in told
    sys.modules.pop("table", None)


def test_every_part_of_the_bench_is_there_and_writes_its_figures() -> None:
    text = (HERE / "__main__.py").read_text()
    names = re.findall(r'^    "(\w+)": \("', text, flags=re.M)
    assert len(names) >= 8
    for name in names:
        assert '"--json"' in (HERE / f"{name}.py").read_text(), name
