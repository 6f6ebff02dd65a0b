"""`runctl estimate`: how large, how much memory, how long, how much money."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from runctl.cli.options import ConfigPath, Gpu, Json, Set

if TYPE_CHECKING:
    from runctl.estimate.memory import Memory

AllGpus = Annotated[bool, typer.Option("--all-gpus", help="Memory on every GPU, and the largest batch that fits.")]
Trace = Annotated[bool, typer.Option("--trace", help="Trace the step now and compare (needs torch, some seconds).")]


def command(
    config: ConfigPath,
    settings: Set = None,
    gpu: Gpu = None,
    all_gpus: AllGpus = False,
    trace: Trace = False,
    as_json: Json = False,
) -> None:
    """Estimate parameters (exact), peak memory, time and cost (ranges, each with its basis).

    \b
    Examples:
      runctl estimate configs/mamba2-medium.yaml
      runctl estimate configs/mamba2-medium.yaml --gpu H100 --set training.batch_size=4096
      runctl estimate configs/mamba2-medium.yaml --all-gpus
      runctl estimate configs/mamba2-medium.yaml --json
    """
    from runctl import preflight, view
    from runctl.errors import ConfigError, RunctlError, UsageError
    from runctl.estimate import fits
    from runctl.reporting import json_
    from runctl.view import estimate as estimate_view

    facts, document = preflight.gather(config, preflight.Options(settings or (), gpu))
    if problems := facts.get("config.problems"):
        raise ConfigError(problems)
    if problem := facts.get("gpu.problem"):
        raise UsageError(f"compute.gpu: {problem[0]}", hint=problem[1])
    report = preflight.check(facts, document, only=())
    memory = facts.get("estimate.memory")
    if memory is None and (all_gpus or trace):
        raise RunctlError(f"the memory is unknown: {facts.why('estimate.memory')}")
    rows, left_out = (fits.table(memory.request), fits.left_out(memory.request)) if memory and all_gpus else ([], {})
    traced = _trace(memory) if trace else None
    if as_json:
        found: dict[str, Any] = {"path": report.path, "estimates": json_.estimates(report)}
        if all_gpus:
            found["gpus"] = [fits.to_json(row) for row in rows]
            found["not_shown"] = [{"gpu": gpu, "because": why} for gpu, why in left_out.items()]
        view.print_json(found | ({"trace": traced} if traced else {}))
        return
    estimate_view.estimate(report)
    if all_gpus:
        estimate_view.gpus(rows, left_out)
    if traced:
        estimate_view.traced(traced)


def _trace(memory: Memory) -> dict[str, Any]:
    """The step traced now, beside what was traced before."""
    from runctl import install
    from runctl.errors import RunctlError
    from runctl.estimate.family_peak import Request

    if isinstance(memory.request, Request):
        raise RunctlError("--trace runs the step of a built-in task; a program of your own is only declared")
    try:
        from runctl.estimate.compare import trace_now
    except ImportError as error:
        raise RunctlError(
            f"--trace needs torch: {error}", hint=f"{install.hint('train')}, or leave --trace out"
        ) from None
    return trace_now(memory.request)
