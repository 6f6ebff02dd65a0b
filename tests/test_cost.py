"""Money: what an hour and a run cost, the worst case, what is at risk, and the prices that they rest on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from runctl import hardware, live_prices, preflight, prices
from runctl import project as projects
from runctl.errors import ProviderError, UsageError
from runctl.estimate import calibration
from runctl.facts import Facts
from runctl.hardware import Price, Source
from runctl.preflight import Report
from runctl.project import Project
from runctl.reporting import json_, text
from runctl.units import parse_bytes

ROOT = Path(__file__).parents[1]
PAID = "data: {max_games: 2000}\ntraining: {epochs: 1, batch_size: 4096, precision: bf16}\n"


def report(folder: Path, written: str, *overrides: str, own: prices.Own | None = None, **given: object) -> Report:
    path = folder / "config.yaml"
    path.write_text(written)
    return preflight.preflight(
        path, preflight.Options(overrides), Project(folder, policy=dict(given), prices=own or {})
    )


def modal(**settings: object) -> str:
    asked: dict[str, object] = {"backend": "modal", "gpu": "A100-40GB", **settings}
    return PAID + "compute: {" + ", ".join(f"{key}: {value}" for key, value in asked.items()) + "}\n"


def severities(found: Report, rule: str) -> list[str | None]:
    return [finding.severity for finding in found.findings if finding.rule == rule]


def test_an_hour_is_gpus_cores_and_memory(tmp_path: Path) -> None:
    facts = report(tmp_path, modal(gpu="H100:2", cpu=8, memory="64GiB")).facts
    price = facts.need("compute.price")
    assert price.usd == pytest.approx(2 * 3.95 + 8 * 0.0472 + 64 * 0.008)
    assert set(price.parts) == {"H100 × 2", "8 cores", "64.0 GiB of memory"}
    assert price.allowance == 0
    time, cost = facts.need("estimate.time"), facts.need("estimate.cost")
    for name in ("low", "likely", "high"):
        assert getattr(cost, name) == pytest.approx(getattr(time, name) / 3600 * price.usd)


def test_what_a_config_does_not_state_widens_the_upper_end_and_is_said(tmp_path: Path) -> None:
    facts = report(tmp_path, modal(cpu=8)).facts
    time, cost = facts.need("estimate.time"), facts.need("estimate.cost")
    assert cost.high / cost.likely == pytest.approx(1.35 * time.high / time.likely)
    assert "compute.memory not stated" in cost.basis


@pytest.mark.parametrize(
    ("settings", "budget", "seconds", "words"),
    [
        ({"timeout": "24h", "retries": 3}, "", 96 * 3600, "timeout 24h00m × 4 attempts"),
        ({"timeout": "24h"}, "", 24 * 3600, "timeout 24h00m"),
        ({"timeout": "24h", "retries": 3}, "budget: {max_hours: 10, max_cost_usd: 1}\n", 36_000, "budget.max_hours 10"),
    ],
)
def test_the_worst_case_is_what_the_enforced_limits_allow(
    settings: dict[str, object], budget: str, seconds: int, words: str, tmp_path: Path
) -> None:
    found = report(tmp_path, modal(cpu=8, memory="32GiB", **settings) + budget)
    price, worst = found.facts.need("compute.price"), found.facts.need("estimate.worst_cost")
    words = words.replace("24h00m", "1d00h")
    assert worst.seconds == seconds
    assert worst.usd == pytest.approx(price.usd * seconds / 3600)
    assert words in worst.words
    shown = "".join(part for line in text.estimate_lines(found) for _, part in line)
    assert f"worst case ${worst.usd:,.2f}: {words}" in shown
    assert json_.estimates(found)["worst_cost_usd"]["usd"] == pytest.approx(worst.usd, abs=1e-4)


def test_a_paid_run_without_any_limit_has_no_worst_case_and_says_so(tmp_path: Path) -> None:
    given = modal().replace("backend: modal", "backend: mylab") + "budget: {max_cost_usd: 100}\n"
    found = report(tmp_path, given, own={"mylab": {"A100-40GB": 2.0}})
    assert "neither compute.timeout" in json_.estimates(found)["worst_cost_usd"]["unknown"]
    assert severities(found, "BU102") == ["warning"]


def test_without_a_limit_of_its_own_a_run_has_the_providers(tmp_path: Path) -> None:
    found = report(tmp_path, modal(retries=2) + "budget: {max_cost_usd: 100}\n")
    worst = found.facts.need("estimate.worst_cost")
    assert worst.seconds == 3 * 24 * 3600
    assert "modal ends an attempt after 1d00h (no compute.timeout) × 3 attempts" in worst.words
    assert severities(found, "BU102") == ["warning"]


@pytest.mark.parametrize(
    ("every", "share"),
    [("5m", 300.0), ("500 steps", None), ("1 epoch", None), ("never", None), ("100h", None)],
)
def test_what_is_at_risk_follows_from_the_cadence_and_never_exceeds_the_run(
    every: str, share: float | None, tmp_path: Path
) -> None:
    given = PAID.replace("epochs: 1", "epochs: 4") + f"checkpoint: {{every: {every}}}\n"
    facts = report(tmp_path, given + "compute: {backend: modal, gpu: L4, cpu: 4, memory: 8GiB}\n").facts
    risk, time, price = (facts.need(name) for name in ("estimate.at_risk", "estimate.time", "compute.price"))
    steps, per_epoch = facts.need("run.steps"), facts.need("run.steps_per_epoch")
    wanted = {
        "500 steps": time.parts["steps"][1] / steps * 500,
        "1 epoch": time.parts["steps"][1] / steps * per_epoch,
        "5m": share,
    }.get(every, time.likely)
    assert risk.seconds[1] == pytest.approx(wanted)
    assert risk.usd[1] == pytest.approx(wanted / 3600 * price.usd)
    assert list(risk.seconds) == sorted(risk.seconds)


def test_ones_own_machine_costs_nothing_whatever_its_limits(tmp_path: Path) -> None:
    found = report(tmp_path, "training: {steps: 100}\ncompute: {timeout: 24h, retries: 3}\n")
    estimates = json_.estimates(found)
    assert (estimates["cost_usd"]["high"], estimates["worst_cost_usd"]["usd"]) == (0, 0)
    assert "your own machine" in estimates["cost_usd"]["basis"]
    assert "worst case" not in "".join(part for line in text.estimate_lines(found) for _, part in line)


def test_a_projects_own_prices_come_first_and_are_named(tmp_path: Path) -> None:
    own = {"modal": {"A100-40GB": 1.0, "gib_hour": 0.5}, "mylab": {"RTX-4090": 0.25}}
    price = report(tmp_path, modal(cpu=10, memory="2GiB"), own=own).facts.need("compute.price")
    assert price.usd == pytest.approx(1.0 + 10 * 0.0472 + 2 * 0.5)
    assert "runctl.yaml" in price.basis
    facts = report(tmp_path, modal(backend="mylab", gpu="RTX-4090:2"), own=own).facts
    assert facts.need("compute.price").usd == 0.5
    assert facts.need("estimate.cost").basis == "$0.50/h: RTX-4090 × 2 $0.50 (runctl.yaml)"


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("prices: {modal: {A100-40GB: -1}}", "between 0 and"),
        ("prices: {modal: {A100-40GB: .nan}}", "between 0 and"),
        ("prices: {modal: {A100-40GB: .inf}}", "between 0 and"),
        ("prices: {modal: {A100-40GB: 1e300}}", "between 0 and"),
        ("prices: {modal: {A100-40GB: '2.10'}}", "no number"),
        ("prices: {modal: {A100-40GB: true}}", "no number"),
        ("prices: {modal: {A100-40GB: {usd: 1}}}", "no number"),
        ("prices: {modal: {A100-60GB: 1}}", "did you mean 'A100-"),
        ("prices: {modal: {cpu_core_hours: 1}}", "did you mean 'cpu_core_hour'"),
        ("prices: {modal: {A100: 1, A100-40GB: 2}}", "twice"),
        ("prices: {modl: {A100: 1}}", "did you mean 'modal'"),
        ("prices: {local: {A100: 1}}", "your own machine"),
        ("prices: {modal: 3}", "must map GPUs"),
        ("prices: {modal: {}}", "must map GPUs"),
        ("prices: 3", "must map providers"),
        ("price: {modal: {A100: 1}}", "did you mean 'prices'"),
    ],
)
def test_a_price_that_cannot_be_is_refused_with_its_place(written: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "runctl.yaml").write_text("policy: {}\n" + written + "\n")
    with pytest.raises(UsageError) as caught:
        projects.load(tmp_path / "config.yaml")
    told = f"{caught.value.message} {caught.value.hint}"
    assert fault in told
    assert "runctl.yaml" in told
    if written.startswith("prices: {"):
        assert "runctl.yaml:2:" in told


def test_a_provider_of_ones_own_name_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "runctl.yaml").write_text("prices: {mylab: {4090: 0.3, cpu_core_hour: 0}}\n")
    assert projects.load(tmp_path / "config.yaml").prices == {"mylab": {"RTX-4090": 0.3, "cpu_core_hour": 0.0}}


@pytest.mark.parametrize(
    ("written", "today", "wanted"),
    [
        ("2026-06-27", date(2026, 12, 24), False),
        ("2026-06-27", date(2026, 12, 25), True),
        ("2025-06", date(2025, 11, 28), False),
        ("2025-06", date(2025, 11, 29), True),
        ("2024", date(2026, 1, 1), True),
        ("", date(2026, 1, 1), False),
    ],
)
def test_a_list_price_grows_stale_a_price_of_ones_own_does_not(written: str, today: date, wanted: bool) -> None:
    assert prices.stale(Price(2.0, Source("x", written)), 180 * 86400, today) is wanted


def test_a_stale_price_is_said_to_be_stale_in_the_basis(tmp_path: Path) -> None:
    assert "stale: " in report(tmp_path, modal(), price_age="1 day").facts.need("compute.price").basis
    assert "stale" not in report(tmp_path, modal(), price_age="36500 days").facts.need("compute.price").basis


def test_prices_read_from_the_provider_stand_before_list_prices(tmp_path: Path) -> None:
    write_live(tmp_path, {"A100-40GB": 9.0})
    price = report(tmp_path, modal()).facts.need("compute.price")
    assert price.usd == 9.0
    assert "Modal's rates" in price.basis
    assert report(tmp_path, modal(), own={"modal": {"A100-40GB": 1.0}}).facts.need("compute.price").usd == 1.0


@pytest.mark.parametrize("damage", ["", "[]", '{"usd_per_hour": {"A100-40GB": -3}}', '{"read": 3, "source": ""}'])
def test_damaged_live_prices_are_not_used(damage: str, tmp_path: Path) -> None:
    write_live(tmp_path, {})
    prices.live_file(tmp_path, "modal").write_text(damage)
    assert report(tmp_path, modal()).facts.need("compute.price").usd == 2.1


def write_live(folder: Path, usd: dict[str, float]) -> None:
    file = prices.live_file(folder, "modal")
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"source": "Modal's rates", "read": date.today().isoformat(), "usd_per_hour": usd}))


def client(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for Modal's client, the only `modal` on the path."""
    (folder / "bin").mkdir()
    program = folder / "bin" / "modal"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder / "bin"))


