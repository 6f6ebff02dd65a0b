"""The measured figures as a Markdown table: what, beside what, the figure, the aim, and whether it was met."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """`met` is None where there is no aim."""

    what: str
    beside: str
    measured: str
    aim: str = ""
    met: bool | None = None

    def cells(self) -> str:
        aim = f"{self.aim}: {'met' if self.met else '**missed**'}" if self.aim else ""
        return f"| {self.what} | {self.beside} | {self.measured} | {aim} |"


def markdown(found: dict[str, Any]) -> str:
    """One table of all parts that were measured, the machine above it, what failed below it."""
    about = found["machine"]
    device = about.get("gpu") or f"{about['cores']} cores of {about['cpu']}"
    load = f"load {about['load_at_start']} at the start, {about.get('load_at_end', '?')} at the end"
    if about.get("processor_time"):
        load += "; steps and start-up by the processor's clock"
    lines = [
        f"{about['date']}, {device}, Python {about['python']}, torch {about['torch']}; {load}"
        + ("; measured with `--quick`: few rounds, more noise" if found.get("quick") else ""),
        "",
        "| what | beside | measured | aim |",
        "|---|---|---|---|",
    ]
    failed = []
    for name, part in found["parts"].items():
        if "failed" in part:
            failed.append(f"Not measured: `benchmarks/{name}.py` ended with: {part['failed']}")
            continue
        if name in ROWS:
            lines += [row.cells() for row in ROWS[name](part)]
    return "\n".join([*lines, *([""] if failed else []), *failed]) + "\n"


def train(part: dict[str, Any]) -> Iterator[Row]:
    for shape in part["shapes"].values():
        size = f"{shape['d_model']} × {shape['n_layers']}, K=10, batch {shape['batch']}"
        title = f"whole training steps, data included: {size}"
        ways = shape["contenders"]
        own = ways["runctl, bf16"]
        share = f"{own['share_of_matmul']:.0%} of its matrix products' rate"
        yield Row(title, "runctl, bf16", f"{own['examples_per_second']:,.0f} examples/s, {share}")
        for name, one in ways.items():
            if name.startswith("runctl, bf16"):
                continue
            aim = f"≥ {shape['aim']:.0f} ×" if name.startswith("naive") and name.endswith("fp32") else ""
            rate = f"{one['examples_per_second']:,.0f} examples/s: runctl is {one['runctl_times']:.2f} × as fast"
            yield Row("the same", name, rate, aim, one["runctl_times"] >= shape["aim"] if aim else None)


def gather(part: dict[str, Any]) -> Iterator[Row]:
    for title, rates in part["shapes"].items():
        own = rates["gather"]
        for name, rate in rates.items():
            if name != "gather":
                yield Row(f"window gather, {title}", name, f"{own:,} against {rate:,} windows/s: {own / rate:.2f} ×")


def opening(part: dict[str, Any]) -> Iterator[Row]:
    base = part["ways"]["torch.load"]
    for name, one in part["ways"].items():
        if name == "torch.load":
            continue
        own, other = (way["anonymous_bytes"] / 2**20 for way in (one, base))
        took = [way.get("measured_seconds", way["seconds"]) * 1e3 for way in (one, base)]
        figure = f"{took[0]:,.1f} ms, {one['of_torch_load']:.1%} of {took[1]:,.0f} ms; "
        figure += f"{own:,.0f} MiB of its own (torch.load {other:,.0f})"
        aim = f"≤ {part['aim']:.0%}" if name.startswith("runctl") else ""
        met = one["of_torch_load"] <= part["aim"] if aim else None
        yield Row(f"start-up on a dataset of {part['gigabytes']:g} GB: {name}", "torch.load", figure, aim, met)


def loop(part: dict[str, Any]) -> Iterator[Row]:
    for name, one in part["loops"].items():
        aim = "≤ 100 µs over" if name == "runctl" else ""
        over = one.get("over_base_us")
        figure = f"{one['step_us']:,.0f} µs a step" + ("" if over is None else f", {over:+,.0f} µs")
        met = over is not None and over <= 100 if aim else None
        yield Row(f"loop of a tiny model: {name}", "a bare loop with clip, schedule, log", figure, aim, met)


def checkpoint(part: dict[str, Any]) -> Iterator[Row]:
    for size, one in part["sizes"].items():
        for name, way in one["ways"].items():
            if name == "copy":
                continue
            aim = "≤ 1.3 ×" if name == "runctl" else ""
            figure = f"{way['stall_ms']:,.1f} ms, {way['times_the_copy']:.2f} × the copy"
            met = way["times_the_copy"] <= 1.3 if aim else None
            yield Row(f"steps stand still for a checkpoint of {size} MB: {name}", "a plain copy", figure, aim, met)


def ddp(part: dict[str, Any]) -> Iterator[Row]:
    for shape in part["shapes"].values():
        for name, way in shape["ways"].items():
            if name.startswith("1 process, 1"):
                continue
            figure = f"{way['times_one_thread_by_slice']:.2f} ×, efficiency {way['efficiency']:.0%}"
            yield Row(f"{name}: {shape['d_model']} × {shape['n_layers']}", "one process of one thread", figure)


def mamba_peers(part: dict[str, Any]) -> Iterator[Row]:
    for title, shape in part["shapes"].items():
        if "share" in shape:
            figure = f"{shape['ours_bytes'] / 2**30:.2f} GiB, {shape['share']:.0%}"
            yield Row(f"peak {title}", "the chunked scan, padded to 64", figure, "≤ 50%", shape["share"] <= 0.5)
            continue
        for precision, ways in shape.items():
            for name, one in ways.items():
                if not isinstance(one, dict):
                    continue
                rate = f"{one['tokens_per_second']:,} tokens/s"
                if "share_of_matmul" in one:
                    least = None if precision == "fp32" or "1024" in title else 0.6 if "compiled" in name else 0.5
                    aim, met = (f"≥ {least:.0%}", one["share_of_matmul"] >= least) if least else ("", None)
                    beside = f"a {precision} matrix product"
                    yield Row(
                        f"{title}, {precision}: {name}", beside, f"{rate}, {one['share_of_matmul']:.0%}", aim, met
                    )
                    continue
                times = _aimed(title, name)
                met = one["ours_is"] >= times if times else None
                figure = f"{rate}: ours is {one['ours_is']:.2f} × as fast"
                yield Row(f"{title}, {precision}", name, figure, f"≥ {times:g} ×" if times else "", met)


def _aimed(title: str, name: str) -> float | None:
    """How many times as fast as a peer ours is to be."""
    if not name.startswith("transformers"):
        return None
    if "shipped" in name:
        return 20.0 if "K=10" in title else None
    return 5.0 if "K=10" in title else 2.5 if "K=60" in title else 2.0


def step_profile(part: dict[str, Any]) -> Iterator[Row]:
    shape = part["shape"]
    title = f"a step's time by kind: {shape['width']} × {shape['layers']}, K={shape['context']}, {shape['precision']}"
    yield Row(title, "", ", ".join(f"{name} {share:.0%}" for name, share in part["kinds"].items() if share >= 0.01))


ROWS: dict[str, Callable[[dict[str, Any]], Iterator[Row]]] = {
    "mamba_peers": mamba_peers,
    "train": train,
    "gather": gather,
    "opening": opening,
    "loop": loop,
    "checkpoint": checkpoint,
    "ddp": ddp,
    "step_profile": step_profile,
}
