"""The model of a foreign config: its widths, the published models that it names, what it holds of pictures."""

from __future__ import annotations

from typing import Any

from runctl.adapters import native_declares, pretrained
from runctl.config.declares import Declares
from runctl.config.settings import errors
from runctl.facts import Facts, Unknown
from runctl.light import pattern

_SETTLED = ("run.steps", "run.step_examples", "training.accumulation")
NO_MODEL = "what model it trains was not recognised: runctl adapt shows how to declare it"
_FIELD = pattern(r"\bdeclares\.\w+")
_FROM = {
    "batch_size": "training.batch_size",
    "accumulation": "training.accumulation",
    "steps": "run.steps",
    "precision": "training.precision",
    "activation_checkpointing": "training.activation_checkpointing",
}


def describe(facts: Facts) -> None:
    """The model, as far as it is known, by the same path as a program's own `declares`."""
    told = set(Declares.model_fields) - (set(_WIDTHS) if _in_several_sections(facts) else set())
    given: dict[str, Any] = {name: value for name in told if (value := facts.get(f"declares.{name}")) is not None}
    for name, other in _FROM.items():
        if name not in given and (value := facts.get(other)) is not None:
            given[name] = value
    basis = _named(facts, given)
    given.setdefault("optimizer", optimizer(str(facts.get("training.optimizer", ""))))
    if given.get("precision") == "fp8":
        given["precision"] = "bf16"
    if given.get("half_weights") and given.get("precision", "fp32") == "fp32":
        del given["half_weights"]
    if "family" not in given and all(given.get(name) for name in ("d_model", "n_layers", "n_heads")):
        given["family"] = "transformer"
    try:
        declared: Declares | None = Declares.model_validate(given)
    except ValueError as error:
        first = errors(error)[0]
        words = first["msg"].removeprefix("Value error, ")
        where = f"{facts.key('declares.' + str(first['loc'][0]))}: " if first["loc"] else ""
        declared = None
        for name in ("model.declared", "model.parameters", "model.flops"):
            facts.miss(name, f"the model cannot be as the config says it is: {where}{words}")
    if declared is None or not (declared.family or declared.parameters):
        for name in ("model.declared", "model.parameters", "model.flops"):
            facts.values.setdefault(name, _unknown(facts))
        return
    kept = {name: facts.values[name] for name in _SETTLED if name in facts.values}
    native_declares.read(declared, facts)
    facts.values.update(kept)
    if basis and (counted := facts.get("model.parameters")):
        facts.put("model.parameters", counted, "derived", basis)
    for name in ("model.flops", "model.parameters"):
        if isinstance(found := facts.values.get(name), Unknown):
            facts.miss(name, worded(found.why, facts))


def worded(why: str, facts: Facts) -> str:
    """What a declaration lacks, in the words of a config that has none."""
    if "says no family" in why:
        several = len(facts.get("model.names", ())) > 1
        return "its models together are of no known family" if several else NO_MODEL
    why = why.replace("or declares.parameters, the count itself", "or its count: --set declares.parameters=COUNT")
    why = why.replace("declares.batch_size", facts.key("training.batch_size"))
    return _FIELD.sub(lambda match: facts.key(match[0]) if match[0] != "declares.parameters" else match[0], why)


_WIDTHS = ("d_model", "n_layers", "n_heads", "n_kv_heads", "d_ff")


def _in_several_sections(facts: Facts) -> bool:
    """Whether guessed widths are of several models at once, of a picture's and a text's for instance."""
    taken = facts.get("adapter.taken", {})
    guessed = [name for name in _WIDTHS if (take := taken.get(f"declares.{name}")) is not None and take.guess]
    keys = [facts.key(f"declares.{name}") for name in guessed]
    return len({key.rpartition(".")[0] for key in keys}) > 1


def _named(facts: Facts, given: dict[str, Any]) -> str:
    """Complete `given` by the published models that the config names, or by the count in a name; says by what."""
    names = facts.get("model.names", ())
    if not names or "parameters" in given or any(given.get(name) for name in ("d_model", "n_layers")):
        return ""
    known = [pretrained.find(name) for name in names]
    models = [model for model in known if model is not None]
    if len(models) == 1 == len(names):
        model = models[0]
        for key, value in model.given.items():
            given.setdefault(key, value)
        given["parameters"] = model.parameters
        return f"the model's name: {model.name} ({model.source})"
    if models and len(models) == len(names):
        _encoder(facts, models, given)
        given["parameters"] = sum(model.parameters for model in models)
        given.pop("family", None)
        return f"the models' names: {', '.join(model.name for model in models)}"
    claimed = [pretrained.count(name) for name in names]
    if not models and len(claimed) == 1 and claimed[0]:
        given["parameters"] = claimed[0]
        return f"the number in the model's name, {names[0].rstrip('/').rpartition('/')[2][:60]}"
    return ""


def _encoder(facts: Facts, models: list[pretrained.Pretrained], given: dict[str, Any]) -> None:
    """`model.encoder`: that one of several models which looks at pictures, with those of a forward pass."""
    seeing = [model for model in models if model.given.get("family") == "vit"]
    batch = facts.get("training.batch_size")
    if len(seeing) != 1 or len(models) < 2 or batch is None:
        return
    pictures = batch * facts.get("data.clip_frames", 1)
    pictures = min(pictures, facts.get("data.frames_per_batch", pictures))
    patch = seeing[0].given["patch_size"]
    side = facts.get("declares.image_size", seeing[0].given["image_size"])
    fields: dict[str, Any] = {
        **seeing[0].given,
        "parameters": seeing[0].parameters,
        "image_size": max(1, side // patch) * patch,
        "batch_size": pictures,
        "kernels": "fused",
        "dropout": 0.0,
        **{name: given[name] for name in ("precision", "activation_checkpointing") if name in given},
    }
    fields["precision"] = {"fp8": "bf16"}.get(fields.get("precision", "fp32"), fields.get("precision", "fp32"))
    try:
        facts.put("model.encoder", Declares.model_validate(fields), "derived", facts.key("model.names"))
    except ValueError:
        facts.miss("model.encoder", "its pictures are of no size that its encoder could take")


def optimizer(name: str) -> str:
    """An optimizer's name as `declares` knows it; adamw, which most of them are, where it does not."""
    name = name.rpartition(".")[2].lower()
    if "8bit" in name:
        return "adam8bit"
    if "adam" in name:
        return "adamw_fused" if "fused" in name else "adamw"
    return next((known for part, known in _OPTIMIZERS.items() if part in name), "adamw")


def _unknown(facts: Facts) -> Any:
    return Unknown(NO_MODEL)


_OPTIMIZERS = {"adafactor": "adafactor", "lion": "lion", "muon": "momentum", "sgd": "sgd"}