def test_live_prices_are_read_by_the_names_of_the_server_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {
        "gpu_hour_cost_a100_80gb": "3.33",
        "gpu_hour_cost_a10g": "1.2",
        "cpu_hour_cost": "0.05",
        "mem_gib_hour_cost": "0.009",
        "cpu_hour_cost_sandbox": "0.15",
        "gpu_hour_cost_future": "8",
        "gpu_hour_cost_t4": "a lot",
    }
    client(tmp_path, f"[ \"$*\" = 'billing rates --json' ] && echo '{json.dumps(answer)}'", monkeypatch)
    found = live_prices.refresh(tmp_path)
    wanted = {"A100-80GB": 3.33, "A10G": 1.2, "A10": 1.2, "cpu_core_hour": 0.05, "gib_hour": 0.009}
    assert found.usd_per_hour == wanted
    assert found.unknown == ["cpu_hour_cost_sandbox", "gpu_hour_cost_future", "gpu_hour_cost_t4"]
    assert {name: price.usd_per_hour for name, price in prices.live(tmp_path, "modal").items()} == wanted


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("echo 'Token missing' >&2; exit 1", "Token missing"),
        ("echo nonsense", "did not answer with JSON"),
        ('echo \'{"other": "1"}\'', "nothing that this version knows"),
        ("echo '[1]'", "nothing that this version knows"),
    ],
)
def test_a_provider_that_cannot_be_asked_is_told_and_nothing_is_kept(
    script: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client(tmp_path, script, monkeypatch)
    with pytest.raises(ProviderError, match=fault):
        live_prices.refresh(tmp_path)
    assert not prices.live_file(tmp_path, "modal").exists()


def test_the_gpu_table_marks_stale_prices_and_live_needs_the_client(tmp_path: Path) -> None:
    (tmp_path / "runctl.yaml").write_text("policy: {price_age: 1d}\nprices: {mylab: {T4: 0.11}, modal: {L4: 7.77}}\n")
    shown = runctl(tmp_path, "gpus")
    assert "0.59*" in shown.stdout
    assert "0.11 " in shown.stdout
    assert "7.77 " in shown.stdout
    assert "stale" in shown.stderr
    found = json.loads(runctl(tmp_path, "gpus", "T4", "--json").stdout)
    (gpu,) = found["gpus"]
    assert gpu["prices_usd_per_hour"]["modal"]["stale"] is True
    assert gpu["prices_usd_per_hour"]["mylab"] == {"usd": 0.11, "source": "runctl.yaml", "date": None, "stale": False}
    assert found["providers"]["modal"]["gib_hour"]["usd"] > 0
    live = runctl(tmp_path, "gpus", "--live")
    assert (live.returncode, live.stdout) == (5, "")
    assert "not installed here" in live.stderr


def runctl(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200", "PYTHONPATH": str(ROOT), "PATH": "/nowhere"}
    command = [sys.executable, "-m", "runctl", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=60, check=False)


# The rules of money, memory and time: what their pages' examples do not show.


def test_a_cheap_paid_smoke_needs_neither_budget_nor_probe(tmp_path: Path) -> None:
    smoke = "training: {steps: 200}\ncompute: {backend: modal, gpu: T4, cpu: 2, memory: 8GiB, timeout: 1h}\n"
    assert {finding.rule for finding in report(tmp_path, smoke).findings} == set()


@pytest.mark.parametrize(("steps", "wanted"), [(2_000, []), (1_000_000, ["warning"]), (4_000_000, ["error"])])
def test_a_budget_is_asked_for_by_what_the_run_likely_costs(steps: int, wanted: list[str], tmp_path: Path) -> None:
    given = f"training: {{steps: {steps}, batch_size: 4096, precision: bf16}}\n"
    given += "compute: {backend: modal, gpu: A100-40GB, cpu: 4, memory: 8GiB, timeout: 20h}\n"
    found = report(tmp_path, given)
    assert severities(found, "BU103") == wanted
    assert severities(report(tmp_path, given + "budget: {max_hours: 20}\n"), "BU103") == []


def measured(facts: Facts, device: str, **changes: Any) -> calibration.Measurement:
    return replace(
        calibration.Measurement(
            kind="probe",
            name="x",
            attempt=1,
            created=1.0,
            shape=facts.need("calibration.shape"),
            device=device,
            steps=100,
            step_seconds=1.0,
            spread=0.01,
            examples=4096,
            flops=4096.0 * facts.need("model.flops"),
            startup_seconds=5.0,
        ),
        **changes,
    )


def test_a_measured_pace_is_what_an_expensive_run_needs(tmp_path: Path) -> None:
    given = modal(cpu=4, memory="8GiB", timeout="20h").replace("epochs: 1", "steps: 1200000")
    before = report(tmp_path, given)
    assert (severities(before, "TM104"), severities(before, "BU104")) == (["warning"], ["warning"])
    calibration.save(tmp_path, measured(before.facts, "a laptop"))
    elsewhere = report(tmp_path, given)
    assert (severities(elsewhere, "TM104"), severities(elsewhere, "BU104")) == (["warning"], [])
    calibration.save(tmp_path, measured(before.facts, "A100-40GB", name="y"))
    assert severities(report(tmp_path, given), "TM104") == []
    strict = report(tmp_path, given.replace("A100-40GB", "A100-80GB"), probe_required=10)
    assert severities(strict, "TM104") == ["error"]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("tiny", ["warning"]), ("nsa-125m", ["error"]), ("run-1m", ["warning"]), ("llm-2.5b-x", ["error"])],
)
def test_a_name_that_claims_ten_times_the_model_makes_an_empty_gpu_an_error(
    name: str, wanted: list[str], tmp_path: Path
) -> None:
    given = f"name: {name}\nmodel: {{d_model: 64, n_layers: 2}}\ntraining: {{steps: 500000, batch_size: 8192}}\n"
    given += "compute: {backend: modal, gpu: A100-80GB, cpu: 4, memory: 8GiB}\n"
    assert severities(report(tmp_path, given), "ME103") == wanted


