"""The configs in a folder: YAML files, and JSON files that look like training configs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from runctl.yamldoc import MAX_BYTES

PASSED_OVER = ("runs", "node_modules")  # folders; hidden ones too
YAML = (".yaml", ".yml")
LEAST_SIGNS = 2
_SIGN = re.compile(
    rb'"(per_device_train_batch_size|per_gpu_train_batch_size|train_batch_size|micro_batch_size|batch_size|num_train_epochs'
    rb"|num_epochs|epochs|max_steps|total_steps|train_steps|learning_rate|lr|gradient_accumulation_steps|warmup_steps"
    rb'|warmup_ratio|save_steps|save_strategy|optimizer|optim|training|training_args|training_arguments)"\s*:'
)
_OTHER = re.compile(
    rb'"(log_history|zero_optimization|train_micro_batch_size_per_gpu|peft_type|devDependencies|cells|\$defs|additionalProperties)"\s*:'
)


def configs(folder: Path) -> Iterator[Path]:
    """Every config below `folder`, by name; `runs`, `node_modules` and hidden folders are passed over."""
    for above, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in PASSED_OVER and not name.startswith("."))
        for name in sorted(files):
            path = Path(above) / name
            if name.startswith("."):
                continue
            if path.suffix in YAML or (path.suffix == ".json" and _looks_like_training(path)):
                yield path


def _looks_like_training(path: Path) -> bool:
    """Whether a JSON file has keys of a training config, and none of the files that lie beside such configs. One that
    cannot be read, or is too large, does not."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return False
        text = path.read_bytes()
    except OSError:
        return False
    return len(set(_SIGN.findall(text))) >= LEAST_SIGNS and not _OTHER.search(text)
