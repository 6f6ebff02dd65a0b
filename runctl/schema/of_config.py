"""The schema of a config file: the types of `RunConfig` as a person may write them, each key with its words."""

from __future__ import annotations

from typing import Any

from runctl import config as configs
from runctl.config import aliases

DURATION = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "string", "pattern": r"^\s*(\d+(\.\d+)?\s*[A-Za-z]+\s*)+$"},
    ]
}
SIZE = {
    "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*([KMGT]i)?B\s*$"}]
}
CADENCE = {
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {"type": "string", "pattern": r"^\s*[\d_.]+\s*(steps?|epochs?|[A-Za-z]+[\d.\sA-Za-z]*)?\s*$"},
    ]
}
COUNT = {
    "anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": r"^[\d_,]+(\.\d+)?\s*[kKmMbBtT]?$"}]
}
NEVER = {"enum": ["never", None, False, 0]}
NULL = {"type": "null"}
_TEXTS = {"type": "array", "items": {"type": "string"}, "minItems": 1}

# What a person may write, where that is more than the type in the program.
_WRITTEN: dict[str, dict[str, Any]] = {
    "Checkpoint.every": {"anyOf": [*CADENCE["anyOf"], NEVER]},
    "Training.validate_every": CADENCE,
    "Compute.timeout": {"anyOf": [*DURATION["anyOf"], NULL]},
    "Compute.start_within": {"anyOf": [*DURATION["anyOf"], NULL]},
    "Compute.hang_after": {"anyOf": [*DURATION["anyOf"], NULL]},
    "Compute.grace": {"anyOf": [*DURATION["anyOf"], NULL]},
    "Compute.gpu": {"anyOf": [{"type": "string"}, _TEXTS, NULL]},
    "Compute.memory": {"anyOf": [*SIZE["anyOf"], NULL]},
    "Compute.disk": {"anyOf": [*SIZE["anyOf"], NULL]},
    "Declares.parameters": {"anyOf": [*COUNT["anyOf"], NULL]},
    "Measured.parameters": {"anyOf": [*COUNT["anyOf"], NULL]},
    "Measured.peak": SIZE,
    "Command.progress": {"anyOf": [{"type": "string"}, _TEXTS, {"$ref": "#/$defs/Progress"}, NULL]},
    "Command.checkpoints": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/SavedAt"}, NULL]},
}

_WORDS: dict[str, str] = {
    "task": "what is trained: worldmodel, or command for a program of your own",
    "data": "where the frames come from",
    "encoding": "how raw games become tensors",
    "model": "the network",
    "training": "length, batch, rate, precision and seed",
    "loss_weights": "how much each part of the loss counts",
    "command": "a program of your own, for task: command",
    "checkpoint": "how often it saves, and what is kept",
    "compute": "where it runs, and on what",
    "budget": "what the run may cost and take, all attempts together; beyond it a launch is refused, and a run ended",
    "guards": "conditions that flag or end a running run",
    "tracking": "where metrics are also sent",
    "Budget": "What the run may cost and take.",
    "Budget.max_cost_usd": "the most that the run may cost, in USD",
    "Budget.max_hours": "the most hours that it may take",
    "Checkpoint": "How often the run saves, and what is kept.",
    "Checkpoint.keep_last": "newest checkpoints that are kept",
    "Checkpoint.keep_best": "best checkpoints that are kept, by `metric`; 0: none",
    "Checkpoint.metric": "the metric that says which checkpoint is best",
    "Checkpoint.mode": "whether a small or a large value of the metric is good",
    "Command.argv": "the program and its arguments, a list; no shell reads it",
    "Command.env": "environment variables, not secret ones",
    "Compute": "Where the run executes, and what it asks for.",
    "Compute.retries": "how often it is started again by itself after a hang, preemption or a failure of the machine",
    "Declares.channels": "of vit: colours of the image",
    "Declares.d_conv": "of mamba: width of the causal convolution",
    "Declares.d_state": "of mamba: size of the state",
    "Declares.expand": "of mamba: inner width ÷ d_model",
    "Declares.n_heads": "attention heads",
    "Declares.outputs": "numbers in one output of an mlp; classes of a vit",
    "Declares.vocab_size": "tokens in the vocabulary",
    "Declares.optimizer": "the optimizer, whose state takes memory",
    "Every.steps": "in optimizer steps",
    "Every.seconds": "in seconds",
    "Every.epochs": "in passes over the data",
    "Guard.when": "the condition, such as val/loss > 0.40 or nan; docs/guards.md has them all",
    "Guard.after": "not before this point of the run",
    "Guard.do": "what happens then; nothing switches a default guard off",
    "Guard.why": "what it means, for whoever reads it in the morning",
    "LossWeights": "How much each part of the loss counts.",
    "Model.arch": "the architecture",
    "Model.d_model": "width of the residual stream",
    "Model.n_layers": "Mamba-2 blocks",
    "Model.d_state": "size of the state of each head",
    "Model.headdim": "width of a head; it divides expand × d_model",
    "Model.expand": "inner width ÷ d_model",
    "Model.d_conv": "frames under the causal convolution",
    "Model.dropout": "share of activations dropped in training",
    "Tracking": "Where metrics are also sent.",
    "Tracking.wandb": "Weights & Biases: not at all, kept on disk, or sent",
    "Tracking.project": "the tracker's project",
    "Tracking.entity": "the tracker's user or team",
    "Training.weight_decay": "weight decay of AdamW",
    "Training.device": "cpu, cuda, or whichever is there",
}
_ENDINGS = {
    "_vocab": "number of different ids of {}",
    "_embed_dim": "width of the embedding of {}",
    "_scale": "{} is multiplied by it before the model sees it",
}
_EXAMPLES: dict[str, list[Any]] = {
    "name": ["mamba2-10m-smoke"],
    "task": ["worldmodel", "command"],
    "card": ["runcards/mamba2-10m.md"],
    "command": [{"argv": ["python3", "train.py"]}],
    "declares": [{"family": "transformer", "parameters": "1.7B"}],
    "guards": [[{"when": "val/loss > 0.4", "after": "1 epoch", "do": "stop"}]],
    "Data.encoded": ["data/encoded-2k"],
    "Data.simulate": [{"games": 48, "seconds": 30, "seed": 1}],
    "Data.max_games": [2000],
    "Training.epochs": [2],
    "Training.steps": [900],
    "Training.seed": [7],
    "Training.threads": [2],
    "Training.validation_windows": [20000],
    "Training.validate_every": ["1 epoch", "500 steps", "10m"],
    "Checkpoint.every": ["5m", "500 steps", "never"],
    "Compute.backend": ["local", "modal"],
    "Compute.gpu": ["A100-80GB", "H100:4", ["H100!", "A100-80GB"]],
    "Compute.cpu": [8],
    "Compute.memory": ["64GiB"],
    "Compute.disk": ["200GiB"],
    "Compute.timeout": ["4h", "1h30m"],
    "Compute.start_within": ["1h"],
    "Compute.hang_after": ["2h"],
    "Compute.grace": ["2m"],
    "Budget.max_cost_usd": [10],
    "Budget.max_hours": [3],
    "Guard.when": ["val/loss > 0.40", "nan", "no checkpoint for 30m"],
    "Guard.after": ["1 epoch"],
    "Guard.why": ["the rate is too high: try 1e-4"],
    "Tracking.project": ["melee"],
    "Tracking.entity": ["our-team"],
    "Command.argv": [["python3", "train.py", "--config", "exp.json"]],
    "Command.cwd": ["trainer"],
    "Command.when_resuming": [["--resume", "{resume}"]],
    "Command.progress": [["tqdm"], ["step {step}/{total_steps} loss {loss}"]],
    "Command.checkpoints": ["{run_dir}/out/ckpt-{step}.pt"],
    "Progress.patterns": [["auto"]],
    "SavedAt.path": ["out/ckpt-{step}.pt"],
    "SavedAt.done": [".done"],
    "Command.env": [{"OMP_NUM_THREADS": "4"}],
    "Declares.family": ["transformer"],
    "Declares.parameters": ["1.7B", 124439808],
    "Declares.optimizer": ["adamw"],
    "Declares.bytes_per_parameter": [16],
    "Declares.measured": [{"batch_size": 8, "peak": "21.4GiB"}],
    "Declares.kernels": ["fused", "plain"],
    "Every.steps": [500],
    "Every.seconds": [300],
    "Every.epochs": [1],
    "Measured.bytes_per_parameter": [16],
    "Measured.peak": ["21.4GiB"],
    "Measured.batch_size": [8],
}


