"""runctl takes an ML training run from a YAML file to an accounted-for result.

In a training program of your own, `import runctl` gives `report`, `checkpoint`, `should_stop` and `should_checkpoint`
(report.py), and nothing else is imported.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runctl.report import checkpoint as checkpoint
    from runctl.report import report as report
    from runctl.report import should_checkpoint as should_checkpoint
    from runctl.report import should_stop as should_stop

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name not in ("report", "checkpoint", "should_checkpoint", "should_stop"):
        raise AttributeError(f"module 'runctl' has no attribute {name!r}")
    from importlib import import_module

    module = import_module("runctl.report")
    return module if name == "report" else getattr(module, name)
