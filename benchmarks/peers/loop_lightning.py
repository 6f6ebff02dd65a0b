"""The same training by Lightning's Trainer: `stripped` of what can be turned off, or with its `defaults`.

python loop_lightning.py stripped|defaults FOLDER
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import feed
import lightning
import torch
from lightning.pytorch.loggers import CSVLogger

warnings.simplefilter("ignore")


class Module(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = feed.model()

    def training_step(self, batch: Any, number: int) -> Any:
        loss = feed.error(self.net, batch)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=feed.RATE, weight_decay=feed.DECAY, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, feed.share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def main(way: str, folder: str) -> None:
    options: dict[str, Any] = {"max_steps": feed.STEPS, "accelerator": "cpu", "devices": 1, "default_root_dir": folder}
    if way == "stripped":
        options |= {
            "logger": CSVLogger(folder, flush_logs_every_n_steps=feed.LOG_EVERY),
            "log_every_n_steps": feed.LOG_EVERY,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        }
    # Lightning refuses to clip before a fused optimizer only under mixed precision, which is not used here.
    trainer = lightning.Trainer(gradient_clip_val=feed.CLIP, **options)
    trainer.fit(Module(), train_dataloaders=feed.Feed())


if __name__ == "__main__":
    main(*sys.argv[1:])