def config() -> dict[str, Any]:
    """The schema of a config file."""
    schema = configs.schema()
    for name, definition in schema["$defs"].items():
        definition.pop("title", None)
        if name in _WORDS:
            definition["description"] = _WORDS[name]
        for key, given in definition["properties"].items():
            definition["properties"][key] = _key(given, name, key)
    for old, new in aliases.RENAMED.items():
        section = schema["$defs"][{"training": "Training"}[str(old[0])]]
        words = f"old spelling of {'.'.join(map(str, new))}"
        section["properties"][str(old[1])] = {"description": words, "deprecated": True}
    schema["properties"] = {key: _key(given, "", key) for key, given in schema["properties"].items()}
    for path, why in aliases.UNUSED.items():
        if len(path) == 1:
            schema["properties"][str(path[0])] = {"description": f"not used: {why}", "deprecated": True}
    schema["title"] = "runctl config"
    return schema


def _key(given: dict[str, Any], section: str, key: str) -> dict[str, Any]:
    """A key's schema with its words and examples, and the types that a person may write."""
    name = f"{section}.{key}" if section else key
    made = {word: value for word, value in given.items() if word != "title"}
    if name in _WRITTEN:
        kept = {word: value for word, value in made.items() if word in ("default", "description")}
        made = {**kept, **_WRITTEN[name]}
    words = _WORDS.get(name) or made.pop("description", None) or _ending(key)
    if section == "LossWeights":
        words = words or f"weight of the loss of {key.replace('_', ' ')}"
    if words:
        made = {"description": words, **{word: value for word, value in made.items() if word != "description"}}
    examples = _EXAMPLES.get(name)
    if examples is None and made.get("default") is not None:
        examples = [made["default"]]
    if examples is None and (bound := _least(made)) is not None:
        examples = [bound]
    return {**made, "examples": examples} if examples and "$ref" not in made else made


def _ending(key: str) -> str | None:
    return next(
        (words.format(key.removesuffix(end).replace("_", " ")) for end, words in _ENDINGS.items() if key.endswith(end)),
        None,
    )


def _least(schema: dict[str, Any]) -> Any:
    """The smallest value that can be, as the example of a key that has no other."""
    for option in (schema, *schema.get("anyOf", ())):
        for word in ("minimum", "ge"):
            if word in option:
                return option[word]
        if option.get("type") == "boolean":
            return True
    return None
