"""The same training by transformers' Trainer, saving and reporting nothing but its log.

python loop_transformers.py FOLDER
"""

from __future__ import annotations

import sys
from typing import Any

import feed
from torch import nn
from transformers import Trainer, TrainingArguments


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = feed.model()

    def forward(self, batch: Any) -> dict[str, Any]:
        return {"loss": feed.error(self.net, batch)}


class Batches:
    """Batches as the Trainer takes them: named."""

    def __init__(self) -> None:
        self.feed = feed.Feed()

    def __iter__(self) -> Any:
        return ({"batch": batch} for batch in self.feed)


class Fed(Trainer):
    def get_train_dataloader(self) -> Any:
        return Batches()


def main(folder: str) -> None:
    arguments = TrainingArguments(
        output_dir=folder,
        max_steps=feed.STEPS,
        per_device_train_batch_size=feed.BATCH,
        learning_rate=feed.RATE,
        weight_decay=feed.DECAY,
        max_grad_norm=feed.CLIP,
        warmup_steps=feed.WARM_UP,
        lr_scheduler_type="cosine",
        optim="adamw_torch_fused",
        logging_steps=feed.LOG_EVERY,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    Fed(Net(), arguments).train()


if __name__ == "__main__":
    main(*sys.argv[1:])
