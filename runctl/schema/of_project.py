"""The schema of `runctl.yaml`, whose sections are checked by hand where they are read: every key with its words."""

from __future__ import annotations

from typing import Any

from runctl import rules
from runctl.adapters.vocabulary import WORDS
from runctl.notices import targets
from runctl.team import policy

DIALECT = "https://json-schema.org/draft/2020-12/schema"


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
            "requirements": text("a file: the packages of programs of your own (task: command)", "requirements.txt"),
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
