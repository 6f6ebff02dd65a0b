"""Calibrations: what was measured is preferred, what is damaged is said, and no number that cannot be gets in."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl import config as configs
from runctl.errors import UsageError
from runctl.estimate import calibration, time_
from runctl.estimate.calibration import Measurement

CONFIG = "data: {simulate: {games: 4}}\ntraining: {steps: 1000, batch_size: 64, validate_every: 500 steps}\n"


def write_config(folder: Path, text: str = CONFIG) -> Path:
    file = folder / "one.yaml"
    file.write_text(text)
    return file


def measurement(config: Path, **changes) -> Measurement:
    loaded = configs.load(config).config
    base = Measurement(
        kind="probe",
        name="one",
        attempt=1,
        created=time.time(),
        shape=calibration.shape(loaded),
        device=calibration.cpu_device(None),
        steps=100,
        step_seconds=0.05,
        spread=0.04,
        examples=64,
        flops=1e9,
        startup_seconds=5.0,
        startup_data="simulated 7200",
        validation_window_seconds=1e-4,
        checkpoint_stall_seconds=0.1,
    )
    return replace(base, **changes)


def runctl(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runctl", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


def estimated(config: Path) -> dict:
    found = runctl(config.parent, "estimate", config, "--json")
    return json.loads(found.stdout)["estimates"]["time_seconds"]


def test_a_measurement_of_this_shape_makes_the_range_narrow(tmp_path):
    config = write_config(tmp_path)
    wide = estimated(config)
    calibration.save(tmp_path, measurement(config))
    narrow = estimated(config)
    assert "probe of one" in narrow["basis"]
    assert narrow["likely"] == pytest.approx(1000 * 0.05 + 5 + narrow["parts"]["validation"][1] + 0.2, rel=0.01)
    assert narrow["high"] / narrow["low"] < 1.35 < wide["high"] / wide["low"]


def test_a_measurement_of_another_shape_is_scaled_and_of_another_device_is_not_used(tmp_path):
    config = write_config(tmp_path)
    other = write_config(tmp_path, CONFIG + "model: {d_model: 128}\n")
    calibration.save(tmp_path, measurement(other, name="other"))
    config = write_config(tmp_path)
    assert "scaled by arithmetic" in estimated(config)["basis"]
    for file in calibration.folder(tmp_path).glob("*"):
        file.unlink()
    calibration.save(tmp_path, measurement(config, device="Abacus × 2"))
    assert "not measured" in estimated(config)["basis"]


@pytest.mark.parametrize(
    "rate", ["NaN", "0", "-1", "Infinity", "null", '"fast"', "true", "1e300", "5e-324", "1" + "0" * 400]
)
def test_a_rate_that_cannot_be_is_set_aside_and_said(tmp_path, rate):
    config = write_config(tmp_path)
    file = calibration.save(tmp_path, measurement(config))
    file.write_text(file.read_text().replace('"step_seconds": 0.05', f'"step_seconds": {rate}'))
    done = runctl(tmp_path, "estimate", config)
    assert done.returncode == 0
    assert "not measured" in done.stdout
    assert "set aside" in done.stderr
    assert file.name in done.stderr
    assert not file.exists()
    assert file.with_suffix(".damaged").exists()


def test_a_damaged_calibration_of_a_run_is_made_again_from_the_run(tmp_path):
    config = write_config(tmp_path)
    one = measurement(config, kind="run", name="my-run-2", attempt=2)
    file = calibration.save(tmp_path, one)
    copy = tmp_path / "runs" / "my-run-2" / "attempts" / "2" / "measured.json"
    copy.parent.mkdir(parents=True)
    copy.write_text(json.dumps(calibration.to_json(one)))
    file.write_bytes(b"\x00garbage")
    known, notes = calibration.load(tmp_path)
    assert known == [one]
    assert "made again" in notes[0]
    assert calibration.load(tmp_path) == ([one], [])


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from([*Measurement.__dataclass_fields__, "schema_version"]), inner)
        ),
    )
)
def test_no_record_whatever_breaks_the_parser(data):
    with pytest.raises(ValueError):
        calibration.parse(data)


def test_the_oldest_calibrations_go_first(tmp_path, monkeypatch):
    config = write_config(tmp_path)
    monkeypatch.setattr(calibration, "KEEP", 3)
    for number in range(1, 6):
        calibration.save(tmp_path, measurement(config, attempt=number))
        time.sleep(0.01)
    assert sorted(one.attempt for one in calibration.load(tmp_path)[0]) == [3, 4, 5]


@given(st.floats(1e6, 1e15), st.floats(1e6, 1e15))
def test_a_scaled_pace_is_ordered_and_finite(flops, other):
    work = time_.Work(steps=10, examples=10, flops=flops, layers=2)
    one = Measurement("run", "x", 1, 1.0, {}, "cpu", 10, 0.1, 0.1, 10, other, 1.0)
    pace = time_.scaled(one, work)
    assert 0 < pace.step[0] <= pace.step[1] <= pace.step[2] < float("inf")


def test_what_is_no_file_or_of_another_version_is_left_alone_and_said(tmp_path):
    config = write_config(tmp_path)
    file = calibration.save(tmp_path, measurement(config))
    newer = json.loads(file.read_text()) | {"schema_version": 2}
    file.write_text(json.dumps(newer))
    os.mkfifo(file.with_name("pipe.json"))
    done = runctl(tmp_path, "estimate", config)
    assert done.returncode == 0
    assert "another version" in done.stderr
    assert "a named pipe" in done.stderr
    assert json.loads(file.read_text()) == newer


def test_a_folder_that_is_a_file_is_said(tmp_path):
    config = write_config(tmp_path)
    (tmp_path / ".runctl").mkdir()
    (tmp_path / ".runctl" / "calibrations").write_text("")
    with pytest.raises(UsageError, match="is no folder"):
        calibration.save(tmp_path, measurement(config))


def test_git_does_not_see_what_was_measured(tmp_path):
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    calibration.save(tmp_path, measurement(write_config(tmp_path)))
    seen = subprocess.run(["git", "status", "--short"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert ".runctl" not in seen.stdout


def test_steps_over_fewer_windows_are_no_measurement_of_full_ones(tmp_path):
    config = write_config(tmp_path)
    calibration.save(tmp_path, measurement(config, examples=30.0))
    assert "scaled by arithmetic" in estimated(config)["basis"]


def test_a_start_up_with_more_data_is_not_taken_for_the_same(tmp_path):
    config = write_config(tmp_path)
    calibration.save(tmp_path, measurement(config, startup_data="simulated 720"))
    low, likely, high = estimated(config)["parts"]["setup"]
    assert low <= 2 < 5 < likely < high


def test_two_devices_with_long_names_keep_two_calibrations(tmp_path):
    config = write_config(tmp_path)
    name = "Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz"
    for threads in (2, 16):
        calibration.save(tmp_path, measurement(config, device=f"{name} × {threads}"))
    assert len(calibration.load(tmp_path)[0]) == 2


def test_the_first_steps_of_a_run_do_not_outweigh_a_longer_measurement(tmp_path):
    config = write_config(tmp_path)
    calibration.save(tmp_path, measurement(config, name="long", steps=4000))
    calibration.save(tmp_path, measurement(config, name="begun", kind="run", steps=20, created=time.time() + 5))
    assert "probe of long" in estimated(config)["basis"]