def test_a_small_run_on_ones_own_gpu_is_only_noted(tmp_path: Path) -> None:
    given = "training: {steps: 500000, batch_size: 128}\ncompute: {gpu: RTX-4090}\n"
    assert severities(report(tmp_path, given), "ME103") == ["note"]


def test_a_batch_that_no_machine_holds_is_refused_on_the_cpu(tmp_path: Path) -> None:
    many = "data: {simulate: {games: 100000, seconds: 60}}\ntraining: {steps: 10, batch_size: 10000000}\n"
    assert severities(report(tmp_path, many), "ME104") == ["error"]
    few = report(tmp_path, many.replace("games: 100000", "games: 4"))  # then a batch is no larger than the data
    assert (severities(few, "ME104"), severities(few, "DA111")) == ([], ["warning"])
    container = "training: {steps: 10, batch_size: 4096, device: cpu}\n"
    container += "compute: {backend: modal, cpu: 4, memory: 512MiB}\n"
    (finding,) = [found for found in report(tmp_path, container).findings if found.rule == "ME104"]
    assert "compute.memory" in finding.message
    assert str(finding.fix).startswith("set compute.memory above ")
    assert severities(report(tmp_path, container.replace("512MiB", "64GiB")), "ME104") == []


def test_the_disk_that_a_run_asks_for_must_hold_what_is_kept(tmp_path: Path) -> None:
    given = modal(disk="1GiB") + "checkpoint: {every: 10 steps, keep_last: 50}\nmodel: {d_model: 512, n_layers: 6}\n"
    (finding,) = [found for found in report(tmp_path, given).findings if found.rule == "ME105"]
    assert "52 checkpoints" in finding.message
    assert severities(report(tmp_path, given.replace("10 steps", "3000 steps")), "ME105") == []


