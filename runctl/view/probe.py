"""A probe on the terminal: how far it is, what holds and what does not, and what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runctl import preflight, probe, view
from runctl.units import format_bytes, format_count, format_duration, format_short
from runctl.view.report import styled

if TYPE_CHECKING:
    from runctl.estimate.calibration import Measurement
    from runctl.reporting.text import Line


def run(config: Path, overrides: Sequence[str], seconds: float) -> probe.Probe:
    """Probe with a status line on stderr."""
    with view.err().status("starting the trainer") as status:

        def look(heartbeat: dict[str, Any]) -> None:
            step = f", step {heartbeat['step']:,}" if heartbeat.get("step") else ""
            message = f": {heartbeat['message']}" if heartbeat.get("message") else ""
            status.update(f"{heartbeat.get('phase', '')}{step}{message}")

        return probe.probe(config, overrides, seconds=seconds, look=look)


def report(found: probe.Probe, config: Path, overrides: Sequence[str], *, prose: bool = False) -> None:
    """The checks, then the numbers beside the estimate that they now give; on stderr where they are only `prose`."""
    lines: list[Line] = [[("name", found.name), ("dim", f"  probed for {format_duration(found.seconds)}")]]
    for check in found.checks:
        mark = ("good", "  ok    ") if check["ok"] else ("bad", "  FAIL  ")
        lines.append([mark, ("", f"{check['name']}: {check['said']}")])
        if not check["ok"] and check["fix"]:
            lines.append([("note", "        hint"), ("", f": {check['fix']}")])
    if found.measurement is not None:
        lines += [[], *_measured(found.measurement, config, overrides)]
    if found.kept:
        lines += [[], [("warn", f"  not sound: its folder is kept: {found.kept}")]]
    styled(lines, prose=prose)


def _measured(one: Measurement, config: Path, overrides: Sequence[str]) -> list[Line]:
    facts, _ = preflight.gather(config, preflight.Options(overrides))
    frames = one.examples_per_second * facts.get("model.context_len", 1)
    p10, p50, p90 = one.step_p10_seconds, one.step_p50_seconds, one.step_p90_seconds
    rows = [("device", one.device + (f", load {one.load:.1f}" if one.load is not None else ""))]
    rows += [("step", f"{format_short(one.step_seconds)} on average of {one.steps:,}")]
    if p10 is not None and p50 is not None and p90 is not None:
        rows += [
            ("", f"{format_short(p50)} in the middle, {format_short(p10)} to {format_short(p90)} for eight of ten")
        ]
    rows += [("rate", f"{format_count(one.examples_per_second)} windows/s, {format_count(frames)} frames/s")]
    rows += [("arithmetic", f"{one.flops_per_second / 1e12:.3g} TFLOP/s{_mfu(one, facts)}")]
    if one.data_share is not None:
        rows += [("data", f"{one.data_share:.1%} of the time is waiting for windows")]
    if one.peak_bytes is not None:
        rows += [("memory", f"{format_bytes(one.peak_bytes)} of tensors in a step{_estimated(one, facts)}")]
    if one.checkpoint_bytes and one.checkpoint_stall_seconds is not None:
        stall = f"stops training for {format_short(one.checkpoint_stall_seconds)}"
        rows += [("checkpoint", f"{format_bytes(one.checkpoint_bytes)}; {stall}")]
    if time := facts.get("estimate.time"):
        span = f"{format_duration(time.low)} to {format_duration(time.high)}"
        rows += [("whole run", f"{format_duration(time.likely)} ({span})")]
    return [[("dim", f"  {name:<11}"), ("", text)] for name, text in rows]


def _mfu(one: Measurement, facts: Any) -> str:
    """The share of the GPU's peak, where the catalogue knows it."""
    gpu, precision = facts.get("gpu"), facts.get("training.precision")
    if gpu is None or precision not in gpu.peak:
        return ""
    return f", {one.flops_per_second / gpu.peak[precision]:.1%} of the {gpu.name}'s {precision} peak (MFU)"


def _estimated(one: Measurement, facts: Any) -> str:
    memory = facts.get("estimate.memory")
    if memory is None or one.peak_bytes is None:
        return ""
    return f"; the whole run is estimated at {format_bytes(memory.low)} to {format_bytes(memory.high)}"
