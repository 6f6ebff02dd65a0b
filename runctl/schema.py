"""JSON schemas for editors: of a config and of `runctl.yaml`, every key with what it means, its unit and examples.

The types come from `RunConfig`; here they become what a person may write (`5m`, `64GiB`, `1 epoch`), and each key gets
its words. An editor shows them and marks a misspelt key while it is typed; whether a config is valid, preflight says.
"""

from __future__ import annotations

from typing import Any

from runctl import config as configs
from runctl import rules
from runctl.adapters.vocabulary import WORDS
from runctl.config import aliases
from runctl.notices import targets
from runctl.team import policy

DIALECT = "https://json-schema.org/draft/2020-12/schema"
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


def project() -> dict[str, Any]:
    """The schema of `runctl.yaml`."""
    return {
        "$schema": DIALECT,
        "title": "runctl.yaml",
        "description": "A project's settings; its folder is the project's root.",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "policy": _policy(),
            "waivers": _waivers(),
            "baseline": {
                "type": "string",
                "description": "the file of known findings: only new ones fail",
                "examples": ["runctl-baseline.json"],
            },
            "budget": {
                "type": "object",
                "description": "the purse of the project: what all its runs together may cost",
                "additionalProperties": False,
                "properties": {
                    "total_usd": {
                        "type": "number",
                        "minimum": 0,
                        "description": "USD; a launch that would overdraw it is refused",
                        "examples": [200],
                    }
                },
                "examples": [{"total_usd": 200}],
            },
            "notices": _notices(),
            "share": {"enum": ["group"], "description": "who may read the runs besides you", "examples": ["group"]},
            "modal": _modal(),
            "prices": {
                "type": "object",
                "description": "your own prices, USD per hour, by provider and GPU",
                "additionalProperties": {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}},
                "examples": [{"modal": {"A100-40GB": 2.1, "cpu_core_hour": 0.04, "gib_hour": 0.008}}],
            },
            "adapters": {
                "type": "array",
                "description": "how configs of other trainers are read: written here, or files of adapters",
                "items": {"anyOf": [{"type": "string"}, _adapter()]},
                "examples": [["adapters/ours.yaml"]],
            },
        },
    }


def _policy() -> dict[str, Any]:
    values = {
        name: {"description": f"{value.meaning} (default: {value.show(value.default)})"}
        for name, value in policy.VALUES.items()
    }
    severity = {"enum": [*policy.SEVERITIES, False]}
    return {
        "type": "object",
        "description": "thresholds of the rules, their severities, and what every config must say",
        "additionalProperties": False,
        "properties": {
            **values,
            "rules": {
                "type": "object",
                "description": "the severity that a rule has here, or off",
                "additionalProperties": False,
                "properties": {one.id: {"description": one.title, **severity} for one in rules.known().values()},
                "examples": [{"CK103": "error", "CF110": "off"}],
            },
            "require": _require(),
        },
        "examples": [{"long_run": "2h", "max_cost_usd": 100, "require": ["budget", "training.seed"]}],
    }


def _require() -> dict[str, Any]:
    mapping = {
        "type": "object",
        "required": ["key"],
        "additionalProperties": False,
        "properties": {
            "key": {"type": "string", "description": "a dotted key, or a word such as budget", "examples": ["budget"]},
            "message": {"type": "string", "description": "why, for whoever is refused", "examples": ["agreed in May"]},
            "one_of": {"type": "array", "description": "the values that it may have", "examples": [["bf16"]]},
            "when": {"enum": list(policy.WHEN), "description": "for which runs", "examples": ["paid"]},
            "paths": _paths("for which configs"),
        },
    }
    return {
        "type": "array",
        "description": "what every config must say",
        "items": {"anyOf": [{"type": "string"}, mapping]},
        "examples": [["budget", {"key": "card", "when": "paid"}]],
    }


def _paths(words: str) -> dict[str, Any]:
    return {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
        "description": f"{words}: globs from the folder of runctl.yaml",
        "examples": [["configs/smoke/*.yaml"]],
    }