def test_a_validation_that_does_not_fit_is_one_error_not_two(tmp_path: Path) -> None:
    from runctl import rules

    found = report(tmp_path, rules.find("ME106").examples("Fails")[0].config)
    assert [finding.rule for finding in found.errors] == ["ME106"]


def test_a_run_beyond_a_providers_day_needs_attempts_and_checkpoints(tmp_path: Path) -> None:
    base = modal(cpu=4, memory="8GiB", timeout="24h", retries="{retries}").replace("epochs: 1", "steps: 10000000")
    alone = report(tmp_path, base.replace("{retries}", "0"))
    (finding,) = [found for found in alone.findings if found.rule == "TM103"]
    assert "compute.retries: " in str(finding.fix)
    enough = base.replace("{retries}", "10")
    assert severities(report(tmp_path, enough), "TM103") == []
    assert severities(report(tmp_path, enough + "checkpoint: {every: never}\n"), "TM103") == ["error"]
    eleven = report(tmp_path, base.replace("{retries}", "11"))
    assert ["at most 10" in found.message for found in eleven.findings if found.rule == "GP102"] == [True]


def test_much_money_between_two_saves_of_a_long_run_is_an_error(tmp_path: Path) -> None:
    given = modal(gpu="B200:8", timeout="20h").replace("epochs: 1", "steps: 100000000")
    assert severities(report(tmp_path, given + "checkpoint: {every: 2h}\n"), "CK103") == ["error"]
    assert severities(report(tmp_path, given + "checkpoint: {every: 8m}\n"), "CK103") == ["warning"]
    assert severities(report(tmp_path, given + "checkpoint: {every: 2m}\n"), "CK103") == []


def test_this_machine_says_how_much_memory_and_disk_it_has(tmp_path: Path) -> None:
    facts = report(tmp_path, "training: {steps: 1}\n").facts
    assert parse_bytes("256MiB") < facts.need("machine.memory") < parse_bytes("64TiB")
    assert facts.need("host.disk") > 0
    assert hardware.catalogue().providers["modal"].limits is not None
