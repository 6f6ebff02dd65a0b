"""`runctl preflight` of many configs in one call, beside a schema check and a YAML linter on the same files.

    python benchmarks/preflight_many.py [--configs 1000] [--rounds 5] [--tools FOLDER] [--kind native|foreign]

The configs have 60 lines, each another. `check-jsonschema` and `yamllint` are looked for in FOLDER (the bin folder of
an environment that has them), then on PATH, and left out with a word where they are absent. Contenders take turns;
medians of wall time, and the least processor time, of whole processes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent

NATIVE = """\
# Mamba-2, sweep member {i}: width {width}, seed {i}.
# What changes between the members is the width and the seed.
name: sweep-{i:05}
task: worldmodel

data:
  max_games: {games}
  train_split: 0.9
  simulate:
    games: {games}
    seconds: 60
    seed: {i}

encoding:
  state_age_as_embed: {ages}
  projectiles: false
  state_flags: {flags}
  hitstun: true

model:
  arch: mamba2
  d_model: {width}
  n_layers: {layers}
  d_state: 64
  headdim: 64
  context_len: {context}
  chunk_size: 10
  dropout: 0.1

training:
  epochs: 3
  batch_size: {batch}
  accumulation: 1
  lr: 3.0e-4
  weight_decay: 1.0e-5
  warmup_steps: 100
  grad_clip: 1.0
  precision: bf16  # autocast
  seed: {i}
  log_every: 50
  validate_every: 1 epoch

checkpoint:
  every: 5m
  keep_last: 3
  keep_best: 1
  metric: val/loss
  mode: min

compute:
  backend: modal
  gpu: A100-80GB
  cpu: 8
  memory: 32GiB
  timeout: 12h
budget:
  max_cost_usd: 40
  max_hours: 10
tracking:
  wandb: disabled
"""
FOREIGN = """\
# Fine-tuning, sweep member {i}: seed {i}.
model_name_or_path: our-lab/tiny-{width}
dataset:
  path: data/sweep-{i:05}
  split: train
  text_column: text
  streaming: false
model:
  hidden_size: {width}
  num_hidden_layers: {layers}
  num_attention_heads: 8
  intermediate_size: 2048
  vocab_size: 32000
  max_position_embeddings: 2048
tokenizer:
  name: our-lab/tokens
  padding_side: right
  add_eos: true
train:
  output_dir: outputs/sweep-{i:05}
  per_device_train_batch_size: {batch}
  per_device_eval_batch_size: 8
  gradient_accumulation_steps: 4
  max_steps: {steps}
  learning_rate: 3.0e-4
  lr_scheduler_type: cosine
  warmup_steps: 100
  weight_decay: 0.01
  max_grad_norm: 1.0
  bf16: true
  gradient_checkpointing: {ages}
  optim: adamw_torch
  seed: {i}
  dataloader_num_workers: 4
  dataloader_pin_memory: true
logging:
  logging_steps: 10
  report_to: none
  run_name: sweep-{i:05}
  log_level: info
evaluation:
  eval_strategy: steps
  eval_steps: 500
  metric_for_best_model: eval_loss
  greater_is_better: false
checkpointing:
  save_strategy: steps
  save_steps: 500
  save_total_limit: 3
  resume_from_checkpoint: auto
hardware:
  gpu: A100-80GB
  num_gpus: 1
  num_nodes: 1
  timeout_hours: 12
notes:
  group: sweeps
  owner: team-{games}
  purpose: sweep over the width
  reviewed: {flags}
"""


def write(folder: Path, count: int, text: str) -> None:
    """Configs `run-00000.yaml`…, each another."""
    folder.mkdir(parents=True)
    for i in range(count):
        values = {
            "i": i, "width": (64, 128, 256, 384)[i % 4], "layers": 2 + i % 3, "context": (10, 20, 60)[i % 3],
            "batch": (64, 128, 512)[i % 3], "games": 20 + i % 7, "steps": 5_000 + 10 * i,
            "ages": str(i % 2 == 0).lower(), "flags": str(i % 3 == 0).lower(),
        }  # fmt: skip
        (folder / f"run-{i:05}.yaml").write_text(text.format(**values))


def measure(command: list[str], cwd: Path) -> tuple[float, float, int]:
    """Wall seconds, processor seconds (with its children's), exit status."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.returncode


def contenders(folder: Path, tools: str | None, kind: str) -> dict[str, list[str]]:
    """Each command line; a tool that is not there is named and left out."""
    path = os.pathsep.join(filter(None, (tools, os.environ.get("PATH"))))
    found = {"runctl preflight": [sys.executable, "-m", "runctl", "preflight", str(folder)]}
    files = [str(file) for file in sorted(folder.iterdir())]
    schema = folder.parent / "schema.json"
    schema.write_text(subprocess.run([sys.executable, "-m", "runctl", "config", "schema"], check=True, cwd=ROOT,
                                     capture_output=True, text=True).stdout if kind == "native" else "{}")  # fmt: skip
    for name, options in (("check-jsonschema", ["--schemafile", str(schema)]), ("yamllint", ["-d", "relaxed"])):
        program = shutil.which(name, path=path)
        if program is None:
            print(f"{name} is not installed here: left out")
        else:
            found[name] = [program, *options, *files]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tools", help="bin folder that has check-jsonschema and yamllint")
    parser.add_argument("--kind", choices=("native", "foreign"), default="native")
    parser.add_argument("--json", type=Path, help="write the figures there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "project" / "configs"
        write(folder, given.configs, NATIVE if given.kind == "native" else FOREIGN)
        commands = contenders(folder, given.tools, given.kind)
        runs: dict[str, list[tuple[float, float, int]]] = {name: [] for name in commands}
        for _ in range(given.rounds):
            for name, command in commands.items():
                runs[name].append(measure(command, ROOT if name.startswith("runctl") else folder))
    load = os.getloadavg()[0]
    figures = {}
    print(f"{given.configs} {given.kind} configs, {given.rounds} rounds, load {load:.1f}")
    for name, rows in runs.items():
        wall, cpu = statistics.median(row[0] for row in rows), min(row[1] for row in rows)
        figures[name] = {"wall": round(wall, 3), "cpu": round(cpu, 3), "exit": rows[0][2]}
        print(f"{name:<20} {wall:7.2f} s  ({cpu:.2f} s of processor time at best, exit {rows[0][2]})")
    if given.json:
        given.json.write_text(
            json.dumps({"configs": given.configs, "kind": given.kind, "load": load, **figures}, indent=1)
        )


if __name__ == "__main__":
    main()