def _waivers() -> dict[str, Any]:
    return {
        "type": "array",
        "description": "findings that are allowed, by path, each with its reason",
        "items": {
            "type": "object",
            "required": ["rule", "paths", "reason"],
            "additionalProperties": False,
            "properties": {
                "rule": {"type": "string", "pattern": "^[A-Za-z]{2}\\d{3}$", "description": "the rule's id"},
                "paths": _paths("where"),
                "reason": {"type": "string", "minLength": 1, "description": "why it is allowed, for the next reader"},
                "until": {
                    "type": "string",
                    "pattern": r"^\d{4}-\d{2}-\d{2}$",
                    "description": "the last day on which it holds",
                    "examples": ["2027-01-31"],
                },
            },
        },
        "examples": [[{"rule": "CK101", "paths": ["configs/smoke/*.yaml"], "reason": "smoke runs keep nothing"}]],
    }


def _notices() -> dict[str, Any]:
    target = {
        "type": "object",
        "required": ["env"],
        "additionalProperties": False,
        "properties": {
            "env": {
                "type": "string",
                "pattern": "^[A-Za-z_][A-Za-z0-9_]*$",
                "description": "the environment variable that holds the address of a service; never the address itself",
                "examples": ["RUNCTL_NOTICE_URL"],
            },
            "on": {
                "type": "array",
                "minItems": 1,
                "items": {"enum": list(targets.KINDS)},
                "description": "what it is told; everything without it",
                "examples": [["failed", "killed", "lost"]],
            },
        },
    }
    return {
        "type": "object",
        "description": "who is told what happens to a run",
        "additionalProperties": False,
        "properties": {
            "to": {
                "type": "array",
                "description": "the services",
                "items": target,
                "examples": [[{"env": "RUNCTL_NOTICE_URL"}]],
            }
        },
        "examples": [{"to": [{"env": "RUNCTL_NOTICE_URL", "on": ["failed", "lost"]}]}],
    }


def _modal() -> dict[str, Any]:
    def text(words: str, example: Any, **more: Any) -> dict[str, Any]:
        return {"type": "string", "description": words, "examples": [example], **more}

    def texts(words: str, example: list[str]) -> dict[str, Any]:
        return {"type": "array", "items": {"type": "string"}, "description": words, "examples": [example]}

    return {
        "type": "object",
        "description": "what runs on Modal have in common",
        "additionalProperties": False,
        "properties": {
            "volume": text("the volume with runs and datasets; made where it is missing", "runctl"),
            "volume_version": {"enum": [1, 2], "description": "of a volume that is made", "examples": [1]},
            "environment": text("the environment of the workspace", "dev"),
            "secrets": texts("names of secrets that the run's environment gets; never their values", ["wandb"]),
            "python": text("the version of Python in the image", "3.12", pattern=r"^3\.\d{1,2}$"),
            "packages": texts("further packages for the image", ["einops==0.8.1"]),
            "kernels": {
                "type": "boolean",
                "description": "compile mamba-ssm and causal-conv1d into GPU images",
                "examples": [False],
            },
            "tags": {
                "type": "object",
                "description": "tags of every app, by which bills can be grouped; five at most",
                "maxProperties": 5,
                "additionalProperties": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,63}$"},
                "examples": [{"team": "melee"}],
            },
        },
        "examples": [{"volume": "runctl", "secrets": ["wandb"]}],
    }


def _adapter() -> dict[str, Any]:
    place = {"anyOf": [{"type": "string"}, {"type": "object"}, {"type": "array"}]}
    return {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "description": "the dialect's name", "examples": ["ours"]},
            "match": {"type": "array", "items": {"type": "string"}, "description": "globs of its configs"},
            "facts": {
                "type": "object",
                "description": "where each fact stands in its configs",
                "properties": {name: {"description": word.meaning, **place} for name, word in WORDS.items()},
            },
            "defaults": {"type": "object", "description": "what the trainer does where a config says nothing"},
        },
    }
