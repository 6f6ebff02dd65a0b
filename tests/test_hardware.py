"""The GPU catalogue: complete, plausible, and found by the names that people write."""

from __future__ import annotations

import pytest

from runctl import hardware, prices
from runctl.errors import UsageError
from runctl.hardware import Gpu

GPUS = list(hardware.catalogue().gpus.values())


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_every_figure_is_plausible_and_has_a_source_and_a_date(gpu: Gpu) -> None:
    assert 0.9 * gpu.nominal_bytes < gpu.usable_bytes < gpu.nominal_bytes
    assert 1e12 < gpu.peak["fp32"] <= min(gpu.peak.values())
    assert list(gpu.peak) == [dtype for dtype in hardware.DTYPES if dtype in gpu.peak]
    assert 1e11 < gpu.bandwidth < 1e13
    assert set(gpu.sources) == {"memory", "peak", "bandwidth"}
    for source in [*gpu.sources.values(), *(price.source for price in gpu.prices.values())]:
        assert source.title
        assert source.date[:2] == "20"
    for price in gpu.prices.values():
        assert 0.1 < price.usd_per_hour < 20


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_bf16_and_tf32_go_with_the_compute_capability(gpu: Gpu) -> None:
    if gpu.capability.startswith("gfx"):
        pytest.skip("not an NVIDIA GPU")
    ampere = float(gpu.capability) >= 8.0
    assert ("bf16" in gpu.peak) == ("tf32" in gpu.peak) == ampere
    assert ("fp8" in gpu.peak) == (float(gpu.capability) >= 8.9)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("A100", "A100-40GB"),
        ("a100-80gb", "A100-80GB"),
        ("A100_80GB", "A100-80GB"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("H100!", "H100"),
        ("B200+", "B200"),
        ("4090", "RTX-4090"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090"),
        ("rtx5090", "RTX-5090"),
        ("Tesla T4", "T4"),
        ("V100", "V100-16GB"),
        ("a10g", "A10G"),
        ("A10", "A10"),
    ],
)
def test_a_gpu_is_found_by_the_names_people_write(written: str, name: str) -> None:
    assert hardware.find(written).name == name


def test_no_two_gpus_share_a_name() -> None:
    owners: dict[str, set[str]] = {}
    for gpu in GPUS:
        for word in (gpu.name, *gpu.aliases):
            owners.setdefault(hardware._normal(word), set()).add(gpu.name)
    assert [names for names in owners.values() if len(names) > 1] == []


def test_an_unknown_gpu_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(UsageError, match="no GPU 'A100-60GB'") as caught:
        hardware.find("A100-60GB")
    assert "A100" in str(caught.value.hint)


@pytest.mark.parametrize("text", ["A100:0", "A100:x", "A100:", "A100:-1", "", ":2", "A100:99999"])
def test_a_count_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        hardware.parse(text)


def test_a_count_is_read() -> None:
    gpu, count = hardware.parse("H100:8")
    assert (gpu.name, count) == ("H100", 8)


def test_the_local_machine_costs_nothing_and_an_unknown_price_is_unknown() -> None:
    here, modal = prices.of("local"), prices.of("modal")
    assert here is not None
    assert modal is not None
    price = here.gpu(hardware.find("T4"))
    assert price is not None
    assert price.usd_per_hour == 0
    assert modal.gpu(hardware.find("RTX-4090")) is None
    assert prices.of("nowhere") is None
