"""The world model as the trainer sees it: dataset, model, loss and metrics behind the `Job` of `train/job.py`.

The tools of the trainer that it uses (the gather, work beside a beating heart) are imported by the functions that
need them: tasks stand below the trainer and are read by others too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from runctl.config import RunConfig
from runctl.errors import DataError
from runctl.models import kernels
from runctl.record import RunDir
from runctl.tasks.worldmodel import baselines, canary, corrupt, dataset, losses, metrics, sources, warm_up
from runctl.tasks.worldmodel import encode as encoder
from runctl.tasks.worldmodel import encoding as encodings
from runctl.tasks.worldmodel.model import WorldModel

Report = Callable[[str], None]


class WorldModelJob:
    """Windows of K+1 frames: K that the model reads and the one that it predicts."""

    _lookup: baselines.Lookup | None = None

    def __init__(self, config: RunConfig, data: dataset.Dataset, device: torch.device, report: Report) -> None:
        from runctl.train.beside import Begun
        from runctl.train.gather import Gather
        from runctl.train.presence import seat

        self.config, self._report = config, report
        context = config.model.context_len
        training, held_out = dataset.split(data.games, config.data.train_split)
        self._windows = [dataset.Windows(data.games, games, context) for games in (training, held_out)]
        self.train_windows, self.validation_windows = map(len, self._windows)
        kind = ", simulated" if data.manifest["simulated"] else ""
        self.data_source = f"{data.path} ({len(data.games)} games, {len(data.records)} frames{kind})"
        self._record_bytes, self._layout = data.records.shape[1], data.layout
        self._startup_data = f"{'encoded' if config.data.encoded else 'simulated'} {len(data.records)}"
        self.identity = _identity(config, data)
        kernel = kernels.choose(
            config.training.kernel, device=device.type, precision=config.training.precision, frames=context
        )
        self.kernel = kernels.named(kernel)
        self.model = WorldModel(
            config.encoding,
            config.model,
            data.layout,
            delta_target=config.training.delta_target,
            recompute=config.training.activation_checkpointing,
            kernel=kernel,
        ).to(device)
        if not self.train_windows:
            return  # the loop says so
        spans = [(data.games[index].start, data.games[index].frames) for index in training]
        whole = dataset.Unmapped(data)
        self._counting = Begun(lambda: baselines.fit(whole, spans, data.layout, config.encoding))
        report("measuring the scales")
        self.model.measure(data.records, self._windows[0], context)
        report("opening the frames")
        self._gather = Gather(data.records, context + 1, device)
        self.ahead = self._ahead if self._gather.reads_ahead else None
        self.close = self._gather.close
        if kernel == "compiled" and seat().size == 1:
            seconds = warm_up.compile_blocks(self, device, self._record_bytes, report)
            self.kernel += f" in {seconds:.0f} s"

    def batch(self, windows: Tensor, validation: bool) -> Tensor:
        """records (B, K+1, R) uint8 on the device."""
        return self._gather(self._starts(windows, validation))

    def _ahead(self, windows: Tensor, validation: bool) -> None:
        self._gather.ahead(self._starts(windows, validation))

    def _starts(self, windows: Tensor, validation: bool) -> Tensor:
        return torch.from_numpy(self._windows[validation][windows.numpy()])

    def loss(
        self, batch: Tensor, *, generator: torch.Generator, progress_epochs: float, train: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        training = self.config.training
        rate = corrupt.rate(training, progress_epochs) if train else 0.0
        change = partial(
            corrupt.corrupt, features=self.model.features, training=training, rate=rate, generator=generator
        )
        every = train and training.targets == "all"
        predictions = self.model(batch, corrupt=change if rate else None, every=every)
        return losses.loss(predictions, batch, self.config.loss_weights, self.model.targets)

    def expected(self) -> dict[str, object]:
        return canary.expected(self.config, self._record_bytes, self.train_windows)

    def startup_data(self) -> str:
        return self._startup_data

    def strays(self, batch: Tensor) -> float:
        return canary.strays(self.model, batch, self._layout)

    def heads(self, batch: Tensor) -> list[canary.Head]:
        return canary.heads(self.model, batch, self.config.loss_weights)

    def metrics(self) -> _Metrics:
        if self._lookup is None:
            self._lookup = self._counting.result(lambda: self._report("counting the lookup baseline"))
        return self._measuring(self._lookup)

    def rehearsal(self) -> _Metrics:
        return self._measuring(self._lookup or baselines.empty(self.config.encoding))

    def _measuring(self, lookup: baselines.Lookup) -> _Metrics:
        config = self.config
        return _Metrics(metrics.Metrics(self.model, config.loss_weights, config.encoding, lookup))


class _Metrics:
    """The metrics of one validation; `update` runs the model."""

    def __init__(self, sums: metrics.Metrics) -> None:
        self._sums = sums

    def update(self, batch: Tensor) -> None:
        self._sums.update(self._sums.model(batch), batch)

    def sums(self) -> list[Tensor]:
        return self._sums.tensors()

    def compute(self) -> dict[str, float]:
        return self._sums.compute()


def build(config: RunConfig, *, project: Path, run: RunDir, device: torch.device, report: Report) -> WorldModelJob:
    """The job of this config; simulates and encodes games first where `data.simulate` asks for them.

    `report` tells how far it is and may raise to stop it. Raises DataError if the dataset is absent, damaged, or
    encoded otherwise than the config says."""
    data = dataset.open(_dataset(config, project, run, report))
    check_encoding(config, data)
    report("building the model")
    return WorldModelJob(config, data, device, report)


def check_encoding(config: RunConfig, data: dataset.Dataset) -> None:
    """Raise DataError naming each key in which the dataset was encoded otherwise than the config says."""
    wanted, stored = encodings.dataset_keys(config.encoding), data.manifest["encoding"]
    differing = [key for key in wanted if wanted[key] != stored.get(key)]
    if differing:
        told = ", ".join(f"{key} is {_said(stored.get(key))} there, {_said(wanted[key])} here" for key in differing)
        raise DataError(
            f"{data.path} was encoded otherwise than the config says: {told}",
            hint="encode it again with this config, or set these keys of `encoding` to what the dataset has",
        )
    if data.digest != encodings.dataset_digest(config.encoding):
        raise DataError(f"{data.path} was written in another record format", hint="encode it again")


def _dataset(config: RunConfig, project: Path, run: RunDir, report: Report) -> Path:
    """Where the encoded dataset lies, after it was made if it is to be simulated."""
    if config.data.encoded:
        return project / config.data.encoded
    if config.data.simulate is None:
        raise DataError("the config names no data", hint="set data.encoded, or data.simulate for simulated games")
    from runctl.train.beside import beside

    chosen = sources.simulated(config.data.simulate)
    so_far = ["simulating and encoding games"]

    def progress(done: int, total: int, frames: int) -> None:
        so_far[0] = f"simulating and encoding games: {done} of {total} batches, {frames} frames"

    def encode() -> Path:
        return encoder.encode(
            chosen,
            config.encoding,
            run.dataset,
            workers=config.training.threads,
            max_games=config.data.max_games,
            train_split=config.data.train_split,
            progress=progress,
        ).out

    return beside(encode, lambda: report(so_far[0]))


def _identity(config: RunConfig, data: dataset.Dataset) -> dict[str, str]:
    """What weights of this job belong to. Dropout and chunk size are not in it: they change no weight's meaning."""
    model = config.model.model_dump(exclude={"dropout", "chunk_size"})
    keys = {f"model.{key}": value for key, value in model.items()}
    keys |= {f"encoding.{key}": value for key, value in config.encoding.model_dump().items()}
    keys |= {"training.delta_target": config.training.delta_target, "data.train_split": config.data.train_split}
    return {key: _said(value) for key, value in keys.items()} | {"dataset": encodings.contents(data.manifest)}


def _said(value: object) -> str:
    """A value as YAML writes it."""
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
