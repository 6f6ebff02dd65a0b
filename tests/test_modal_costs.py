"""What an attempt on Modal has cost, the live rates as the real client brings them, and bills that group by run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runctl import live_prices, prices
from runctl.backends.modal import costs

H100, H200 = "NVIDIA H100 80GB HBM3, 81559 MiB", "NVIDIA H200, 143771 MiB"
A100_40, A100_80 = "NVIDIA A100-SXM4-40GB, 40960 MiB", "NVIDIA A100-SXM4-80GB, 81920 MiB"
RATES = prices.of("modal", {"modal": {"cpu_core_hour": 0.05, "gib_hour": 0.01}})
BESIDES = 4 * 0.05 + 8 * 0.01


@pytest.mark.parametrize(
    ("asked", "given", "charged", "hour"),
    [
        (("T4",), ["Tesla T4, 15360 MiB"], "T4", 0.59),
        (("H100!", "A100-80GB:2"), [H100], "H100!", 3.95),
        (("H100!", "A100-80GB:2"), [A100_80] * 2, "A100-80GB:2", 5.00),
        (("H100",), [H200], "H100", 3.95),  # given for it, at its price
        (("A100", "T4"), [A100_80], "A100", 2.10),
        (("A100-80GB", "A100"), [A100_40], "A100", 2.10),
        (("H100!:2", "H100!"), [H100], "H100!", 3.95),
        (("A10", "T4"), ["NVIDIA A10G, 23028 MiB"], "A10", 1.10),
        (("T4", "H100!"), [], "H100!", 3.95),
        (("T4", "H100!"), ["NVIDIA Nobody-9000, 1 MiB"], "H100!", 3.95),
        ((), [], None, 0.0),
    ],
)
def test_what_was_given_is_paid_as_what_was_asked(
    asked: tuple[str, ...], given: list[str], charged: str | None, hour: float
) -> None:
    cost = costs.attempt(asked, given, 1800.0, cpu=4, memory_mib=8192, rates=RATES)
    assert cost.charged == charged
    assert cost.usd_per_hour == pytest.approx(hour + BESIDES)
    assert cost.usd == pytest.approx((hour + BESIDES) / 2)
    assert ("taken for the dearest" in cost.words) == (len(asked) > 1 and not (given and "Nobody" not in given[0]))


def test_what_has_no_price_is_not_taken_for_nothing() -> None:
    bare = prices.Rates("modal", {})
    cost = costs.attempt(("T4",), [], 60.0, cpu=1, memory_mib=1024, rates=bare)
    assert (cost.usd, cost.words) == (None, "no price is known for T4, 1 core, 1 GiB")
    assert costs.attempt(("T4",), [], 60.0, cpu=1, memory_mib=1024, rates=None).usd is None


def test_the_names_that_nvidia_smi_gives_to_what_modal_offers_are_known() -> None:
    from plane import gpus

    unknown = {"RTX-PRO-6000", "B300", "A10G"}  # no figures of them in the catalogue, or another name there
    for kind, (name, _, _) in gpus.KNOWN.items():
        if kind not in unknown:
            line = f"{name}, 1 MiB"
            assert costs.attempt((kind, "L4:8"), [line], 1.0, cpu=1, memory_mib=1, rates=RATES).charged == kind


def test_live_rates_come_through_the_real_client_and_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("modal", reason="the modal extra is not installed")
    from plane import Plane

    rates = {
        "gpu_hour_cost_t4": 0.61,
        "gpu_hour_cost_a100_80gb": 2.45,
        "cpu_hour_cost": 0.04,
        "H200": 4.5,
        "H100": 0.0011,
    }
    with Plane(rates=rates) as plane:
        for name, value in plane.environment(PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin").items():
            monkeypatch.setenv(name, value)
        found = live_prices.refresh(tmp_path)
        assert found.usd_per_hour == {"T4": 0.61, "A100-80GB": 2.45, "H200": 4.5, "cpu_core_hour": 0.04}
        assert found.unknown == ["H100"]  # a price of a second, perhaps: it is not guessed
        monkeypatch.setenv("MODAL_TOKEN_SECRET", "as-wrong")
        done = subprocess.run(
            [sys.executable, "-m", "runctl", "gpus", "--live"],
            capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 5
    kept = prices.of("modal", None, prices.live(tmp_path, "modal"))
    assert kept is not None
    assert kept.gpus["T4"].usd_per_hour == 0.61
    assert kept.gpus["H100"].usd_per_hour == 3.95  # not told: the list price
