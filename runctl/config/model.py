"""`RunConfig`: the frozen form of a config, one class for each section of the YAML.

Every default stands here and nowhere else. Durations are seconds, sizes are bytes; both are written as people
write them (`5m`, `64GiB`). A value's meaning is its field's description: `runctl schema` prints them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from runctl.config.declares import Declares
from runctl.config.every import Every
from runctl.config.settings import BeforeValidator, Field, Settings, after, before
from runctl.units import parse_bytes, parse_duration

Duration = Annotated[float, BeforeValidator(parse_duration), Field(gt=0)]
Size = Annotated[int, BeforeValidator(parse_bytes)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Scale = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _preferred(value: Any) -> Any:
    """Several GPUs in order of preference, as a list or as one text."""
    if isinstance(value, list):
        if not value or not all(isinstance(one, str) and one.strip() and "," not in one for one in value):
            raise ValueError("must name GPUs, the one that is wanted most first: [H100!, A100-80GB:2]")
        return ", ".join(one.strip() for one in value)
    return value


Gpus = Annotated[str, BeforeValidator(_preferred)]
Width = Annotated[int, Field(ge=1, le=1_000_000)]


class Section(Settings, strict=True, allow_inf_nan=False, defer_build=True):
    """What every section has in common: nothing is converted, nothing unknown is let pass."""


class Simulate(Section):
    """Games from the built-in simulator, for runs that need no dataset."""

    games: Annotated[int, Field(ge=2, le=100_000)] = Field(48, description="how many games to simulate")
    seconds: Annotated[float, Field(ge=2, le=3600)] = Field(30.0, description="length of a game, at 60 frames/s")
    seed: int = Field(1, description="equal seeds give equal games")


class Data(Section):
    """Where the frames come from."""

    encoded: str | None = Field(None, description="folder of the encoded dataset, relative to the project")
    simulate: Simulate | None = Field(None, description="simulate and encode games within the run")
    train_split: Annotated[float, Field(gt=0, lt=1)] = Field(0.9, description="share of the games trained on")
    max_games: Annotated[int, Field(ge=0)] | None = Field(None, description="encode at most so many; 0 or null: all")


class Encoding(Section):
    """How raw games become tensors. The first four keys and the vocabularies decide what an encoded dataset
    holds (its digest); scales and embedding widths belong to the model that reads it."""

    state_age_as_embed: bool = Field(False, description="frames in the current action as an id, else as a number")
    projectiles: bool = Field(False, description="nearest item (dx, dy) and the number of active items")
    state_flags: bool = Field(False, description="the 40 state-flag bits")
    hitstun: bool = Field(False, description="frames of hitstun left")
    action_vocab: Width = 400
    jumps_vocab: Width = 8
    character_vocab: Width = 33
    l_cancel_vocab: Width = 3
    hurtbox_vocab: Width = 3
    ground_vocab: Width = 32
    last_attack_vocab: Width = 64
    state_age_embed_vocab: Width = 150
    stage_vocab: Width = 33
    action_embed_dim: Width = 32
    jumps_embed_dim: Width = 4
    character_embed_dim: Width = 8
    l_cancel_embed_dim: Width = 2
    hurtbox_embed_dim: Width = 2
    ground_embed_dim: Width = 4
    last_attack_embed_dim: Width = 8
    state_age_embed_dim: Width = 8
    stage_embed_dim: Width = 4
    xy_scale: Scale = 0.05
    percent_scale: Scale = 0.01
    shield_scale: Scale = 0.01
    velocity_scale: Scale = 0.05
    hitlag_scale: Scale = 0.1
    stocks_scale: Scale = 0.25
    combo_scale: Scale = 0.1
    hitstun_scale: Scale = 0.02
    state_age_scale: Scale = 0.01


class Model(Section):
    """The network: Mamba-2 blocks over a window of `context_len` frames."""

    arch: Literal["mamba2"] = "mamba2"
    d_model: Annotated[int, Field(ge=1, le=65_536)] = 256
    n_layers: Annotated[int, Field(ge=1, le=1_000)] = 2
    d_state: Annotated[int, Field(ge=1, le=4_096)] = 64
    headdim: Annotated[int, Field(ge=1, le=4_096)] = 64
    expand: Annotated[int, Field(ge=1, le=16)] = 2
    d_conv: Annotated[int, Field(ge=2, le=16)] = 4
    context_len: Annotated[int, Field(ge=2, le=1_000_000)] = Field(10, description="frames in a window (K)")
    chunk_size: Annotated[int, Field(ge=1, le=1_000_000)] = Field(10, description="frames in a chunk of the SSD scan")
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1


class Training(Section):
    """One optimizer step reads `batch_size × accumulation` windows. Steps and epochs are totals of the run."""

    epochs: Annotated[float, Field(gt=0, le=1e9)] | None = Field(None, description="passes over the data, in total")
    steps: Annotated[int, Field(ge=1, le=10**15)] | None = Field(None, description="optimizer steps, in total")
    batch_size: Annotated[int, Field(ge=1, le=10_000_000)] = Field(512, description="windows per forward pass")
    accumulation: Annotated[int, Field(ge=1, le=100_000)] = Field(1, description="forward passes per optimizer step")
    lr: Annotated[float, Field(gt=0)] = Field(3e-4, description="peak learning rate of AdamW")
    min_lr_ratio: Annotated[float, Field(ge=0, le=1)] = Field(0.1, description="final rate ÷ peak rate")
    warmup_steps: Annotated[int, Field(ge=0)] = Field(100, description="optimizer steps of linear warm-up")
    weight_decay: Weight = 1e-5
    grad_clip: Annotated[float, Field(ge=0)] = Field(1.0, description="clip the gradient's norm; 0: never")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16 means autocast; weights stay fp32")
    kernel: Literal["auto", "reference", "eager", "compiled", "mamba_ssm"] = Field(
        "auto", description="the code that computes the blocks; auto: the fastest that was measured"
    )
    activation_checkpointing: bool = Field(
        False, description="recompute each block in the backward pass: less memory, more arithmetic"
    )
    delta_target: Literal["delta", "residual"] = Field(
        "delta", description="predict a frame's change, or its difference from the last change"
    )
    targets: Literal["last", "all"] = Field(
        "last", description="predict the frame after a window, or after every frame in it: K times the signal"
    )
    scheduled_sampling: Annotated[float, Field(ge=0, le=1)] = Field(0.0, description="share of windows corrupted")
    ss_noise_scale: Weight = Field(0.1, description="standard deviation of the noise, in scaled units")
    ss_anneal_epochs: Annotated[float, Field(ge=0)] = Field(0.0, description="epochs until the full rate")
    ss_corrupt_frames: Annotated[int, Field(ge=1)] = Field(3, description="the last n frames of a window")
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = Field(
        None, description="of every random choice; null: 0"
    )
    threads: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="CPU threads of a process; null: all cores"
    )
    processes: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="that share each batch on one machine; null: one for each GPU of compute.gpu, else 1"
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    log_every: Annotated[int, Field(ge=1)] = Field(50, description="optimizer steps between metric rows")
    validate_every: Every = Field(Every(epochs=1), description="steps, a duration or epochs; also at the end")
    validation_windows: Annotated[int, Field(ge=1)] | None = Field(None, description="null: all held-out windows")

    @after
    def _one_length(self) -> Training:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give either epochs or steps, not both: each is the run's total")
        if self.processes is not None and self.processes > self.batch_size:
            raise ValueError(f"{self.processes} processes cannot share a batch of {self.batch_size}")
        return self


class LossWeights(Section):
    continuous: Weight = 1.0
    velocity: Weight = 0.5
    dynamics: Weight = 0.5
    binary: Weight = 0.5
    action: Weight = 2.0
    jumps: Weight = 0.5
    l_cancel: Weight = 0.3
    hurtbox: Weight = 0.3
    ground: Weight = 0.3
    last_attack: Weight = 0.3


class Checkpoint(Section):
    every: Every | None = Field(Every(seconds=600), description="`5m`, `500 steps`, or `never`")
    keep_last: Annotated[int, Field(ge=1)] = 3
    keep_best: Annotated[int, Field(ge=0)] = 1
    metric: str = "val/loss"
    mode: Literal["min", "max"] = "min"

    @before
    @classmethod
    def _never(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("every") in ("never", 0, False):
            return {**data, "every": None}
        return data


class Compute(Section):
    backend: str = Field("local", description="where the run executes")
    gpu: Gpus | None = Field(
        None,
        description="NAME or NAME:COUNT of the catalogue (`runctl gpus`), or a list in order of preference; null: CPU",
    )
    cpu: Annotated[float, Field(gt=0)] | None = Field(None, description="CPU cores to ask for")
    memory: Size | None = Field(None, description="host memory to ask for")
    disk: Size | None = Field(None, description="disk to ask for")
    timeout: Duration | None = Field(None, description="longest time of one attempt")
    retries: Annotated[int, Field(ge=0, le=100)] = 0
    start_within: Duration | None = Field(
        None, description="silence before the first step that means a hang; null: 30m"
    )
    hang_after: Duration | None = Field(
        None, description="silence after it that means a hang; null: 10m, of task: command 30m"
    )
    grace: Duration | None = Field(
        None, description="from the request to stop to the kill, time to save; null: 60s, or what the provider gives"
    )
    after_out_of_memory: Literal["end", "halve_batch"] = Field(
        "end", description="or go on with half the batch and twice the accumulation: the same windows in every step"
    )


class Budget(Section):
    max_cost_usd: Weight | None = None
    max_hours: Scale | None = None


class Guard(Section):
    """A condition that flags or ends a running run."""

    when: str
    after: str | None = None
    do: Literal["nothing", "note", "notify", "checkpoint", "stop", "kill"] = "stop"
    why: str | None = None


class Tracking(Section):
    wandb: Literal["disabled", "offline", "online"] = "disabled"
    project: str | None = None
    entity: str | None = None


class Progress(Section):
    """How far a program is, read from what it prints."""

    patterns: Annotated[list[str], Field(min_length=1)] = Field(
        description="auto, tqdm, key=value, json, hf, or a line as it is printed: step {step}/{total_steps} loss {loss}"
    )

    @before
    @classmethod
    def _listed(cls, data: Any) -> Any:
        return {"patterns": [data] if isinstance(data, str) else data} if isinstance(data, str | list) else data


class SavedAt(Section):
    """Where a program saves its checkpoints."""

    path: str = Field(description="files or folders below its working folder, or below {run_dir}/: out/ckpt-{step}.pt")
    done: str | None = Field(
        None, description="a marker that says one is whole: a file of this name in a folder, or FILE and this suffix"
    )

    @before
    @classmethod
    def _path(cls, data: Any) -> Any:
        return {"path": data} if isinstance(data, str) else data


class Command(Section):
    """A program of the user's own, for `task: command`; never a shell string."""

    argv: Annotated[list[str], Field(min_length=1)]
    when_resuming: list[str] = Field(
        default_factory=list, description="further arguments once there is a checkpoint: [--resume, {resume}]"
    )
    cwd: str | None = Field(None, description="working folder, relative to the project")
    env: dict[str, str] = Field(default_factory=dict)
    progress: Progress | None = Field(None, description="patterns that read step, loss and metrics from its output")
    checkpoints: SavedAt | None = Field(None, description="where it saves: watched, and resumed from")


class RunConfig(Section):
    """One experiment."""

    name: str = Field(description="the run's name; a config without one is named after its file")
    task: str = "worldmodel"
    data: Data = Field(default_factory=Data)
    encoding: Encoding = Field(default_factory=Encoding)
    model: Model = Field(default_factory=Model)
    training: Training = Field(default_factory=Training)
    loss_weights: LossWeights = Field(default_factory=LossWeights)
    command: Command | None = None
    declares: Declares | None = Field(None, description="the model of `task: command`, for estimates")
    checkpoint: Checkpoint = Field(default_factory=Checkpoint)
    compute: Compute = Field(default_factory=Compute)
    budget: Budget = Field(default_factory=Budget)
    guards: list[Guard] = Field(default_factory=list)
    tracking: Tracking = Field(default_factory=Tracking)
    card: str | None = Field(None, description="path of the run card")
